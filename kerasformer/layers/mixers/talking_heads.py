"""Talking-heads attention: heads that mix before and after the softmax.

Letters: `B` batch, `T` query length, `S` key length, `N` heads, `K` size of a head.
"""

import keras
from keras import ops

from kerasformer.layers.initializers import clone_initializer
from kerasformer.layers.masks import causal_mask, combine_masks
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.dot_product import (
    attention_logits,
    grouped_matmul,
    masked_softmax,
)


def talking_heads_attention(
    query,
    key,
    value,
    mix_logits,
    mix_weights,
    mask=None,
    position_bias=None,
    dropout=None,
):
    """Averages the values with weights `P_w softmax(P_l Q Kᵀ / sqrt(K))`.

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, S, K)`, `G` a divisor of `N`.
        value: float tensor `(B, G, S, K)`.
        mix_logits: function `P_l` from a tensor `(B, N, T, S)` to another, over the heads.
        mix_weights: function `P_w` of the same kind.
        mask: boolean tensor that broadcasts to `(B, N, T, S)`, `True` = attend, or `None`.
        position_bias: float tensor that broadcasts to `(B, N, T, S)`, added right before the
            softmax, or `None`.
        dropout: function applied to the weights, or `None`.

    Returns:
        Tuple of the outputs `(B, N, T, K)` and the probabilities of the softmax `(B, N, T, S)`.

    Example:

    >>> x = ops.ones((1, 2, 3, 4))
    >>> outputs, _ = talking_heads_attention(x, x, x, lambda x: x, lambda x: 2 * x)
    >>> float(ops.round(outputs[0, 0, 0, 0], 3))
    2.0
    """
    logits = mix_logits(attention_logits(query, key))
    if position_bias is not None:
        logits = logits + ops.cast(position_bias, logits.dtype)
    probabilities = masked_softmax(logits, mask)
    weights = mix_weights(probabilities)
    if mask is not None:
        # The bias of `P_w`, and other heads under a mask of their own, reach hidden keys too.
        weights = weights * ops.cast(mask, weights.dtype)
    weights, probabilities = (ops.cast(x, query.dtype) for x in (weights, probabilities))
    weights = weights if dropout is None else dropout(weights)
    return grouped_matmul(weights, value), probabilities


@keras.saving.register_keras_serializable(package="kerasformer")
class TalkingHeadsAttention(MultiHeadAttention):
    """Is `MultiHeadAttention` whose heads mix linearly before and after the softmax.

    A matrix `P_l` over the heads mixes their scores, a matrix `P_w` their probabilities. With
    `use_bias` each adds a bias of a number a head, as in the published code of CaiT (where that of
    `P_l` changes nothing, because the softmax cancels it); the paper of talking heads has none.

    Args:
        hidden_dim: int. Size of the outputs.
        num_heads: int. Number of heads, `N`.
        **kwargs: the other arguments of `MultiHeadAttention`, `name` and `dtype` included.
            `kernel_initializer` and `bias_initializer` are those of `P_l` and `P_w` too.

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`, the queries.
        **options: the call arguments of `MultiHeadAttention`, which mean the same here.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, S)` of the softmax. What `P_w` makes of them may be negative
        and need not sum to one.

    Masking: as in `MultiHeadAttention`. A key that the mask hides from a head has no weight in
    that head after `P_w` either: the bias of `P_w` is added for the keys that may be seen alone.
    Without any mask that is what the published code does, which knows none. Dropout drops the
    weights after `P_w`.

    Raises:
        ValueError: as `MultiHeadAttention`.

    Example:

    >>> layer = TalkingHeadsAttention(hidden_dim=6, num_heads=3)
    >>> tuple(layer(ops.ones((2, 5, 6)), use_causal_mask=True).shape)
    (2, 5, 6)

    References:
        - [Shazeer et al., 2020](https://arxiv.org/abs/2003.02436)
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239), with biases, in the code
    """

    def __init__(self, hidden_dim, num_heads, **kwargs):
        super().__init__(hidden_dim, num_heads, **kwargs)
        self.logits_projection = self._head_projection("logits_projection")
        self.weights_projection = self._head_projection("weights_projection")

    def _head_projection(self, name):
        return HeadProjection(
            self.use_bias,
            self.kernel_initializer,
            self.bias_initializer,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, inputs_shape, context_shape=None):
        super().build(inputs_shape, context_shape)
        for projection in (self.logits_projection, self.weights_projection):
            projection.build((None, self.num_heads, None, None))

    def _attend(self, query, key, value, mask=None, is_causal=False, needs_scores=False, **options):
        if is_causal:
            mask = combine_masks(None, mask, causal_mask(ops.shape(query)[2]))
        return talking_heads_attention(
            query,
            key,
            value,
            self.logits_projection,
            self.weights_projection,
            mask=mask,
            **options,
        )


class HeadProjection(keras.layers.Layer):
    """Multiplies a tensor `(B, N, T, S)` by a matrix `(N, N)` over its heads, in its own dtype."""

    def __init__(self, use_bias, kernel_initializer, bias_initializer, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, inputs_shape):
        heads = inputs_shape[1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(heads, heads),
            initializer=clone_initializer(self.kernel_initializer),
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(heads,),
                initializer=clone_initializer(self.bias_initializer),
            )

    def call(self, inputs):
        batch, heads, length, source = ops.shape(inputs)
        x = ops.reshape(inputs, (batch, heads, length * source))
        x = ops.matmul(ops.cast(ops.transpose(self.kernel), x.dtype), x)
        if self.use_bias:
            x = x + ops.cast(self.bias, x.dtype)[:, None]
        return ops.reshape(x, (batch, heads, length, source))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape
