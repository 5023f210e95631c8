"""Dot-product attention as pure functions."""

import keras
from keras import ops


def attention_probabilities(query, key, mask=None, position_bias=None):
    """Computes `softmax(Q Kᵀ / sqrt(K) + bias)` over the keys that the mask allows.

    The softmax runs in float32 at least. A query with no key to look at gets a row of zeros.

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, S, K)`; `G` divides `N`, and head `n` reads group `n * G // N`.
        mask: boolean tensor that broadcasts to `(B, N, T, S)`, `True` = attend, or `None`.
        position_bias: float tensor that broadcasts to `(B, N, T, S)`, added before the softmax.

    Returns:
        Float tensor `(B, N, T, S)` of the dtype of `query`.
    """
    scores = _grouped_matmul(query / query.shape[-1] ** 0.5, ops.swapaxes(key, -1, -2))
    dtype = keras.backend.result_type(query.dtype, "float32")
    scores = ops.cast(scores, dtype)
    if position_bias is not None:
        scores = scores + ops.cast(position_bias, dtype)
    if mask is None:
        return ops.cast(ops.softmax(scores), query.dtype)
    # Adding to all scores is cheaper than selecting among them, forwards and backwards; the
    # product makes rows without any key zero.
    real = ops.cast(mask, dtype)
    probabilities = ops.softmax(scores + 1e9 * (real - 1.0)) * real
    return ops.cast(probabilities, query.dtype)


def scaled_dot_product_attention(query, key, value, mask=None, position_bias=None, dropout=None):
    """Averages the values with the attention probabilities (Vaswani et al., equation 1).

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, S, K)`, `G` a divisor of `N`.
        value: float tensor `(B, G, S, K)`.
        mask: boolean tensor that broadcasts to `(B, N, T, S)`, `True` = attend, or `None`.
        position_bias: float tensor that broadcasts to `(B, N, T, S)`, or `None`.
        dropout: function applied to the probabilities, or `None`.

    Returns:
        Tuple of the outputs `(B, N, T, K)` and the probabilities `(B, N, T, S)` before dropout.

    Example:

    >>> query, key = ops.ones((1, 2, 3, 4)), ops.ones((1, 2, 5, 4))
    >>> value = ops.ones((1, 2, 5, 4))
    >>> outputs, probabilities = scaled_dot_product_attention(query, key, value)
    >>> float(outputs[0, 0, 0, 0]), float(ops.round(probabilities[0, 0, 0, 0], 3))
    (1.0, 0.20000000298023224)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)
        - [Ainslie et al., 2023](https://arxiv.org/abs/2305.13245), grouped queries
    """
    probabilities = attention_probabilities(query, key, mask, position_bias)
    weights = probabilities if dropout is None else dropout(probabilities)
    return _grouped_matmul(weights, value), probabilities


def _grouped_matmul(x, y):
    """Multiplies `(B, N, T, a)` by `(B, G, a, b)`: the heads of a group share `y`, uncopied."""
    batch, num_heads, length, width = ops.shape(x)
    groups = y.shape[1]
    if groups == num_heads:
        return ops.matmul(x, y)
    stacked = ops.reshape(x, (batch, groups, num_heads // groups * length, width))
    return ops.reshape(ops.matmul(stacked, y), (batch, num_heads, length, ops.shape(y)[-1]))
