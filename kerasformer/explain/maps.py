"""Attention as arrays: alignments, rollout, maps over an image."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def alignment(scores: Sequence[Any], layer: int = -2) -> Any:
    """Averages the heads of one layer's cross-attention into a soft alignment.

    Args:
        scores: list of float tensors `(B, N, T, S)`, the attention probabilities of each block, as
            `Decoder` returns them.
        layer: int. Index of the layer. The default is the last but one, because it aligns words
            best in a trained translator; where there is a single layer, it means that layer.

    Returns:
        float32 tensor `(B, T, S)`.

    Raises:
        ValueError: when no layer has this index.

    Example:

    >>> from keras import ops
    >>> scores = [ops.full((1, 2, 3, 5), 0.2), ops.full((1, 2, 3, 5), 0.1)]
    >>> tuple(alignment(scores).shape)
    (1, 3, 5)

    References:
        - [Garg et al., 2019](https://arxiv.org/abs/1909.02074)
    """
    if len(scores) == 1 and layer == -2:
        layer = -1
    if not -len(scores) <= layer < len(scores):
        raise ValueError(
            f"Expected layer to be one of the {len(scores)} of scores, received layer={layer}."
        )
    return ops.mean(ops.cast(scores[layer], "float32"), axis=1)


def rollout(scores: Sequence[Any]) -> Any:
    """Follows the attention through all layers, down to the positions of the inputs.

    In each layer the heads are averaged, and half of the weight goes to the residual connection:
    `A = (mean over heads + identity) / row sums`. The result is `A_last ... A_2 A_1`.

    Args:
        scores: list of float tensors `(B, N, T, T)`, the attention probabilities of each block,
            first block first, as `Encoder` returns them.

    Returns:
        float32 tensor `(B, T, T)`: row `t` is the share of each input in output `t`, and sums to
        one. For words, pass the matrix of one example to `word_alignment`; for images, pass the
        whole tensor to `grid_maps`.

    Example:

    >>> from keras import ops
    >>> scores = [ops.array([[[[0.0, 1.0], [0.5, 0.5]]]])] * 2
    >>> rollout(scores).numpy().tolist()
    [[[0.375, 0.625], [0.3125, 0.6875]]]

    References:
        - [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928), equation 1
    """
    identity = ops.eye(ops.shape(scores[0])[-1], dtype="float32")
    joined = identity
    for block_scores in scores:
        x = ops.mean(ops.cast(block_scores, "float32"), axis=1) + identity
        joined = ops.matmul(x / ops.sum(x, axis=-1, keepdims=True), joined)
    return joined


def grid_maps(attention: Any, grid_size: Sequence[int], num_prefix_tokens: int = 0) -> Any:
    """Arranges the attention to the patches of an image as a map of the image.

    Args:
        attention: float tensor `(..., T, T)`, `T = num_prefix_tokens + rows * columns`: a rollout
            `(B, T, T)`, or `(B, 1, T)` times a pool's weights, or one block's `(B, N, T, T)`.
        grid_size: tuple of int. Rows and columns of the patches.
        num_prefix_tokens: int. Tokens before the patches. The map shows the attention of the
            first of them, the class token. Without prefix tokens it shows the mean over patches.

    Returns:
        float32 tensor `(..., rows, columns)`. A map sums to one, less the attention to the prefix
        tokens.

    Raises:
        ValueError: when the attention is over another number of positions.

    Example:

    >>> from keras import ops
    >>> tuple(grid_maps(ops.ones((2, 3, 16, 16)), grid_size=(3, 5), num_prefix_tokens=1).shape)
    (2, 3, 3, 5)
    """
    rows, columns = grid_size
    length = num_prefix_tokens + rows * columns
    if attention.shape[-1] not in (None, length):
        raise ValueError(
            f"Expected attention over {length} positions for grid_size={tuple(grid_size)} and "
            f"num_prefix_tokens={num_prefix_tokens}, received {attention.shape[-1]}."
        )
    attention = ops.cast(attention, "float32")
    attention = attention[..., 0, :] if num_prefix_tokens else ops.mean(attention, axis=-2)
    shape = (*ops.shape(attention)[:-1], rows, columns)
    return ops.reshape(attention[..., num_prefix_tokens:], shape)
