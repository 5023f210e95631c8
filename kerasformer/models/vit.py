"""The Vision Transformer and its small-data and distilled relatives, for images of any size.

Letters: `B` batch, `P` patches, `T` length of the sequence (prefix tokens and patches), `N` heads.
"""

import functools
import operator

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite, serialize_child
from kerasformer.layers.embeddings.patches import PatchEmbedding
from kerasformer.layers.embeddings.prefix import PrefixTokens
from kerasformer.layers.mixers.contract import takes
from kerasformer.layers.positions.grids import grid_positions
from kerasformer.layers.sizes import pair
from kerasformer.layers.stacks import Encoder
from kerasformer.models.vit_parts import (
    GRID_POSITIONS,
    POOLS,
    POSITIONS,
    check_part,
    make_head,
    make_pool,
    make_positions,
)
from kerasformer.models.vit_variants import VARIANTS, variant_arguments


@keras.saving.register_keras_serializable(package="kerasformer")
class VisionTransformer(Composite, keras.Model):
    """Classifies images, or describes them by vectors.

    A stem turns the image into a sequence; then come prefix tokens, positions, the `Encoder`, a
    pool that makes a vector of the sequence, and heads that read it. Each part is a layer of your
    own, or one of those that the published models use, by name. Images of other sizes than
    `image_size` are taken too: positions are resized, at run time and when weights load.

    Args:
        image_size: int or pair of ints `(height, width)`, for which positions are learned.
        num_layers: int. Blocks of the encoder.
        hidden_dim: int. Size of the sequence.
        num_heads: int or `None`. Number of attention heads; `None` beside a `mixer`.
        intermediate_dim: int or `None`. Inner size of the feed-forward layers; `None` for none,
            beside a `mixer` that needs none.
        num_classes: int or `None`. Number of classes, for a linear head that starts at zero;
            `None` or 0 for `heads` of your own, or for features.
        patch_size: int or pair of ints. Size of a patch, when there is no `stem`.
        stem: Keras layer from images `(B, height, width, channels)` to a sequence
            `(B, P, hidden_dim)`, with a method `grid_size` as `PatchEmbedding` has; `None` means
            a `PatchEmbedding` of `patch_size`.
        pool: Keras layer from the sequence `(B, T, hidden_dim)` to a vector `(B, features)` that
            every head reads, or to a vector for each head `(B, heads, features)`. By name:
            `"class"` (a prefix token for each head), `"mean"`, `"sequence"` (of CCT) or
            `"attention"` (with one learned query).
        positions: Keras layer that adds positions to the sequence, called with it and, if it takes
            one, the argument `grid_size`, as `LearnedGridPositions` does; `None` for no positions.
            By name: `"learned"`, `"sinusoidal"`, `"sinusoidal_mae"` (in the layout of MoCo v3 and
            MAE), `"rotary"` (inside the encoder) or `"none"`.
        distillation: bool. Whether a second token has a second head, to learn from a teacher.
        dropout: float. Rate after the positions and each sublayer.
        attention_dropout: float. Rate of the attention probabilities.
        stochastic_depth: float, or list of floats. Rate at which the last block, or each block,
            leaves sublayers out, see `Encoder`.
        layer_scale: float or `None`. Start of learned factors of each sublayer; `None` for none.
        activation: str or callable. Activation of the feed-forward layers.
        epsilon: float. Added to the variance by each normalisation.
        heads: list of Keras layers from a vector `(B, features)` to outputs, or `None` for the
            linear heads of `num_classes`.
        num_prefix_tokens: int or `None`. Learned tokens before the patches; `None` means as many
            as `pool="class"` reads, and none for another pool. More of them are registers.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...) and, all others, to `Encoder`.

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.
        return_both_heads: bool. Whether to return the outputs of each head apart, as training
            with a teacher needs them, and not their mean.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        float32 logits `(B, num_classes)`, or what `heads` return, or features `(B, hidden_dim)`
        without heads; with `return_both_heads=True` a tuple of them. With
        `return_attention_scores=True` a tuple of all this and a list of each block's
        probabilities `(B, N, T, T)`, of which `kerasformer.explain` makes pictures.

    Masking: produces no mask; every patch is real.

    Raises:
        ValueError: when arguments contradict each other, or for an unknown name or variant.

    Example:

    >>> model = VisionTransformer.from_variant("CCT-2/3x2", image_size=32, num_classes=10)
    >>> tuple(model(ops.ones((1, 32, 32, 3))).shape)
    (1, 10)

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929)
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), `distillation`
        - [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), ViT-Lite, CVT and CCT
        - [Darcet et al., 2023](https://arxiv.org/abs/2309.16588), registers
    """

    VARIANTS = VARIANTS

    def __init__(
        self,
        image_size,
        num_layers,
        hidden_dim,
        num_heads=None,
        intermediate_dim=None,
        num_classes=None,
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
        epsilon=1e-6,
        heads=None,
        num_prefix_tokens=None,
        **kwargs,
    ):
        of_keras = {key: kwargs.pop(key) for key in ("name", "trainable", "dtype") if key in kwargs}
        super().__init__(**of_keras)
        self.image_size = image_size
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.num_classes = num_classes
        self.patch_size = patch_size
        self.stem = stem
        self.distillation = distillation
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.activation = activation
        self.epsilon = epsilon
        self._check_arguments(pool, positions, heads)
        count = 0
        if pool == "class":
            count = len(heads) if heads else 2 if distillation else 1
        self.num_prefix_tokens = count if num_prefix_tokens is None else num_prefix_tokens
        if self.num_prefix_tokens < count:
            raise ValueError(
                f"Expected a prefix token for each of {count} heads with pool='class', "
                f"received num_prefix_tokens={num_prefix_tokens}."
            )
        # In the order of the sequence, which is the order of the weights.
        self._make_front(positions)
        self._make_encoder(kwargs)
        self._make_pool(pool, count)
        self._make_heads(heads)

    def _check_arguments(self, pool, positions, heads):
        check_part("pool", pool, POOLS)
        check_part("positions", positions, (*POSITIONS, None))
        if (self.patch_size is None) == (self.stem is None):
            raise ValueError(
                "Expected either a patch_size or a stem, received "
                f"patch_size={self.patch_size} and stem={self.stem}."
            )
        is_list = isinstance(heads, (list, tuple, type(None)))
        if not is_list or not all(isinstance(head, keras.layers.Layer) for head in heads or ()):
            raise ValueError(f"Expected heads to be a list of layers, received heads={heads!r}.")
        if heads and (self.num_classes or len(heads) < 1 + self.distillation):
            raise ValueError(
                "Expected num_classes=None with heads, and two heads with distillation=True, "
                f"received num_classes={self.num_classes}, {len(heads)} heads and "
                f"distillation={self.distillation}."
            )
        if self.distillation and pool != "class":
            raise ValueError(
                f"Expected pool='class' with distillation=True, received pool={pool!r}."
            )

    def _make_front(self, positions):
        policy = self.dtype_policy
        self.patch_embedding = self.prefix_tokens = None
        if self.stem is None:
            self.patch_embedding = PatchEmbedding(
                self.hidden_dim, self.patch_size, name="patch_embedding", dtype=policy
            )
        count = self.num_prefix_tokens
        if count:
            self.prefix_tokens = PrefixTokens(count, name="prefix_tokens", dtype=policy)
        self.positions = positions
        grid_size = self.grid_size() if positions in GRID_POSITIONS else None
        self.grid_positions = make_positions(positions, grid_size, count, policy)

    def _make_encoder(self, others):
        self._encoder_arguments = tuple(others)
        if self.positions == "rotary":
            if not others.get("use_rotary", True):
                raise ValueError(
                    "Expected positions other than 'rotary' with use_rotary=False, received "
                    "positions='rotary'."
                )
            others = {**others, "use_rotary": True}
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, seed=others.get("seed"), name="dropout_layer", dtype=self.dtype_policy
        )
        self.encoder = Encoder(
            self.num_layers,
            self.hidden_dim,
            self.num_heads,
            self.intermediate_dim,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation=self.activation,
            stochastic_depth=self.stochastic_depth,
            layer_scale=self.layer_scale,
            epsilon=self.epsilon,
            name="encoder",
            dtype=self.dtype_policy,
            **others,
        )
        mixers = keras.tree.flatten(others.get("mixer"))
        layers = [self.encoder, *mixers]
        self._is_rotary = any(getattr(layer, "use_rotary", False) for layer in layers)

    def _make_pool(self, pool, num_tokens):
        attention = {
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }
        self.pool = pool
        self.pooling = make_pool(
            pool, num_tokens, self.num_prefix_tokens, attention, self.dtype_policy
        )

    def _make_heads(self, heads):
        self.heads = list(heads) if heads else None
        self.head = self.distillation_head = None
        if self.num_classes:
            self.head = make_head(self.num_classes, "head", self.dtype_policy)
        if self.num_classes and self.distillation:
            self.distillation_head = make_head(
                self.num_classes, "distillation_head", self.dtype_policy
            )

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. A size and a patch such as `"B/16"`, the hybrid `"R50+B/16"`, a
                distilled `"DeiT-S/16"`, or one for small data: `"ViT-Lite-7/4"`, `"CVT-7/4"`,
                `"CCT-7/3x1"` (layers, kernel, convolutions).
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for `heads` or features.
            **overrides: any argument of the constructor.

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        return cls(image_size, num_classes=num_classes, **arguments)

    @property
    def has_attention_scores(self):
        """Whether every block can say what it attended to, as `return_attention_scores` asks."""
        mixers = [block.self_attention.sublayer for block in self.encoder.blocks]
        return all(takes(mixer, "return_attention_scores") for mixer in mixers)

    def grid_size(self, image_size=None):
        """Returns `(rows, columns)` of the patches of an image; `None` is an image of the model."""
        size = pair("image_size", self.image_size if image_size is None else image_size)
        return self._stem().grid_size(size)

    def _stem(self):
        return self.patch_embedding if self.stem is None else self.stem

    def _all_heads(self):
        made = [head for head in (self.head, self.distillation_head) if head is not None]
        return self.heads or made

    def build(self, inputs_shape=None):
        image_shape = inputs_shape or (None, *pair("image_size", self.image_size), 3)
        # Of `image_size`, and not of the first call: a mixer may have weights for each position.
        sequence_shape = self._sequence_shape((image_shape[0], None, None))
        vector_shape = (None, self.pooling.compute_output_shape(sequence_shape)[-1])
        parts = [(self._stem(), image_shape)]
        for part in (self.prefix_tokens, self.grid_positions, self.encoder, self.pooling):
            parts.append((part, sequence_shape))
        for part, shape in parts + [(head, vector_shape) for head in self._all_heads()]:
            # Keras has built the parts that were given already when it loads a model.
            if part is not None and not part.built:
                part.build(shape)

    def call(self, inputs, training=None, return_both_heads=False, return_attention_scores=False):
        options = {"return_attention_scores": True} if return_attention_scores else {}
        x = self.encode(inputs, training=training, **options)
        x, scores = x if return_attention_scores else (x, None)
        outputs = self._read(self._pool(x, training))
        if return_both_heads:
            if len(outputs) == 1:
                raise ValueError(
                    "Expected return_both_heads=False without distillation or a second head, "
                    "received return_both_heads=True."
                )
            outputs = tuple(outputs)
        elif len(outputs) == 1:
            outputs = outputs[0]
        else:
            outputs = functools.reduce(operator.add, outputs) / len(outputs)
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
        x = self.dropout_layer(self.embed(images), training=training)
        options = {"return_attention_scores": True} if return_attention_scores else {}
        if self._is_rotary:
            grid_size = self._grid_size_of(images.shape)
            options["positions"] = grid_positions(grid_size, self.num_prefix_tokens)
        return self.encoder(x, training=training, **options)

    def embed(self, images):
        """Turns images into the sequence that the encoder reads.

        Args:
            images: float tensor `(B, height, width, channels)`, as `encode` takes it.

        Returns:
            Float tensor `(B, T, hidden_dim)`, prefix tokens first, with positions added.
        """
        if not self.built:  # when called before the model itself
            self.build(tuple(images.shape))
        x = self._stem()(images)
        if self.prefix_tokens is not None:
            x = self.prefix_tokens(x)
        if self.grid_positions is not None:
            options = {"grid_size": self._grid_size_of(images.shape)}
            x = self.grid_positions(x, **options if takes(self.grid_positions, "grid_size") else {})
        return x

    def _sequence_shape(self, image_shape):
        rows, columns = self._grid_size_of(image_shape)
        return (image_shape[0], rows * columns + self.num_prefix_tokens, self.hidden_dim)

    def _grid_size_of(self, image_shape):
        size = image_shape[1:3]
        return self.grid_size(None if None in size else tuple(size))

    def features(self, images):
        """Describes each image by the vector that the head reads.

        Args:
            images: float tensor `(B, height, width, channels)`.

        Returns:
            float32 tensor `(B, hidden_dim)`: the mean of the vectors where each head has its own.
        """
        x = self._pool(self.encode(images, training=False), training=False)
        x = ops.mean(x, axis=1) if len(x.shape) == 3 else x
        return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))

    def _pool(self, x, training):
        return self.pooling(x, training=training)

    def _read(self, x):
        """Lists what each head makes of its vector, in float32 at least, or the vectors alone."""
        x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        heads = self._all_heads()
        vectors = [x] * max(1, len(heads))
        if len(x.shape) == 3:
            vectors = [x[:, index] for index in range(x.shape[1])]
        if heads and len(heads) != len(vectors):
            raise ValueError(
                f"Expected a head for each vector of the pool, received {len(heads)} heads and "
                f"a pooled sequence of shape={tuple(x.shape)}."
            )
        return [head(x) for head, x in zip(heads, vectors, strict=True)] if heads else vectors

    def compute_output_spec(self, inputs, **kwargs):
        # Traced, because the logits are float32 under any dtype policy.
        if None in inputs.shape[1:3]:
            size = pair("image_size", self.image_size)
            shape = (inputs.shape[0], *size, inputs.shape[-1])
            inputs = keras.KerasTensor(shape, dtype=inputs.dtype)
        return keras.Operation.compute_output_spec(self, inputs, **kwargs)

    def compute_output_shape(self, inputs_shape):
        shape = self.pooling.compute_output_shape(self._sequence_shape(inputs_shape))
        shape = (shape[0], shape[-1])
        heads = self._all_heads()
        return heads[0].compute_output_shape(shape) if heads else shape

    def get_config(self):
        of_encoder = self.encoder.get_config()
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "num_classes": self.num_classes,
            "patch_size": self.patch_size,
            "stem": _serialize(self.stem),
            "pool": _serialize(self.pool),
            "positions": _serialize(self.positions),
            "distillation": self.distillation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "activation": serialize_activation(self.activation),
            "epsilon": self.epsilon,
            "heads": self.heads and [_serialize(head) for head in self.heads],
            "num_prefix_tokens": self.num_prefix_tokens,
            **{name: of_encoder[name] for name in self._encoder_arguments},
        }

    @classmethod
    def from_config(cls, config):
        """Makes the model, with its parts, from what `get_config` returned."""
        return cls(**keras.saving.deserialize_keras_object(config))


def _serialize(part):
    """Makes a layer, a name or `None` fit for `get_config`."""
    return part if isinstance(part, str) else serialize_child(part)
