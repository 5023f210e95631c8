"""Convolutional networks from 1998 to 2016, for comparison and as teachers.

Each is a function from images to the vector that the last layer reads; `ConvolutionalNetwork` makes
a model of it. Such a function gets `apply(layer_class, x, *arguments, **arguments)`, which makes a
layer of the model's dtype and calls it with a tensor.
"""

import functools

import keras
from keras import ops

from kerasformer.models.trunks import TrunkClassifier
from kerasformer.models.vit_variants import published

layers = keras.layers
KERNELS = {"kernel_initializer": "he_normal"}


class LocalResponseNormalization(layers.Layer):
    """Divides each feature by a power of the sum of squares of five neighbouring features.

    The divisor is `(1 + 1e-4 / 5 * sum) ** 0.75`, as in cuda-convnet, the code that AlexNet's
    author published, and in Caffe, for which GoogLeNet's authors published it. The paper of AlexNet
    writes `(2 + 1e-4 * sum) ** 0.75`.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.3
    """

    def call(self, inputs):
        squares = ops.pad(ops.square(ops.cast(inputs, "float32")), [(0, 0)] * 3 + [(2, 2)])
        width = inputs.shape[-1]
        total = sum(squares[..., start : start + width] for start in range(5))
        return inputs * ops.cast((1.0 + 1e-4 / 5 * total) ** -0.75, inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


def _lenet5(x, apply):
    """Applies LeNet-5 without its last layer, in its usual form.

    Pools are means, each map of the second convolution reads all of the first, and the last layer
    is linear.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791)
    """
    for index, filters in enumerate((6, 16)):
        name = f"convolution_{index}"
        x = apply(layers.Conv2D, x, filters, 5, activation="tanh", name=name)
        x = apply(layers.AveragePooling2D, x, 2, name=f"pool_{index}")
    x = apply(layers.Flatten, x, name="flatten")
    for index, units in enumerate((120, 84)):
        x = apply(layers.Dense, x, units, activation="tanh", name=f"dense_{index}")
    return x


def _alexnet(x, apply):
    """Applies AlexNet without its last layer; its images are of 227 x 227 pixels.

    Three convolutions read each half of the features for itself, as in the paper.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824)
    """

    def convolve(x, filters, size, index, **options):
        options |= {"activation": "relu", **KERNELS}
        return apply(layers.Conv2D, x, filters, size, name=f"convolution_{index}", **options)

    def convolve_halves(x, filters, size, index):
        halves = ops.split(x, 2, axis=-1)
        names = (f"{index}_a", f"{index}_b")
        made = [
            convolve(half, filters // 2, size, name, padding="same")
            for half, name in zip(halves, names, strict=True)
        ]
        return apply(layers.Concatenate, made, name=f"halves_{index}")

    def shrink(x, index):
        return apply(layers.MaxPooling2D, x, 3, 2, name=f"pool_{index}")

    x = convolve(x, 96, 11, 0, strides=4)
    x = shrink(apply(LocalResponseNormalization, x, name="norm_0"), 0)
    x = convolve_halves(x, 256, 5, 1)
    x = shrink(apply(LocalResponseNormalization, x, name="norm_1"), 1)
    x = convolve(x, 384, 3, 2, padding="same")
    x = convolve_halves(x, 384, 3, 3)
    x = shrink(convolve_halves(x, 256, 3, 4), 2)
    x = apply(layers.Flatten, x, name="flatten")
    for index in range(2):
        x = apply(layers.Dense, x, 4096, activation="relu", name=f"dense_{index}", **KERNELS)
        x = apply(layers.Dropout, x, 0.5, name=f"dropout_{index}")
    return x


# Szegedy et al. 2015, table 1. Of each block the filters of 1x1, of 1x1 and then 3x3, of 1x1 and
# then 5x5, and of 1x1 behind a pool.
INCEPTIONS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def _googlenet(x, apply):
    """Applies GoogLeNet without its last layer, and without the two auxiliary classifiers.

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842)
    """

    def convolve(x, filters, size, name, strides=1):
        options = {"padding": "same", "activation": "relu", **KERNELS}
        return apply(layers.Conv2D, x, filters, size, strides, name=name, **options)

    def pool(x, strides, name):
        return apply(layers.MaxPooling2D, x, 3, strides, padding="same", name=name)

    def inception(x, sizes, name):
        one, reduce_three, three, reduce_five, five, pooled = sizes
        branches = [
            convolve(x, one, 1, f"{name}_1"),
            convolve(convolve(x, reduce_three, 1, f"{name}_3_reduce"), three, 3, f"{name}_3"),
            convolve(convolve(x, reduce_five, 1, f"{name}_5_reduce"), five, 5, f"{name}_5"),
            convolve(pool(x, 1, f"{name}_pool"), pooled, 1, f"{name}_pool_1"),
        ]
        return apply(layers.Concatenate, branches, name=f"{name}_concatenate")

    x = pool(convolve(x, 64, 7, "convolution_0", strides=2), 2, "pool_0")
    x = apply(LocalResponseNormalization, x, name="norm_0")
    x = convolve(convolve(x, 64, 1, "convolution_1_reduce"), 192, 3, "convolution_1")
    x = apply(LocalResponseNormalization, x, name="norm_1")
    for stage, blocks in enumerate(INCEPTIONS):
        x = pool(x, 2, f"pool_{stage + 1}")
        for index, sizes in enumerate(blocks):
            x = inception(x, sizes, f"inception_{stage + 3}{'abcde'[index]}")
    x = apply(layers.GlobalAveragePooling2D, x, name="pooling")
    return apply(layers.Dropout, x, 0.4, name="dropout")


def _cifar_resnet(x, apply, num_layers):
    """Applies a ResNet for CIFAR-10 without its last layer.

    Three stages of 16, 32 and 64 features have `(num_layers - 2) / 6` blocks each. A shortcut to
    fewer pixels and more features has no weights: it takes every second pixel and adds zeros.

    References:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.2
    """

    def convolve(x, filters, strides, name):
        options = {"padding": "same", "use_bias": False, **KERNELS}
        x = apply(layers.Conv2D, x, filters, 3, strides, name=name, **options)
        options = {"momentum": 0.9, "epsilon": 1e-5, "name": f"{name}_norm"}
        return apply(layers.BatchNormalization, x, **options)

    def activate(x, name):
        return apply(layers.Activation, x, "relu", name=f"{name}_activation")

    x = activate(convolve(x, 16, 1, "convolution"), "convolution")
    for stage, filters in enumerate((16, 32, 64)):
        for index in range((num_layers - 2) // 6):
            name, strides = f"stage_{stage}_{index}", 2 if stage and not index else 1
            shortcut = x
            if strides == 2:
                shortcut = ops.pad(x[:, ::2, ::2], [(0, 0)] * 3 + [(filters // 4, filters // 4)])
            x = activate(convolve(x, filters, strides, f"{name}_a"), f"{name}_a")
            x = convolve(x, filters, 1, f"{name}_b")
            x = activate(apply(layers.Add, [x, shortcut], name=f"{name}_sum"), name)
    return apply(layers.GlobalAveragePooling2D, x, name="pooling")


@keras.saving.register_keras_serializable(package="kerasformer")
class ConvolutionalNetwork(TrunkClassifier):
    """Classifies images by a convolutional network of one of the `VARIANTS`.

    Args:
        variant: str. `"LeNet-5"`, `"AlexNet"`, `"GoogLeNet"`, or `"ResNet-20"`, ... of CIFAR-10.
        image_size: int or pair of ints `(height, width)` of the images.
        num_classes: int or `None`. Number of classes; `None` or 0 for features.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.

    Returns:
        float32 logits `(B, num_classes)`, or features `(B, features)` without a head.

    Raises:
        ValueError: for an unknown variant, or images that are too small for it.

    Example:

    >>> model = ConvolutionalNetwork("ResNet-20", image_size=8, num_classes=10)
    >>> tuple(model(ops.ones((1, 8, 8, 3))).shape)
    (1, 10)
    """

    VARIANTS = {
        "LeNet-5": _lenet5,
        "AlexNet": _alexnet,
        "GoogLeNet": _googlenet,
        **{
            f"ResNet-{depth}": functools.partial(_cifar_resnet, num_layers=depth)
            for depth in (20, 32, 44, 56, 110)
        },
    }

    def __init__(self, variant, image_size, num_classes=None, **kwargs):
        super().__init__(image_size, num_classes, **kwargs)
        published(self.VARIANTS, variant)
        self.variant = variant

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a network: the constructor, under the name that all models have it."""
        return cls(variant, image_size, num_classes, **overrides)

    def _make_trunk(self, images):
        def apply(layer_class, x, *arguments, **options):
            return layer_class(*arguments, dtype=self.dtype_policy, **options)(x)

        return self.VARIANTS[self.variant](images, apply)

    def get_config(self):
        return {**super().get_config(), "variant": self.variant}
