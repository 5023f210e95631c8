"""The Vision Transformer and its small-data and distilled relatives, for images of any size.

Letters: `B` batch, `P` patches, `T` length of the sequence (prefix tokens and patches), `N` heads.
"""

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import deserialize_child, serialize_child
from kerasformer.layers.embeddings.patches import PatchEmbedding, pair
from kerasformer.layers.embeddings.prefix import PrefixTokens
from kerasformer.layers.pooling import AttentionPooling, SequencePooling
from kerasformer.layers.positions.grids import (
    LearnedGridPositions,
    SinusoidalGridPositions,
    grid_positions,
)
from kerasformer.layers.stacks import Encoder
from kerasformer.models.vit_variants import variant_arguments

POOLS = ("class", "mean", "sequence", "attention")
POSITIONS = ("learned", "sinusoidal", "rotary", "none")


@keras.saving.register_keras_serializable(package="kerasformer")
class VisionTransformer(keras.Model):
    """Tells the class of an image, or describes the image by a vector.

    A front door turns the image into a sequence; then come prefix tokens, positions, the
    `Encoder`, a pool that makes one vector of the sequence, and a linear head that starts at zero.
    Images of other sizes are taken too: positions are resized, at run time and when weights load.

    Args:
        image_size: int or pair of ints `(height, width)`, for which positions are learned.
        num_layers: int. Blocks of the encoder.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of attention heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        num_classes: int or `None`. Number of classes; `None` or 0 for features instead.
        patch_size: int or pair of ints. Size of a patch, when there is no `stem`.
        stem: Keras layer from images `(B, height, width, channels)` to a sequence
            `(B, P, hidden_dim)`, with a method `grid_size` as `PatchEmbedding` has; `None` means
            a `PatchEmbedding` of `patch_size`.
        pool: str. `"class"` (a token before the patches), `"mean"`, `"sequence"` (of CCT) or
            `"attention"` (with one learned query).
        positions: str. `"learned"`, `"sinusoidal"`, `"rotary"` or `"none"`.
        distillation: bool. Whether a second token has a second head, to learn from a teacher.
        dropout: float. Rate after the positions and each sublayer.
        attention_dropout: float. Rate of the attention probabilities.
        stochastic_depth: float. Rate at which the last block leaves sublayers out, see `Encoder`.
        layer_scale: float or `None`. Start of learned factors of each sublayer; `None` for none.
        activation: str or callable. Activation of the feed-forward layers.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.
        return_both_heads: bool. Whether to return the class head and the distillation head apart,
            as training with a teacher needs them, and not their mean.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        float32 logits `(B, num_classes)`, or features `(B, hidden_dim)` without classes; with
        `return_both_heads=True` a tuple of two of them. With `return_attention_scores=True` a
        tuple of all this and a list of each block's probabilities `(B, N, T, T)`, of which
        `kerasformer.explain` makes pictures.

    Masking: produces no mask; every patch is real.

    Raises:
        ValueError: when arguments contradict each other, or for an unknown variant.

    Example:

    >>> model = VisionTransformer.from_variant("CCT-2/3x2", image_size=32, num_classes=10)
    >>> tuple(model(ops.ones((1, 32, 32, 3))).shape)
    (1, 10)

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929)
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), `distillation`
        - [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), ViT-Lite, CVT and CCT
    """

    def __init__(
        self,
        image_size,
        num_layers,
        hidden_dim,
        num_heads,
        intermediate_dim,
        num_classes,
        patch_size=None,
        stem=None,
        pool="class",
        positions="learned",
        distillation=False,
        dropout=0.0,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        layer_scale=None,
        activation="gelu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.image_size = image_size
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.num_classes = num_classes
        self.patch_size = patch_size
        self.stem = stem
        self.pool = pool
        self.positions = positions
        self.distillation = distillation
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.activation = activation
        self._check_arguments()
        self.num_prefix_tokens = 0 if pool != "class" else 2 if distillation else 1
        self._make_front()
        self._make_encoder()
        self._make_heads()

    def _check_arguments(self):
        for name, choices in (("pool", POOLS), ("positions", POSITIONS)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"Expected {name} to be one of {choices}, received {name}={value!r}."
                )
        if (self.patch_size is None) == (self.stem is None):
            raise ValueError(
                "Expected either a patch_size or a stem, received "
                f"patch_size={self.patch_size} and stem={self.stem}."
            )
        if self.distillation and self.pool != "class":
            raise ValueError(
                f"Expected pool='class' with distillation=True, received pool={self.pool!r}."
            )

    def _make_front(self):
        policy = self.dtype_policy
        self.patch_embedding = self.prefix_tokens = self.grid_positions = None
        if self.stem is None:
            self.patch_embedding = PatchEmbedding(
                self.hidden_dim, self.patch_size, name="patch_embedding", dtype=policy
            )
        count = self.num_prefix_tokens
        if count:
            self.prefix_tokens = PrefixTokens(count, name="prefix_tokens", dtype=policy)
        kinds = {"learned": LearnedGridPositions, "sinusoidal": SinusoidalGridPositions}
        if self.positions in kinds:
            self.grid_positions = kinds[self.positions](
                self.grid_size(), count, name="grid_positions", dtype=policy
            )
        self.dropout_layer = keras.layers.Dropout(self.dropout, name="dropout_layer", dtype=policy)

    def _make_encoder(self):
        self.encoder = Encoder(
            self.num_layers,
            self.hidden_dim,
            self.num_heads,
            self.intermediate_dim,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation=self.activation,
            use_rotary=self.positions == "rotary",
            stochastic_depth=self.stochastic_depth,
            layer_scale=self.layer_scale,
            name="encoder",
            dtype=self.dtype_policy,
        )

    def _make_heads(self):
        policy = self.dtype_policy
        self.pooling = self.head = self.distillation_head = None
        if self.pool == "sequence":
            self.pooling = SequencePooling(name="pooling", dtype=policy)
        elif self.pool == "attention":
            self.pooling = AttentionPooling(
                self.hidden_dim,
                self.num_heads,
                self.intermediate_dim,
                activation=self.activation,
                name="pooling",
                dtype=policy,
            )
        if self.num_classes:
            self.head = self._dense("head")
            self.distillation_head = self._dense("distillation_head") if self.distillation else None

    def _dense(self, name):
        # Not autocast: logits are computed in float32 under any dtype policy.
        return keras.layers.Dense(
            self.num_classes,
            kernel_initializer="zeros",
            autocast=False,
            name=name,
            dtype=self.dtype_policy,
        )

    @classmethod
    def from_variant(cls, variant, image_size, num_classes, **overrides):
        """Makes a published model.

        Args:
            variant: str. A size and a patch such as `"B/16"`, the hybrid `"R50+B/16"`, a
                distilled `"DeiT-S/16"`, or one for small data: `"ViT-Lite-7/4"`, `"CVT-7/4"`,
                `"CCT-7/3x1"` (layers, kernel, convolutions).
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features instead.
            **overrides: any argument of the constructor.

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant.
        """
        return cls(image_size, num_classes=num_classes, **variant_arguments(variant, overrides))

    def grid_size(self, image_size=None):
        """Returns `(rows, columns)` of the patches of an image; `None` is an image of the model."""
        size = pair("image_size", self.image_size if image_size is None else image_size)
        return self._stem().grid_size(size)

    def _stem(self):
        return self.patch_embedding if self.stem is None else self.stem

    def build(self, inputs_shape=None):
        image_shape = inputs_shape or (None, *pair("image_size", self.image_size), 3)
        sequence_shape = (None, None, self.hidden_dim)
        if not self._stem().built:  # Keras builds a stem first when it loads a model.
            self._stem().build(image_shape)
        parts = (self.prefix_tokens, self.grid_positions, self.encoder, self.pooling)
        for part in (*parts, self.head, self.distillation_head):
            if part is not None:
                part.build(sequence_shape)

    def call(self, inputs, training=None, return_both_heads=False, return_attention_scores=False):
        x = self.encode(inputs, training=training, return_attention_scores=return_attention_scores)
        x, scores = x if return_attention_scores else (x, None)
        if self.distillation:
            outputs = (self._read(x[:, 0], self.head), self._read(x[:, 1], self.distillation_head))
            if not return_both_heads:
                outputs = (outputs[0] + outputs[1]) / 2
        elif return_both_heads:
            raise ValueError("Expected return_both_heads=False without distillation, got True.")
        else:
            outputs = self._read(self._pool(x, training), self.head)
        return (outputs, scores) if return_attention_scores else outputs

    def encode(self, images, training=None, return_attention_scores=False):
        """Turns images into the sequence that the pool reads.

        Args:
            images: float tensor `(B, height, width, channels)`; a size that is unknown when a
                graph is made is taken to be `image_size`.
            training: bool or `None`. Whether dropout is active.
            return_attention_scores: bool. Whether to return `(sequence, scores)`.

        Returns:
            Float tensor `(B, T, hidden_dim)`, prefix tokens first, and the scores where asked for.
        """
        if not self.built:  # for who calls this before the model
            self.build(tuple(images.shape))
        size = images.shape[1:3]
        grid_size = self.grid_size(None if None in size else tuple(size))
        x = self._stem()(images)
        if self.prefix_tokens is not None:
            x = self.prefix_tokens(x)
        if self.grid_positions is not None:
            x = self.grid_positions(x, grid_size=grid_size)
        is_rotary = self.positions == "rotary"
        return self.encoder(
            self.dropout_layer(x, training=training),
            positions=grid_positions(grid_size, self.num_prefix_tokens) if is_rotary else None,
            return_attention_scores=return_attention_scores,
            training=training,
        )

    def features(self, images):
        """Describes each image by the vector that the head reads.

        Args:
            images: float tensor `(B, height, width, channels)`.

        Returns:
            float32 tensor `(B, hidden_dim)`: with a distillation token the mean of both tokens.
        """
        x = self.encode(images, training=False)
        x = ops.mean(x[:, :2], axis=1) if self.distillation else self._pool(x, training=False)
        return self._read(x, None)

    def _pool(self, x, training):
        if self.pool == "class":
            return x[:, 0]
        if self.pool == "mean":
            return ops.mean(x, axis=1)
        return self.pooling(x, training=training)

    def _read(self, x, head):
        x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        return x if head is None else head(x)

    def compute_output_spec(self, inputs, **kwargs):
        # Traced, for the logits are float32 under any dtype policy.
        if None in inputs.shape[1:3]:
            size = pair("image_size", self.image_size)
            shape = (inputs.shape[0], *size, inputs.shape[-1])
            inputs = keras.KerasTensor(shape, dtype=inputs.dtype)
        return keras.Operation.compute_output_spec(self, inputs, **kwargs)

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], self.num_classes or self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "num_classes": self.num_classes,
            "patch_size": self.patch_size,
            "stem": serialize_child(self.stem),
            "pool": self.pool,
            "positions": self.positions,
            "distillation": self.distillation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "activation": serialize_activation(self.activation),
        }

    @classmethod
    def from_config(cls, config):
        """Makes the model, its stem included, from what `get_config` returned."""
        return cls(**{**config, "stem": deserialize_child(config["stem"])})
