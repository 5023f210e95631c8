"""ConvMixer: patches that are mixed by convolutions alone, and keep their places in the image."""

import keras

from kerasformer.layers.activations import get_activation, serialize_activation
from kerasformer.layers.sizes import check_sizes
from kerasformer.models.trunks import TrunkClassifier
from kerasformer.models.vit_variants import published


def _sizes(hidden_dim, num_layers, kernel_size, patch_size, activation="gelu"):
    return {
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "kernel_size": kernel_size,
        "patch_size": patch_size,
        "activation": activation,
    }


@keras.saving.register_keras_serializable(package="kerasformer")
class ConvMixer(TrunkClassifier):
    """Classifies images by patches that large depthwise convolutions mix.

    A block adds a depthwise convolution to its inputs, which mixes places, and then mixes features
    at each place; behind each convolution come the activation and batch normalisation. As nothing
    but the middle is a residual and nothing is a sequence, it is no `Encoder`.

    Args:
        image_size: int or pair of ints `(height, width)` of the images.
        hidden_dim: int. Number of features.
        num_layers: int. Number of blocks.
        kernel_size: int. Size of the depthwise convolutions.
        patch_size: int. Size of a patch.
        num_classes: int or `None`. Number of classes; `None` or 0 for features.
        activation: str or callable. `"gelu"` (exact), `"relu"`, ...
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.

    Returns:
        float32 logits `(B, num_classes)`, or features `(B, hidden_dim)` without a head.

    Example:

    >>> from keras import ops
    >>> model = ConvMixer.from_variant("Lite-4/2", image_size=16, num_classes=10)
    >>> tuple(model(ops.ones((1, 16, 16, 3))).shape)
    (1, 10)

    References:
        - [Trockman and Kolter, 2022](https://arxiv.org/abs/2201.09792). The published 768/32 has
          ReLU and not GELU.
    """

    # Named by features and blocks; "256/8" is that for CIFAR-10. "Lite-4" of 4 blocks is not
    # theirs: for small pictures and CPUs, named by its patch.
    VARIANTS = {
        "1536/20": _sizes(1536, 20, 9, 7),
        "768/32": _sizes(768, 32, 7, 7, "relu"),
        "1024/20": _sizes(1024, 20, 9, 14),
        "256/8": _sizes(256, 8, 9, 1),
        "Lite-4/2": _sizes(128, 4, 5, 2),
        "Lite-4/14": _sizes(128, 4, 5, 14),
    }

    def __init__(
        self,
        image_size,
        hidden_dim,
        num_layers,
        kernel_size,
        patch_size,
        num_classes=None,
        activation="gelu",
        **kwargs,
    ):
        super().__init__(image_size, num_classes, **kwargs)
        check_sizes(
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            kernel_size=kernel_size,
            patch_size=patch_size,
        )
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        self.patch_size = patch_size
        self.activation = activation
        get_activation(activation)  # An error of the model, and not of its images, when built.

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. Features and blocks, such as `"256/8"`; a key of `VARIANTS`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of the constructor.

        Returns:
            A `ConvMixer`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = published(cls.VARIANTS, variant) | overrides
        return cls(image_size, num_classes=num_classes, **arguments)

    def _make_trunk(self, images):
        activate, dtype = get_activation(self.activation), self.dtype_policy

        def finish(x, name):
            x = keras.layers.Activation(activate, name=f"{name}_activation", dtype=dtype)(x)
            return keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, name=f"{name}_norm", dtype=dtype
            )(x)

        def mix_features(x, size, name):
            x = keras.layers.Conv2D(self.hidden_dim, size, size, name=name, dtype=dtype)(x)
            return finish(x, name)

        x = mix_features(images, self.patch_size, "patches")
        for index in range(self.num_layers):
            name = f"places_{index}"
            mixed = keras.layers.DepthwiseConv2D(
                self.kernel_size, padding="same", name=name, dtype=dtype
            )(x)
            x = keras.layers.Add(name=f"{name}_sum", dtype=dtype)([x, finish(mixed, name)])
            x = mix_features(x, 1, f"features_{index}")
        return keras.layers.GlobalAveragePooling2D(name="pooling", dtype=dtype)(x)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_layers": self.num_layers,
            "kernel_size": self.kernel_size,
            "patch_size": self.patch_size,
            "activation": serialize_activation(self.activation),
        }
