"""Encoder and decoder blocks: lists of `Residual(sublayer)`.

Nothing here knows whether a sequence came from words or from pixels. Letters: `B` batch, `T`
length, `S` context length, `N` heads, `L` length of a decoding cache, `R` decoded rows.
"""

import keras

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.feed_forward import FeedForward, GatedFeedForward
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.residual import Residual


class BlockArguments(keras.layers.Layer):
    """Holds the arguments that blocks and stacks share, and makes a block's sublayers."""

    def __init__(
        self,
        hidden_dim,
        num_heads,
        intermediate_dim,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation="relu",
        norm_first=True,
        normalization="layer",
        epsilon=1e-6,
        num_key_value_heads=None,
        key_dim=None,
        use_bias=True,
        use_rotary=False,
        use_gate=False,
        stochastic_depth=0.0,
        layer_scale=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.activation = activation
        self.norm_first = norm_first
        self.normalization = normalization
        self.epsilon = epsilon
        self.num_key_value_heads = num_key_value_heads
        self.key_dim = key_dim
        self.use_bias = use_bias
        self.use_rotary = use_rotary
        self.use_gate = use_gate
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.supports_masking = True

    def block_arguments(self):
        """Returns the arguments that make one block, ready for `get_config`."""
        return {
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "activation": serialize_activation(self.activation),
            "norm_first": self.norm_first,
            "normalization": self.normalization,
            "epsilon": self.epsilon,
            "num_key_value_heads": self.num_key_value_heads,
            "key_dim": self.key_dim,
            "use_bias": self.use_bias,
            "use_rotary": self.use_rotary,
            "use_gate": self.use_gate,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
        }

    def _residual(self, sublayer, name):
        return Residual(
            sublayer,
            norm_first=self.norm_first,
            normalization=self.normalization,
            epsilon=self.epsilon,
            dropout=self.dropout,
            stochastic_depth=self.stochastic_depth,
            layer_scale=self.layer_scale,
            name=name,
            dtype=self.dtype_policy,
        )

    def _attention(self, name, use_rotary=False):
        attention = MultiHeadAttention(
            self.hidden_dim,
            self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            key_dim=self.key_dim,
            use_bias=self.use_bias,
            dropout=self.attention_dropout,
            use_rotary=use_rotary,
            name="attention",
            dtype=self.dtype_policy,
        )
        return self._residual(attention, name)

    def _feed_forward(self, name):
        feed_forward = (GatedFeedForward if self.use_gate else FeedForward)(
            self.hidden_dim,
            self.intermediate_dim,
            activation=self.activation,
            dropout=self.activation_dropout,
            use_bias=self.use_bias,
            name="feed_forward",
            dtype=self.dtype_policy,
        )
        return self._residual(feed_forward, name)

    def compute_output_spec(self, *args, **kwargs):
        # Traced, for the arguments decide how many tensors come out, and not the shapes alone.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), **self.block_arguments()}


@keras.saving.register_keras_serializable(package="kerasformer")
class EncoderBlock(BlockArguments):
    """Applies self-attention and a feed-forward layer, each inside a `Residual`.

    Args:
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of query heads.
        intermediate_dim: int. Inner size of the feed-forward layer.
        dropout: float. Rate at which the output of each sublayer is dropped.
        attention_dropout: float. Rate at which attention probabilities are dropped.
        activation_dropout: float. Rate at which inner feed-forward activations are dropped.
        activation: str or callable. Activation of the feed-forward layer (of its gate).
        norm_first: bool. Pre-norm, or the post-norm of 2017.
        normalization: str. `"layer"` or `"rms"`.
        epsilon: float. Added to the variance by each normalisation.
        num_key_value_heads: int or `None`. Fewer heads for keys and values (grouped queries).
        key_dim: int or `None`. Size of a head; `None` means `hidden_dim // num_heads`.
        use_bias: bool. Whether products add a bias.
        use_rotary: bool. Whether self-attention turns queries and keys by their positions.
        use_gate: bool. Whether the feed-forward layer is a `GatedFeedForward`.
        stochastic_depth: float. Rate at which a sublayer is left out, for each example alone.
        layer_scale: float or `None`. Start of learned factors of each sublayer; `None` for none.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        attention_mask: boolean tensor `(B, T, T)` or `(B, N, T, T)`, `True` = attend.
        use_causal_mask: bool. Whether a position may not look at later ones.
        positions: int tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`, for `use_rotary`; `None` means
            `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the attention probabilities `(B, N, T, T)`.

    Masking: the mask hides keys and is kept; Keras fills it by itself, as `mask` when `inputs`
    is the only tensor, as `inputs_mask` when there are other tensors.

    Example:

    >>> from keras import ops
    >>> block = EncoderBlock(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(block(ops.ones((2, 5, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    def __init__(self, hidden_dim, num_heads, intermediate_dim, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        self.self_attention = self._attention("self_attention", self.use_rotary)
        self.feed_forward = self._feed_forward("feed_forward")

    def build(self, inputs_shape):
        self.self_attention.build(inputs_shape)
        self.feed_forward.build(inputs_shape)

    def call(
        self,
        inputs,
        *,
        mask=None,
        inputs_mask=None,
        attention_mask=None,
        use_causal_mask=False,
        positions=None,
        return_attention_scores=False,
    ):
        attention = self.self_attention.sublayer
        x, scores = self.self_attention.apply(
            inputs,
            lambda x: attention(
                x,
                mask=inputs_mask if mask is None else mask,
                attention_mask=attention_mask,
                use_causal_mask=use_causal_mask,
                positions=positions,
                return_attention_scores=True,
            ),
        )
        x = self.feed_forward(x)
        return (x, scores) if return_attention_scores else x


@keras.saving.register_keras_serializable(package="kerasformer")
class DecoderBlock(BlockArguments):
    """Applies causal self-attention, attention to a context, and a feed-forward layer.

    Args:
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of query heads.
        intermediate_dim: int. Inner size of the feed-forward layer.
        **kwargs: the other arguments of `EncoderBlock`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        context: float tensor `(B, S, context_dim)`.
        inputs_mask: boolean tensor `(B, T)`, `True` = real.
        context_mask: boolean tensor `(B, S)`, `True` = real.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, S)` of the attention to the context.

    Masking: both masks hide keys; Keras fills them by itself; `inputs_mask` is kept.

    Example:

    >>> from keras import ops
    >>> block = DecoderBlock(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(block(ops.ones((2, 5, 6)), ops.ones((2, 4, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    def __init__(self, hidden_dim, num_heads, intermediate_dim, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        self.self_attention = self._attention("self_attention", self.use_rotary)
        self.cross_attention = self._attention("cross_attention")
        self.feed_forward = self._feed_forward("feed_forward")

    def build(self, inputs_shape, context_shape):
        self.self_attention.build(inputs_shape)
        self.cross_attention.build(inputs_shape, context_shape)
        self.feed_forward.build(inputs_shape)

    def call(
        self,
        inputs,
        context,
        *,
        inputs_mask=None,
        context_mask=None,
        return_attention_scores=False,
    ):
        attention, cross_attention = self.self_attention.sublayer, self.cross_attention.sublayer
        x = self.self_attention.apply(
            inputs, lambda x: attention(x, mask=inputs_mask, use_causal_mask=True)
        )
        x, scores = self.cross_attention.apply(
            x,
            lambda x: cross_attention(
                x, context, context_mask=context_mask, return_attention_scores=True
            ),
        )
        x = self.feed_forward(x)
        return (x, scores) if return_attention_scores else x

    def step(self, inputs, cache, positions, context_cache, context_mask=None):
        """Decodes one new token a row with cached keys and values.

        Args:
            inputs: float tensor `(R, 1, hidden_dim)`.
            cache: keys and values `(R, G, L, K)` of the tokens before, from `init_cache`.
            positions: int tensor `(R,)`, the position of each row's token.
            context_cache: keys and values `(B, G, S, K)` from `project_context`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Tuple of the outputs `(R, 1, hidden_dim)` and the cache with the token written to it.
        """
        attention, cross_attention = self.self_attention.sublayer, self.cross_attention.sublayer
        x, cache = self.self_attention.apply(
            inputs, lambda x: attention.self_step(x, cache, positions)
        )
        x = self.cross_attention.apply(
            x, lambda x: cross_attention.cross_step(x, context_cache, context_mask)
        )
        return self.feed_forward(x), cache

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step` for `batch_size` rows of `max_length` tokens."""
        return self.self_attention.sublayer.init_cache(batch_size, max_length)

    def project_context(self, context):
        """Computes the keys and values of the context once for all steps."""
        return self.cross_attention.sublayer.project_context(context)
