"""GC ViT: windows of a pyramid that are asked their own queries and those of the whole image.

Letters: `B` batch, `T` positions of the last stage.
"""

from numbers import Integral

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite, child_seed
from kerasformer.layers.embeddings.stems import downsample
from kerasformer.layers.masks import fits
from kerasformer.layers.pooling import MeanPooling
from kerasformer.layers.sizes import check_sizes, pair
from kerasformer.models.gcvit_parts import EPSILON, Downsampling, GridStem, Stage
from kerasformer.models.vit_parts import make_head
from kerasformer.models.vit_variants import variant_arguments


def _sizes(num_layers, hidden_dim, num_heads, intermediate_ratio, **others):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads,
        "intermediate_ratio": intermediate_ratio,
        **others,
    }


# A stage has a window of this part of its rows and columns: 7, 7, 14 and 7 at 224 pixels.
WINDOWS = (8, 4, 1, 1)
SCALED = {"layer_scale": 1e-5}
# "Lite" is not theirs: for small pictures and CPUs.
VARIANTS = {
    "xx-tiny": _sizes((2, 2, 6, 2), 64, 2, 3.0, stochastic_depth=0.2),
    "x-tiny": _sizes((3, 4, 6, 5), 64, 2, 3.0, stochastic_depth=0.2),
    "tiny": _sizes((3, 4, 19, 5), 64, 2, 3.0, stochastic_depth=0.2),
    "small": _sizes((3, 4, 19, 5), 96, 3, 2.0, stochastic_depth=0.3, **SCALED),
    "base": _sizes((3, 4, 19, 5), 128, 4, 2.0, stochastic_depth=0.5, **SCALED),
    "Lite": _sizes((2, 2, 2), 48, 2, 2.0, stem_strides=(2, 1), window_size=(4, 4, 4)),
}


@keras.saving.register_keras_serializable(package="kerasformer")
class GCViT(Composite, keras.Model):
    """Classifies images by attention inside of windows, in stages of ever smaller grids.

    The stem makes a grid of the image. In each stage the blocks are by turns local, where each
    window asks its own queries, and global, where all windows ask the same queries, which
    convolutions made of the whole grid. Between stages the grid is halved and its channels are
    doubled. The head reads the mean of the last grid.

    Args:
        image_size: int or pair of ints `(height, width)`; images of another size are refused,
            because windows and their biases are made for one.
        num_layers: tuple of ints, the number of blocks of each stage.
        hidden_dim: int. Channels of the first stage, doubled in each next one.
        num_heads: int. Heads of the first stage, doubled in each next one.
        num_classes: int or `None`. Number of classes, for a linear head that starts at zero;
            `None` or 0 for features.
        intermediate_ratio: float. Inner size of the feed-forward layers, in channels of the stage.
        window_size: tuple of ints or of pairs `(rows, columns)`, the windows of each stage, which
            are no larger than its grid. `None` for an eighth, a fourth, all and all of the grid.
        stem_strides: pair of ints, the steps of the stem's two convolutions. A smaller product than
            the published 4 suits small images.
        dropout: float. Rate after each sublayer.
        attention_dropout: float. Rate of the attention probabilities.
        stochastic_depth: float. Rate at which the last block leaves sublayers out; the rates of the
            others grow linearly from 0 in the first.
        layer_scale: float or `None`. Start of learned factors of each sublayer; `None` for none.
        activation: str or callable. Activation of the feed-forward layers.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        float32 logits `(B, num_classes)`, or features without a head. With
        `return_attention_scores=True` a tuple of it and a list with the probabilities
        `(B, heads, positions, positions)` of each block, most of which are 0, because they are
        those of windows. Their grids differ, so that there is no rollout of them.

    Masking: produces no mask; every position is real.

    Raises:
        ValueError: when a size is below 1, windows do not divide their grids, or for an unknown
            variant.

    Example:

    >>> model = GCViT.from_variant("Lite", image_size=16, num_classes=10)
    >>> tuple(model(ops.ones((1, 16, 16, 3))).shape)
    (1, 10)

    References:
        - [Hatamizadeh et al., 2022](https://arxiv.org/abs/2206.09959)
        - [its code](https://github.com/NVlabs/GCVit), which decides
    """

    VARIANTS = VARIANTS

    # The scores of stages have different sizes, so that no picture of all of them can be made.
    has_attention_scores = False

    def __init__(
        self,
        image_size,
        num_layers,
        hidden_dim,
        num_heads,
        num_classes=None,
        intermediate_ratio=3.0,
        window_size=None,
        stem_strides=(2, 2),
        dropout=0.0,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        layer_scale=None,
        activation="gelu",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.image_size = image_size
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.num_classes = num_classes
        self.intermediate_ratio = intermediate_ratio
        self.window_size = window_size
        self.stem_strides = stem_strides
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.activation = activation
        self.seed = seed
        check_sizes(hidden_dim=hidden_dim, num_heads=num_heads)
        are_counts = isinstance(num_layers, (list, tuple)) and len(num_layers) > 0
        if not are_counts or not all(isinstance(x, Integral) and x > 0 for x in num_layers):
            raise ValueError(
                "Expected num_layers to be a positive integer for each stage, received "
                f"num_layers={num_layers!r}."
            )
        policy = self.dtype_policy
        strides = pair("stem_strides", stem_strides)
        self._grids = [downsample(pair("image_size", image_size), strides)]
        for _ in num_layers[1:]:
            self._grids.append(downsample(self._grids[-1], [2]))
        self.stem = GridStem(hidden_dim, strides, name="stem", dtype=policy)
        self.dropout_layer = keras.layers.Dropout(
            dropout, seed=child_seed(seed, "dropout_layer"), name="dropout_layer", dtype=policy
        )
        self.downsamplings = [
            Downsampling(hidden_dim * 2**index, name=f"downsampling_{index}", dtype=policy)
            for index in range(1, len(num_layers))
        ]
        self._make_stages()
        self.final_norm = keras.layers.LayerNormalization(
            epsilon=EPSILON, name="final_norm", dtype=policy
        )
        self.pooling = MeanPooling(name="pooling", dtype=policy)
        self.head = make_head(num_classes, "head", policy) if num_classes else None

    def _make_stages(self):
        total, rates = sum(self.num_layers), []
        for index in range(total):
            rates.append(self.stochastic_depth * index / max(total - 1, 1))
        block = {"dropout": self.dropout, "layer_scale": self.layer_scale}
        self.stages = []
        for index, (count, window) in enumerate(zip(self.num_layers, self._windows(), strict=True)):
            hidden_dim = self.hidden_dim * 2**index
            self.stages.append(
                Stage(
                    count,
                    hidden_dim,
                    self.num_heads * 2**index,
                    self._grids[index],
                    window,
                    int(hidden_dim * self.intermediate_ratio),
                    stochastic_depth=[rates.pop(0) for _ in range(count)],
                    attention_dropout=self.attention_dropout,
                    seed=child_seed(self.seed, f"stage_{index}"),
                    block={"activation": self.activation, **block},
                    name=f"stage_{index}",
                    dtype=self.dtype_policy,
                )
            )

    def _windows(self):
        """Lists the windows of the stages as pairs, none larger than its grid."""
        windows = self.window_size
        if windows is None:
            parts = (*WINDOWS, *[1] * len(self._grids))
            grids = zip(self._grids, parts, strict=False)
            windows = [tuple(max(side // part, 1) for side in grid) for grid, part in grids]
        if len(windows) != len(self._grids):
            raise ValueError(
                "Expected a window_size for each stage, received "
                f"window_size={self.window_size} and num_layers={self.num_layers}."
            )
        windows = [pair("window_size", window) for window in windows]
        return [tuple(map(min, *sizes)) for sizes in zip(windows, self._grids, strict=True)]

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. `"xx-tiny"`, `"x-tiny"`, `"tiny"`, `"small"`, `"base"`, or `"Lite"` for
                small images.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of the constructor; an int as `num_layers` is that of each
                stage.

        Returns:
            A `GCViT`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        if isinstance(arguments["num_layers"], int):
            stages = len(cls.VARIANTS[variant]["num_layers"])
            arguments["num_layers"] = (arguments["num_layers"],) * stages
        return cls(image_size, num_classes=num_classes, **arguments)

    def grid_size(self):
        """Returns `(rows, columns)` of the last stage, which `encode` gives as a sequence."""
        return self._grids[-1]

    def build(self, inputs_shape=None):
        shape = inputs_shape or (None, *pair("image_size", self.image_size), 3)
        self.stem.build(shape)
        for index, stage in enumerate(self.stages):
            if index:
                below = (None, None, None, self.stages[index - 1].hidden_dim)
                self.downsamplings[index - 1].build(below)
            stage.build((None, *self._grids[index], stage.hidden_dim))
        features = self.stages[-1].hidden_dim
        self.final_norm.build((None, None, features))
        if self.head is not None:
            self.head.build((None, features))

    def call(self, inputs, training=None, return_attention_scores=False):
        x = self.encode(inputs, training, return_attention_scores)
        x, scores = x if return_attention_scores else (x, None)
        x = self._pool(x)
        outputs = x if self.head is None else self.head(x)
        return (outputs, scores) if return_attention_scores else outputs

    def encode(self, images, training=None, return_attention_scores=False):
        """Turns images into the sequence whose mean the head reads.

        Args:
            images: float tensor `(B, height, width, channels)` of `image_size`.
            training: bool or `None`. Whether dropout is active.
            return_attention_scores: bool. Whether to return `(sequence, scores)`.

        Returns:
            Float tensor `(B, T, features)`, and a list of scores where asked for.

        Raises:
            ValueError: for images of another size.
        """
        size = pair("image_size", self.image_size)
        if not fits(images.shape[1:3], size):
            raise ValueError(
                f"Expected images of image_size={size}, for which windows are made, received "
                f"shape={tuple(images.shape)}."
            )
        if not self.built:  # when called before the model itself
            self.build(tuple(images.shape))
        options = {"return_attention_scores": True} if return_attention_scores else {}
        x, all_scores = self.dropout_layer(self.stem(images), training=training), []
        for index, stage in enumerate(self.stages):
            x = self.downsamplings[index - 1](x) if index else x
            x = stage(x, training=training, **options)
            if return_attention_scores:
                x, scores = x
                all_scores += scores
        batch, rows, columns, features = ops.shape(x)
        x = self.final_norm(ops.reshape(x, (batch, rows * columns, features)))
        return (x, all_scores) if return_attention_scores else x

    def features(self, images):
        """Describes each image by the vector that the head reads.

        Args:
            images: float tensor `(B, height, width, channels)` of `image_size`.

        Returns:
            float32 tensor `(B, features)`.
        """
        return self._pool(self.encode(images, training=False))

    def _pool(self, x):
        x = self.pooling(x)
        return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))

    def compute_output_spec(self, inputs, **kwargs):
        # Traced, because the logits are float32 under any dtype policy.
        if None in inputs.shape[1:3]:
            shape = (inputs.shape[0], *pair("image_size", self.image_size), inputs.shape[-1])
            inputs = keras.KerasTensor(shape, dtype=inputs.dtype)
        return keras.Operation.compute_output_spec(self, inputs, **kwargs)

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], self.num_classes or self.stages[-1].hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "num_classes": self.num_classes,
            "intermediate_ratio": self.intermediate_ratio,
            "window_size": self.window_size,
            "stem_strides": self.stem_strides,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "activation": serialize_activation(self.activation),
            "seed": self.seed,
        }
