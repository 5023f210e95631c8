"""Class attention: a class token reads the patches, which stay as they are.

Letters: `B` batch, `T` length, the class token included, `P` patches, `N` heads.
"""

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite, child_seed
from kerasformer.layers.embeddings.prefix import PrefixTokens
from kerasformer.layers.feed_forward import FeedForward
from kerasformer.layers.masks import combine_masks
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.residual import Residual, make_normalization
from kerasformer.layers.sizes import check_sizes


class _Arguments(Composite):
    """Stores the arguments that a block and a stack of blocks share."""

    def __init__(
        self,
        hidden_dim,
        num_heads,
        intermediate_dim,
        dropout=0.0,
        attention_dropout=0.0,
        activation="gelu",
        layer_scale=1e-5,
        epsilon=1e-6,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation = activation
        self.layer_scale = layer_scale
        self.epsilon = epsilon
        self.seed = seed
        self.supports_masking = True

    def _shared_arguments(self):
        return {
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation": serialize_activation(self.activation),
            "layer_scale": self.layer_scale,
            "epsilon": self.epsilon,
            "seed": self.seed,
        }

    def get_config(self):
        return {**super().get_config(), **self._shared_arguments()}


@keras.saving.register_keras_serializable(package="kerasformer")
class ClassAttentionBlock(_Arguments):
    """Lets the first token, the class token, look at all tokens; only it changes.

    `c = c + s_1 attention(norm(c), norm(x))`, then `c + s_2 feed_forward(norm(c))`, where `c` is
    the first token of `x`. The time is linear in the length, because one token asks.

    Args:
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of heads of the attention.
        intermediate_dim: int. Inner size of the feed-forward layer.
        dropout: float. Rate at which the output of each sublayer is dropped.
        attention_dropout: float. Rate at which attention probabilities are dropped.
        activation: str or callable. Activation of the feed-forward layer.
        layer_scale: float or `None`. Start of the learned factors `s_1` and `s_2`; `None` for none.
        epsilon: float. Added to the variance by each normalisation.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`, the class token first.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`. Keras fills it by itself.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, 1, T)`, the class token's own first.

    Masking: hidden tokens get no weight. The mask is kept.

    Raises:
        ValueError: for inputs of another width, and as `MultiHeadAttention`.

    Example:

    >>> block = ClassAttentionBlock(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(block(ops.ones((2, 5, 6))).shape)
    (2, 5, 6)

    References:
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239), section 2.2
    """

    def __init__(self, hidden_dim, num_heads, intermediate_dim, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        attention = MultiHeadAttention(
            hidden_dim,
            num_heads,
            dropout=self.attention_dropout,
            seed=child_seed(self.seed, "attention"),
            name="attention",
            dtype=self.dtype_policy,
        )
        feed_forward = FeedForward(
            hidden_dim,
            intermediate_dim,
            activation=self.activation,
            name="feed_forward",
            dtype=self.dtype_policy,
        )
        self.class_attention = self._residual("class_attention", attention)
        self.feed_forward = self._residual("feed_forward", feed_forward)

    def _residual(self, name, sublayer):
        return Residual(
            sublayer,
            epsilon=self.epsilon,
            dropout=self.dropout,
            layer_scale=self.layer_scale,
            seed=child_seed(self.seed, name),
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, inputs_shape):
        if inputs_shape[-1] != self.hidden_dim:
            raise ValueError(
                f"Expected inputs of width hidden_dim={self.hidden_dim}, received "
                f"shape={tuple(inputs_shape)}."
            )
        token_shape = (inputs_shape[0], 1, self.hidden_dim)
        self.class_attention.build(token_shape, inputs_shape)
        self.feed_forward.build(token_shape)

    def call(self, inputs, *, mask=None, return_attention_scores=False):
        token, others = inputs[:, :1], inputs[:, 1:]
        attention, norm = self.class_attention.sublayer, self.class_attention.norm
        token = self.class_attention.apply(
            token,
            lambda token: attention(
                token,
                ops.concatenate([token, norm(others)], axis=1),
                context_mask=mask,
                return_attention_scores=return_attention_scores,
            ),
        )
        token, *scores = token if return_attention_scores else (token,)
        outputs = ops.concatenate([self.feed_forward(token), others], axis=1)
        return (outputs, *scores) if scores else outputs

    # Traced, because `return_attention_scores` decides how many tensors come out.
    compute_output_spec = keras.Operation.compute_output_spec

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


@keras.saving.register_keras_serializable(package="kerasformer")
class ClassAttentionPooling(_Arguments):
    """Reads a sequence by a learned class token that asks in several blocks: the end of CaiT.

    The class token joins the sequence only here, goes through a stack of `ClassAttentionBlock` and
    is normalised.

    Args:
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of heads of the attention.
        intermediate_dim: int. Inner size of the feed-forward layers.
        num_layers: int. Number of blocks.
        **kwargs: the other arguments of `ClassAttentionBlock`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, P, hidden_dim)`.
        mask: boolean tensor `(B, P)`, `True` = real, or `None`. Keras fills it by itself.

    Returns:
        Float tensor `(B, hidden_dim)`.

    Masking: hidden positions change nothing. Produces no mask.

    Raises:
        ValueError: for sizes below 1, and as `ClassAttentionBlock`.

    Example:

    >>> layer = ClassAttentionPooling(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(layer(ops.ones((2, 5, 6))).shape)
    (2, 6)

    References:
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239), section 2.2
    """

    def __init__(self, hidden_dim, num_heads, intermediate_dim, num_layers=2, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        check_sizes(num_layers=num_layers)
        self.num_layers = num_layers
        policy = self.dtype_policy
        self.class_token = PrefixTokens(name="class_token", dtype=policy)
        self.blocks = []
        for index in range(num_layers):
            name = f"block_{index}"
            arguments = {**self._shared_arguments(), "seed": child_seed(self.seed, name)}
            self.blocks.append(ClassAttentionBlock(**arguments, name=name, dtype=policy))
        self.norm = make_normalization("layer", self.epsilon, "norm", policy)

    def build(self, inputs_shape):
        self.class_token.build(inputs_shape)
        batch, length, hidden_dim = inputs_shape
        shape = (batch, None if length is None else length + 1, hidden_dim)
        for layer in (*self.blocks, self.norm):
            layer.build(shape)

    def call(self, inputs, *, mask=None):
        x, mask = self._join(inputs, mask)
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.norm(x[:, :1])[:, 0]

    def scores_of(self, inputs, mask=None):
        """Computes what the class token attends to, for each block.

        Args:
            inputs: float tensor `(B, P, hidden_dim)`.
            mask: boolean tensor `(B, P)`, `True` = real, or `None`.

        Returns:
            List of float tensors `(B, N, 1, 1 + P)`, the class token's own probability first.
            `kerasformer.explain.grid_maps(scores, grid_size, num_prefix_tokens=1)` makes a map of
            each.
        """
        x, mask = self._join(inputs, mask)
        all_scores = []
        for block in self.blocks:
            x, scores = block(x, mask=mask, return_attention_scores=True)
            all_scores.append(scores)
        return all_scores

    def weights_of(self, inputs, mask=None):
        """Returns the share of each position in what is read, float `(B, P)`, by rollout.

        Half of each block's weight goes to its residual connection, as in `explain.rollout`. What
        the learned class token keeps for itself is left out, so that a row sums to one.
        """
        read = 0.0
        for scores in self.scores_of(inputs, mask):
            attention = ops.mean(ops.cast(scores[:, :, 0], "float32"), axis=1)
            read = (attention[:, 1:] + (attention[:, :1] + 1.0) * read) / 2.0
        return read / ops.maximum(ops.sum(read, axis=-1, keepdims=True), 1e-9)

    def _join(self, inputs, mask):
        if mask is not None:
            batch, length, _ = inputs.shape
            mask = combine_masks(mask, shape=(batch, None, None, length))[:, 0, 0]
        return self.class_token(inputs), self.class_token.compute_mask(inputs, mask)

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "num_layers": self.num_layers}
