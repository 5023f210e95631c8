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


def text_mask(token_ids, pad_id=0):
    """Marks the tokens up to the last that is not padding, and the first in any case.

    Unlike `padding_mask` it takes padding that is the id of a start or an end too, and text that
    contains it: only what stands behind the text is padding.

    Args:
        token_ids: int tensor `(B, T)`, padded on the right.
        pad_id: int. The id of padding.

    Returns:
        Boolean tensor `(B, T)`, `True` = real.

    Example:

    >>> text_mask(ops.array([[0, 7, 0, 9, 0], [0, 0, 0, 0, 0]])).numpy().astype(int).tolist()
    [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]
    """
    is_token = ops.cast(padding_mask(token_ids, pad_id), "int32")
    # 1, 2, 3, ..., summed up because the length of a symbolic text may be unknown.
    positions = ops.cumsum(ops.ones_like(is_token), axis=1)
    length = ops.max(positions * is_token, axis=1, keepdims=True)
    return positions <= ops.maximum(length, 1)


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
    combined = None
    if key_mask is not None:
        combined = check_key_mask(key_mask, shape)[:, None, None, :]
    for mask in attention_masks:
        if mask is not None:
            mask = check_attention_mask(mask, shape)
            if len(mask.shape) < 4:
                mask = mask[None, None] if len(mask.shape) == 2 else mask[:, None]
            combined = mask if combined is None else ops.logical_and(combined, mask)
    return combined


def check_key_mask(mask, shape):
    """Refuses a padding mask that does not fit.

    Args:
        mask: boolean tensor, array or list `(B, S)`.
        shape: tuple `(B, N, T, S)` that it must fit, as in `combine_masks`.

    Returns:
        The mask as a tensor.

    Raises:
        ValueError: when it is not boolean or has another rank or size.

    Example:

    >>> tuple(check_key_mask([[True, False]], (1, None, None, 2)).shape)
    (1, 2)
    """
    mask = _to_boolean(mask)
    batch, _, _, source = shape
    if not fits(mask.shape, (batch, source)):
        raise ValueError(
            f"Expected a padding mask of shape (B, S) with B={batch} and S={source}, received "
            f"shape={tuple(mask.shape)}."
        )
    return mask


def check_attention_mask(mask, shape):
    """Refuses an attention mask that does not fit.

    Args:
        mask: boolean tensor, array or list `(T, S)`, `(B, T, S)` or `(B, N, T, S)`.
        shape: tuple `(B, N, T, S)` that it must fit, as in `combine_masks`.

    Returns:
        The mask as a tensor.

    Raises:
        ValueError: when it is not boolean or has another rank or size.

    Example:

    >>> tuple(check_attention_mask([[True, False]], (3, None, None, 2)).shape)
    (1, 2)
    """
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
    return mask


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
