"""Dot-product attention as pure functions."""

import keras
from keras import ops

from kerasformer.layers.masks import causal_mask, combine_masks


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
    scores = attention_logits(query, key)
    if position_bias is not None:
        scores = scores + ops.cast(position_bias, scores.dtype)
    return ops.cast(masked_softmax(scores, mask), query.dtype)


def attention_logits(query, key):
    """Computes `Q Kᵀ / sqrt(K)`.

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, S, K)`, `G` a divisor of `N`.

    Returns:
        Float tensor `(B, N, T, S)`, of float32 at least.

    Example:

    >>> attention_logits(ops.ones((1, 1, 1, 4)), ops.ones((1, 1, 2, 4))).numpy().tolist()
    [[[[2.0, 2.0]]]]
    """
    scores = grouped_matmul(query / query.shape[-1] ** 0.5, ops.swapaxes(key, -1, -2))
    return ops.cast(scores, keras.backend.result_type(query.dtype, "float32"))


def masked_softmax(scores, mask=None):
    """Computes a softmax over the keys that the mask allows; a row of no key gets zeros.

    Args:
        scores: float tensor `(B, N, T, S)`, of float32 at least.
        mask: boolean tensor that broadcasts to it, `True` = attend, or `None`.

    Returns:
        Float tensor `(B, N, T, S)`.

    Example:

    >>> masked_softmax(ops.ones((2, 3)), ops.array([[True, True, False], [False] * 3])).numpy()
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 0. ]], dtype=float32)
    """
    # Keras warns of a softmax over one key, which blocks and windows at the end of things have.
    softmax = ops.softmax if scores.shape[-1] != 1 else lambda x: ops.exp(x - x)
    if mask is None:
        return softmax(scores)
    # Adding to all scores is cheaper than selecting among them, forwards and backwards; the
    # product makes rows without any key zero.
    real = ops.cast(mask, scores.dtype)
    return softmax(scores + 1e9 * (real - 1.0)) * real


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
    return grouped_matmul(weights, value), probabilities


def fused_attention(query, key, value, mask=None, is_causal=False):
    """Computes `scaled_dot_product_attention` by the attention kernel of the backend.

    The kernel never holds all probabilities, and so cannot return them or drop some. Backends
    differ in what they do with a query that has no key; here it gets zeros, as in the reference.

    Args:
        query: float tensor `(B, N, T, K)`; `B` may be 1 for one query that all examples share.
        key: float tensor `(B, G, S, K)`, `G` a divisor of `N`.
        value: float tensor `(B, G, S, K)`.
        mask: boolean tensor that broadcasts to `(B, N, T, S)`, `True` = attend, or `None`.
        is_causal: bool. Whether a query may not look at later keys; `S = T` then.

    Returns:
        Float tensor `(B, N, T, K)`.

    Example:

    >>> query, key = ops.ones((1, 2, 3, 4)), ops.ones((1, 2, 5, 4))
    >>> float(fused_attention(query, key, ops.ones((1, 2, 5, 4)))[0, 0, 0, 0])
    1.0

    References:
        - [Dao et al., 2022](https://arxiv.org/abs/2205.14135)
    """
    length = ops.shape(query)[2]
    if mask is not None:
        if is_causal:
            mask, is_causal = combine_masks(None, mask, causal_mask(length)), False
        # A row without any key gets all keys here, because some kernels return NaN for it; the
        # product below makes it zero. cuDNN needs a mask that has a row for each query.
        has_key = ops.any(mask, axis=-1, keepdims=True)
        mask = ops.logical_or(mask, ops.logical_not(has_key))
        batch, heads, _, source = ops.shape(mask)
        mask = ops.broadcast_to(mask, (batch, heads, length, source))
    if query.shape[0] == 1:
        query = ops.repeat(query, ops.shape(key)[0], axis=0)
    if key.shape[1] == 1:
        # With one group Keras's op fails on TensorFlow, and torch leaves its fast kernel.
        key, value = (ops.repeat(x, query.shape[1], axis=1) for x in (key, value))
    query, key, value = (ops.swapaxes(x, 1, 2) for x in (query, key, value))
    outputs = ops.dot_product_attention(query, key, value, mask=mask, is_causal=is_causal)
    outputs = ops.swapaxes(outputs, 1, 2)
    return outputs if mask is None else outputs * ops.cast(has_key, outputs.dtype)


def attend(
    query,
    key,
    value,
    mask=None,
    is_causal=False,
    position_bias=None,
    dropout=None,
    needs_scores=False,
):
    """Attends by `fused_attention` where that is possible and fast, else by the reference.

    It is possible when nobody asks for probabilities: no scores, no dropout, no bias (which torch
    does not take beside a mask, and 16 bits would round). It is fast with torch, and on GPUs with
    JAX. On CPUs the reference is faster with TensorFlow (the kernel has 0.7 to 0.9 times its speed)
    and with JAX (0.6 to 1.0 times); `docs/performance.md` has the figures. TensorFlow has no such
    kernel on GPUs either.

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, S, K)`, `G` a divisor of `N`.
        value: float tensor `(B, G, S, K)`.
        mask: boolean tensor that broadcasts to `(B, N, T, S)`, `True` = attend, or `None`.
        is_causal: bool. Whether a query may not look at later keys; `S = T` then.
        position_bias: float tensor that broadcasts to `(B, N, T, S)`, or `None`.
        dropout: function applied to the probabilities, or `None`.
        needs_scores: bool. Whether the probabilities must be returned.

    Returns:
        Tuple of the outputs `(B, N, T, K)` and the probabilities `(B, N, T, S)` before dropout, or
        `None` where nobody needs them.

    Example:

    >>> x = ops.ones((1, 2, 3, 4))
    >>> outputs, scores = attend(x, x, x, is_causal=True, needs_scores=True)
    >>> tuple(outputs.shape), tuple(scores.shape)
    ((1, 2, 3, 4), (1, 2, 3, 3))
    """
    needs_probabilities = needs_scores or dropout is not None or position_bias is not None
    if _has_fast_kernel() and not needs_probabilities:
        return fused_attention(query, key, value, mask, is_causal), None
    if is_causal:
        mask = combine_masks(None, mask, causal_mask(ops.shape(query)[2]))
    return scaled_dot_product_attention(query, key, value, mask, position_bias, dropout)


def _has_fast_kernel():
    if keras.backend.backend() == "jax":
        # The first device is the one that JAX computes on. Keras's kernel for TPUs takes the mask
        # of the first example for all.
        return keras.distribution.list_devices()[0].startswith("gpu")
    return keras.backend.backend() == "torch"


def grouped_matmul(x, y):
    """Multiplies `(B, N, T, a)` by `(B, G, a, b)`: the heads of a group share `y`, uncopied.

    Args:
        x: float tensor `(B, N, T, a)`.
        y: float tensor `(B, G, a, b)`, `G` a divisor of `N`.

    Returns:
        Float tensor `(B, N, T, b)`.

    Example:

    >>> tuple(grouped_matmul(ops.ones((1, 6, 5, 2)), ops.ones((1, 3, 2, 7))).shape)
    (1, 6, 5, 7)
    """
    batch, num_heads, length, width = ops.shape(x)
    groups = y.shape[1]
    if groups == num_heads:
        return ops.matmul(x, y)
    stacked = ops.reshape(x, (batch, groups, num_heads // groups * length, width))
    return ops.reshape(ops.matmul(stacked, y), (batch, num_heads, length, ops.shape(y)[-1]))
