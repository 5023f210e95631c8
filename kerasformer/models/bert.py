"""BERT and its smaller relatives: encoders that read a text from both sides.

Letters: `B` batch, `T` length.
"""

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.heads.projection import unit_vectors
from kerasformer.layers.masks import padding_mask
from kerasformer.layers.pooling import MeanPooling, TokenPooling
from kerasformer.layers.residual import make_normalization
from kerasformer.models.texts import TextModel
from kerasformer.models.vit_variants import published


def _sizes(num_layers, hidden_dim, num_heads, **others):
    sizes = {"num_layers": num_layers, "hidden_dim": hidden_dim, "num_heads": num_heads}
    return {**sizes, "intermediate_dim": 4 * hidden_dim, **others}


# base and large: Devlin et al. 2018, section 3; the smaller ones: Turc et al. 2019, table 1.
VARIANTS = {
    "tiny": _sizes(2, 128, 2),
    "mini": _sizes(4, 256, 4),
    "small": _sizes(4, 512, 8),
    "medium": _sizes(8, 512, 8),
    "base": _sizes(12, 768, 12),
    "large": _sizes(24, 1024, 16),
    "MiniLM-L6": _sizes(6, 384, 12, pool="mean", normalize=True),
    "MiniLM-L12": _sizes(12, 384, 12, pool="mean", normalize=True),
    "DistilBERT": _sizes(6, 768, 12, num_token_types=None),
}
POOLS = ("class", "mean", None)


@keras.saving.register_keras_serializable(package="kerasformer")
class BERT(TextModel):
    """Describes each token of a text by its surroundings, or the text by one vector or by classes.

    Vectors of tokens, of positions and of token types are added and normalised; a post-norm
    `Encoder` reads them. What comes out depends on `pool`:

    - `None`: the sequence itself;
    - `"class"`: the vector of the first token, behind a dense layer where `pooler_activation` names
      its activation: `"tanh"` in BERT, `"relu"` in classifiers of DistilBERT;
    - `"mean"`: the mean of the real tokens, as sentence vectors are made.

    With `num_classes` a linear head reads that: it classifies texts, or without a pool each token.

    Args:
        vocabulary_size: int. Number of token ids.
        num_layers: int. Blocks of the encoder.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of attention heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        max_length: int or `None`. Number of learned positions, which no text may exceed; `None` for
            no such positions.
        num_token_types: int or `None`. Kinds of tokens, such as first and second sentence; `None`
            for no such vectors, as in DistilBERT.
        pool: str or `None`. `"class"`, `"mean"` or `None`.
        pooler_activation: str, callable or `None`. Activation of a dense layer behind the pool;
            `None` for no such layer.
        normalize: bool. Whether the vector of a text is divided by its length, so that the product
            of two is the cosine of their angle.
        num_classes: int or `None`. Number of classes; `None` for no head.
        dropout: float. Rate after the embeddings and each sublayer, and before the head.
        attention_dropout: float. Rate of the attention probabilities.
        activation: str or callable. Activation of the feed-forward layers.
        epsilon: float. Added to the variance by each normalisation.
        pad_id: int. The id of padding.
        kernel_initializer: Keras initializer, its name or its config, of all vectors and kernels;
            `None` means a truncated normal distribution with a standard deviation of 0.02.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        **others: `name`, `trainable` and `dtype` of `keras.Model`, and the other arguments of
            `EncoderBlock`, such as `use_bias`; but no `mixer`.

    Call arguments:
        inputs: int tensor `(B, T)`, token ids with padding on any side.
        token_types: int tensor `(B, T)` or `None` for zeros everywhere.

    Returns:
        Float tensor `(B, T, hidden_dim)` without a pool; float32 vectors `(B, hidden_dim)` with
        one; with `num_classes` float32 logits `(B, num_classes)` or `(B, T, num_classes)`.

    Masking: each `pad_id` is padding, which no other token looks at. What has an axis `T` carries
    this mask.

    Raises:
        ValueError: for an unknown pool or variant, arguments that contradict each other, token
            types of a model without them, or a text longer than `max_length`.

    Example:

    >>> model = BERT.from_variant("tiny", vocabulary_size=11, pool="mean", normalize=True)
    >>> vectors = model(ops.array([[5, 7, 2], [5, 7, 0]]))
    >>> tuple(vectors.shape), round(float(ops.sum(vectors[0] * vectors[0])), 3)
    ((2, 128), 1.0)
    >>> tuple(model.encode(ops.array([[5, 7, 2]])).shape)
    (1, 3, 128)

    References:
        - [Devlin et al., 2018](https://arxiv.org/abs/1810.04805)
        - [Turc et al., 2019](https://arxiv.org/abs/1908.08962), the smaller variants
        - [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), vectors of sentences
        - [Sanh et al., 2019](https://arxiv.org/abs/1910.01108), DistilBERT
        - [Wang et al., 2020](https://arxiv.org/abs/2002.10957), MiniLM
    """

    VARIANTS = VARIANTS

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        hidden_dim,
        num_heads,
        intermediate_dim,
        max_length=512,
        num_token_types=2,
        pool=None,
        pooler_activation=None,
        normalize=False,
        num_classes=None,
        dropout=0.1,
        attention_dropout=0.1,
        activation="gelu",
        epsilon=1e-12,
        pad_id=0,
        kernel_initializer=None,
        seed=None,
        **others,
    ):
        super().__init__(
            vocabulary_size,
            num_layers,
            hidden_dim,
            num_heads,
            intermediate_dim,
            max_length,
            dropout,
            attention_dropout,
            activation,
            epsilon,
            pad_id,
            kernel_initializer,
            seed,
            **others,
        )
        self.num_token_types = num_token_types
        self.pool = pool
        self.pooler_activation = pooler_activation
        self.normalize = normalize
        self.num_classes = num_classes
        self._check_pool()
        self.make_parts(norm_first=False)
        self.token_type_embedding = None
        if num_token_types:
            self.token_type_embedding = self.make_embedding("token_type_embedding", num_token_types)
        self.embedding_norm = make_normalization(
            "layer", epsilon, "embedding_norm", self.dtype_policy
        )
        self._make_head()

    def _check_pool(self):
        if self.pool not in POOLS:
            raise ValueError(f"Expected pool to be one of {POOLS}, received pool={self.pool!r}.")
        if self.pool is None and (self.normalize or self.pooler_activation):
            raise ValueError(
                "Expected a pool with normalize=True or a pooler_activation, received pool=None."
            )
        if self.normalize and self.num_classes:
            raise ValueError(
                "Expected normalize=False with num_classes, received normalize=True and "
                f"num_classes={self.num_classes}."
            )

    def _make_head(self):
        policy = self.dtype_policy
        self.pooling = self.pooler_dense = self.head = None
        if self.pool is not None:
            self.pooling = {"class": TokenPooling, "mean": MeanPooling}[self.pool](
                name="pooling", dtype=policy
            )
        if self.pooler_activation is not None:
            self.pooler_dense = keras.layers.Dense(
                self.hidden_dim,
                activation=self.pooler_activation,
                kernel_initializer=self.make_initializer(),
                name="pooler_dense",
                dtype=policy,
            )
        if self.num_classes:
            self.head = keras.layers.Dense(
                self.num_classes,
                kernel_initializer=self.make_initializer(),
                autocast=False,  # Logits are computed in float32 under any policy.
                name="head",
                dtype=policy,
            )

    @classmethod
    def from_variant(cls, variant, vocabulary_size=30522, **overrides):
        """Makes a published model, with new weights.

        Args:
            variant: str. A key of `VARIANTS`, such as `"base"`.
            vocabulary_size: int. Number of token ids; that of the English BERT by default.
            **overrides: any argument of the constructor.

        Returns:
            A `BERT`.

        Raises:
            ValueError: for an unknown variant.
        """
        return cls(vocabulary_size, **{**published(cls.VARIANTS, variant), **overrides})

    def build(self, inputs_shape=None):
        self.build_parts()
        self.embedding_norm.build((None, None, self.hidden_dim))
        if self.token_type_embedding is not None:
            self.token_type_embedding.build((None, None))
        for layer in (self.pooler_dense, self.head):
            if layer is not None:
                layer.build((None, self.hidden_dim))

    def call(self, inputs, token_types=None, training=None):
        x = self.encode(inputs, token_types, training=training)
        if self.pool == "class":
            x = self.pooling(x)
        elif self.pool == "mean":
            x = self.pooling(x, mask=padding_mask(inputs, self.pad_id))
        if self.pooler_dense is not None:
            x = self.pooler_dense(x)
        if self.pool is not None or self.head is not None:
            x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        if self.normalize:
            x = unit_vectors(x)
        return x if self.head is None else self.head(self.dropout_layer(x, training=training))

    def encode(self, inputs, token_types=None, training=None, return_attention_scores=False):
        """Describes each token by its surroundings.

        Args:
            inputs: int tensor `(B, T)`, padded with `pad_id`.
            token_types: int tensor `(B, T)` or `None` for zeros everywhere.
            training: bool or `None`. Whether dropout is active.
            return_attention_scores: bool. Whether to return `(sequence, scores)`.

        Returns:
            Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it
            and a list of each block's probabilities `(B, N, T, T)`, `N` heads.

        Raises:
            ValueError: for token types of a model without them.
        """
        if not self.built:  # When called before the model itself.
            self.build()
        x = self.token_embedding(inputs)
        if self.token_type_embedding is not None:
            types = ops.zeros_like(inputs) if token_types is None else token_types
            x = x + self.token_type_embedding(types)
        elif token_types is not None:
            raise ValueError(
                "Expected token_types=None with num_token_types=None, received token types of "
                f"shape={tuple(token_types.shape)}."
            )
        x = self.dropout_layer(self.embedding_norm(self.add_positions(x)), training=training)
        return self.encoder(
            x,
            mask=padding_mask(inputs, self.pad_id),
            return_attention_scores=return_attention_scores,
            training=training,
        )

    def compute_mask(self, inputs, previous_mask=None):
        return padding_mask(inputs, self.pad_id) if self.pool is None else None

    def compute_output_shape(self, inputs_shape):
        axes = inputs_shape if self.pool is None else inputs_shape[:1]
        return (*axes, self.num_classes or self.hidden_dim)

    def get_config(self):
        activation = self.pooler_activation
        return {
            **super().get_config(),
            "num_token_types": self.num_token_types,
            "pool": self.pool,
            "pooler_activation": activation and serialize_activation(activation),
            "normalize": self.normalize,
            "num_classes": self.num_classes,
        }
