"""Attention as arrays: alignments, rollout, maps over an image, distances."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kerasformer.layers.sizes import pair


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
    _check_length(attention, grid_size, num_prefix_tokens)
    attention = ops.cast(attention, "float32")
    attention = attention[..., 0, :] if num_prefix_tokens else ops.mean(attention, axis=-2)
    shape = (*ops.shape(attention)[:-1], rows, columns)
    return ops.reshape(attention[..., num_prefix_tokens:], shape)


def attention_maps(model: Any, images: Any) -> tuple[Any, Any]:
    """Computes where a model looks on images: by rollout, and through each head of each block.

    Both are what reads the sequence at its end: the class token; or the weights of the pool, where
    it has some; or else all patches on average.

    Args:
        model: `VisionTransformer`, with or without a head, whose `has_attention_scores` is true.
        images: float tensor `(B, height, width, channels)`, normalised as in training.

    Returns:
        Tuple of the rollout, float32 `(B, rows, columns)`, and what is read through each head
        alone, float32 `(B, layers, heads, rows, columns)`. A map sums to one, less the attention to
        the tokens before the patches.

    Raises:
        ValueError: for a model without attention scores.

    Example:

    >>> from kerasformer.models import VisionTransformer
    >>> model = VisionTransformer.from_variant("CCT-2/3x2", image_size=32)
    >>> rolled, heads = attention_maps(model, ops.ones((1, 32, 32, 3)))
    >>> tuple(rolled.shape), tuple(heads.shape)
    ((1, 8, 8), (1, 2, 2, 8, 8))
    """
    if not getattr(model, "has_attention_scores", False):
        raise ValueError(
            "Expected a model whose every block has attention scores, received "
            f"model={type(model).__name__} of which has_attention_scores is not true."
        )
    sequence, scores = model.encode(images, training=False, return_attention_scores=True)
    heads, read = ops.cast(ops.stack(scores, axis=1), "float32"), rollout(scores)
    if hasattr(model.pooling, "weights_of"):
        weights = model.pooling.weights_of(sequence)[:, None]
        read, heads = ops.matmul(weights, read), ops.matmul(weights[:, None, None], heads)
    grid = grid_of(model, images.shape), model.num_prefix_tokens
    return grid_maps(read, *grid), grid_maps(heads, *grid)


def grid_of(model: Any, image_shape: Sequence[int | None]) -> tuple[int, int] | None:
    """Returns the rows and columns of the sequence that a model makes of images.

    Args:
        model: Keras model of images.
        image_shape: shape of the images, `(B, height, width, channels)`; an unknown size is that of
            the model.

    Returns:
        Tuple of int, or `None` for a model without a sequence, such as a convolutional network.

    Example:

    >>> from kerasformer.models import VisionTransformer
    >>> grid_of(VisionTransformer.from_variant("CCT-2/3x2", image_size=32), (1, 32, 64, 3))
    (8, 16)
    """
    if not hasattr(model, "grid_size"):
        return None
    size = tuple(image_shape[1:3])
    if None in size or size == pair("image_size", model.image_size):
        return model.grid_size()
    return model.grid_size(size)


def attention_distance(
    scores: Any,
    grid_size: Sequence[int],
    num_prefix_tokens: int = 0,
    patch_size: float | Sequence[float] = 1,
) -> Any:
    """Measures how far each head looks: the mean distance from a patch to what it attends to.

    The distances are those between the middles of patches, weighted by the attention. What goes to
    the tokens before the patches has no distance and is left out, so that the shares of the patches
    sum to one again.

    Args:
        scores: float tensor `(..., N, T, T)`, the attention probabilities of a block.
        grid_size: tuple of int. Rows and columns of the patches.
        num_prefix_tokens: int. Tokens before the patches.
        patch_size: float or pair of floats. Pixels from one patch to the next, down and across.

    Returns:
        float32 tensor `(..., N)`, in pixels: of each head, the mean over all patches that ask.

    Raises:
        ValueError: when the attention is over another number of positions.

    Example:

    >>> float(attention_distance(ops.ones((1, 2, 2)) / 2, grid_size=(1, 2), patch_size=16)[0])
    8.0

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), figures 7 and 11
    """
    rows, columns = grid_size
    height, width = np.broadcast_to(patch_size, 2).tolist()
    _check_length(scores, grid_size, num_prefix_tokens)
    places = ops.arange(rows * columns)
    down, across = (ops.cast(x, "float32") for x in (places // columns, places % columns))
    down, across = height * (down[:, None] - down), width * (across[:, None] - across)
    distances = ops.sqrt(ops.square(down) + ops.square(across))
    shares = ops.cast(scores, "float32")[..., num_prefix_tokens:, num_prefix_tokens:]
    shares = shares / ops.maximum(ops.sum(shares, axis=-1, keepdims=True), 1e-9)
    return ops.mean(ops.sum(shares * distances, axis=-1), axis=-1)


def _check_length(attention, grid_size, num_prefix_tokens):
    """Refuses attention over another number of positions than a grid and the tokens before it."""
    rows, columns = grid_size
    length = num_prefix_tokens + rows * columns
    if attention.shape[-1] not in (None, length):
        raise ValueError(
            f"Expected attention over {length} positions for grid_size={tuple(grid_size)} and "
            f"num_prefix_tokens={num_prefix_tokens}, received {attention.shape[-1]}."
        )
