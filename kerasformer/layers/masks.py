"""Boolean attention masks: `True` means that the query may look at the key.

Letters: `B` batch, `T` query length, `S` key length, `N` heads. Masks hide keys, never queries.
"""

import keras
from keras import ops


def padding_mask(token_ids, pad_id=0):
    """Marks the real tokens of a padded batch.

    Args:
        token_ids: int tensor `(B, T)`.
        pad_id: int. The id that means "nothing here".

    Returns:
        Boolean tensor `(B, T)`, `True` = real.

    Example:

    >>> padding_mask(ops.array([[7, 9, 0]])).numpy().tolist()
    [[True, True, False]]
    """
    return ops.not_equal(token_ids, pad_id)


def causal_mask(length):
    """Lets position `t` look at positions `0..t` only.

    Args:
        length: int or scalar int tensor, `T`.

    Returns:
        Boolean tensor `(1, T, T)`.

    Example:

    >>> causal_mask(3)[0].numpy().astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    positions = ops.arange(length, dtype="int32")
    return (positions[:, None] >= positions[None, :])[None]


def combine_masks(*masks):
    """Joins masks of different ranks by "and"; what one of them forbids is forbidden.

    Args:
        *masks: boolean tensors `(B, S)` (padding of the keys), `(B, T, S)` or `(B, N, T, S)`, or
            `None`. Axes of size 1 broadcast.

    Returns:
        Boolean tensor that broadcasts to `(B, N, T, S)`, or `None` when every mask is `None`.

    Raises:
        ValueError: when a mask is not boolean or has another rank.

    Example:

    >>> real = ops.array([[True, False]])
    >>> combine_masks(real, None, causal_mask(2)).numpy().astype(int).tolist()
    [[[[1, 0], [1, 0]]]]
    """
    combined = None
    for mask in masks:
        if mask is None:
            continue
        mask = _to_rank_4(mask)
        combined = mask if combined is None else ops.logical_and(combined, mask)
    return combined


def _to_rank_4(mask):
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if dtype != "bool":
        raise ValueError(f"Expected a boolean mask (True = attend), received dtype={dtype}.")
    rank = len(mask.shape)
    if rank == 2:
        return mask[:, None, None, :]
    if rank == 3:
        return mask[:, None, :, :]
    if rank == 4:
        return mask
    raise ValueError(
        f"Expected a mask of shape (B, S), (B, T, S) or (B, N, T, S), received shape={mask.shape}."
    )
