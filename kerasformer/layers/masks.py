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


def combine_masks(key_mask=None, *attention_masks, shape=(None, None, None, None)):
    """Joins a padding mask and attention masks by "and": a key is seen where all allow it.

    Attention masks have the ranks that Keras knows. An axis `B`, `N` or `T` of size 1 is shared by
    the whole batch, by all heads or by all queries; nothing else broadcasts.

    Args:
        key_mask: boolean tensor `(B, S)`, the real keys, or `None`.
        *attention_masks: boolean tensors `(T, S)`, `(B, T, S)` or `(B, N, T, S)`, or `None`.
        shape: tuple `(B, N, T, S)` that the masks must fit, with `None` for an unknown size.

    Returns:
        Boolean tensor that broadcasts to `(B, N, T, S)`, or `None` when every mask is `None`.

    Raises:
        ValueError: when a mask is not boolean or has another rank or size.

    Example:

    >>> real = ops.array([[True, False]])
    >>> combine_masks(real, None, causal_mask(2)).numpy().astype(int).tolist()
    [[[[1, 0], [1, 0]]]]
    """
    combined = None if key_mask is None else _expand_key_mask(key_mask, shape)
    for mask in attention_masks:
        if mask is not None:
            mask = _expand_attention_mask(mask, shape)
            combined = mask if combined is None else ops.logical_and(combined, mask)
    return combined


def _expand_key_mask(mask, shape):
    mask = _to_boolean(mask)
    batch, _, _, source = shape
    if not fits(mask.shape, (batch, source)):
        raise ValueError(
            f"Expected a padding mask of shape (B, S) with B={batch} and S={source}, received "
            f"shape={tuple(mask.shape)}."
        )
    return mask[:, None, None, :]


def _expand_attention_mask(mask, shape):
    mask = _to_boolean(mask)
    batch, heads, target, source = shape
    # The last axes of `shape`; where the mask has size 1, any size but that of the keys fits.
    sizes = list(shape[-len(mask.shape) :] if len(mask.shape) != 3 else (batch, target, source))
    for axis in range(len(sizes) - 1):
        sizes[axis] = None if mask.shape[axis] == 1 else sizes[axis]
    if len(mask.shape) < 2 or not fits(mask.shape, sizes):
        raise ValueError(
            "Expected an attention mask of shape (T, S), (B, T, S) or (B, N, T, S) with "
            f"B={batch}, N={heads}, T={target} and S={source}, received "
            f"shape={tuple(mask.shape)}."
        )
    if len(mask.shape) == 2:
        return mask[None, None]
    return mask[:, None] if len(mask.shape) == 3 else mask


def _to_boolean(mask):
    mask = ops.convert_to_tensor(mask)
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if dtype != "bool":
        raise ValueError(f"Expected a boolean mask (True = attend), received dtype={dtype}.")
    return mask


def fits(shape, sizes):
    """Compares a shape with expected sizes; `None` on either side is unknown and fits any size.

    Args:
        shape: tuple of int or `None`.
        sizes: tuple or list of int or `None`.

    Returns:
        bool.

    Example:

    >>> fits((2, None), (2, 5)), fits((2, 3), (2, 5))
    (True, False)
    """
    return len(shape) == len(sizes) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, sizes, strict=True)
    )
