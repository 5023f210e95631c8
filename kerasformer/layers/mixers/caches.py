"""Caches of keys and values: what decoding token by token remembers.

Letters: `R` decoded rows, `G` key and value heads, `L` length of a cache, `T` new tokens, `K` size
of a head.
"""

from keras import ops


def empty_cache(batch_size, groups, max_length, width, dtype):
    """Makes the keys and values of no token yet.

    Args:
        batch_size: int or scalar int tensor, `R`.
        groups: int, `G`.
        max_length: int, `L`. 0 for a cache that `grow_cache` gives room.
        width: int, `K`.
        dtype: str.

    Returns:
        Tuple of two float tensors `(R, G, L, K)`.

    Example:

    >>> [tuple(x.shape) for x in empty_cache(2, 3, 5, 4, "float32")]
    [(2, 3, 5, 4), (2, 3, 5, 4)]
    """
    cache = ops.zeros((batch_size, groups, max_length or 1, width), dtype)
    if max_length == 0:
        # The index is empty only at run time, so the length stays unknown in a graph and may
        # grow in a loop.
        cache = ops.take(cache, ops.nonzero(ops.zeros((1,)))[0], axis=2)
    return cache, ops.zeros_like(cache)


def grow_cache(cache):
    """Makes room for one more token of each row.

    Args:
        cache: tuple of float tensors `(R, G, L, K)`.

    Returns:
        Tuple of float tensors `(R, G, L + 1, K)`.

    Example:

    >>> [tuple(x.shape) for x in grow_cache(empty_cache(2, 3, 5, 4, "float32"))]
    [(2, 3, 6, 4), (2, 3, 6, 4)]
    """
    return tuple(ops.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))) for x in cache)


def write(cache, entries, positions):
    """Writes the keys or the values of new tokens into those of a cache.

    Args:
        cache: float tensor `(R, G, L, K)`.
        entries: float tensor `(R, G, T, K)`.
        positions: int32 tensor `(R, T)`, where each token goes.

    Returns:
        Float tensor `(R, G, L, K)`.

    Raises:
        ValueError: when there are more tokens than room.

    Example:

    >>> cache, entries = ops.zeros((1, 1, 3, 1)), ops.ones((1, 1, 1, 1))
    >>> write(cache, entries, ops.array([[1]], "int32")).numpy().ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    if None not in (entries.shape[2], cache.shape[2]) and entries.shape[2] > cache.shape[2]:
        raise ValueError(
            f"Expected a cache with room for the {entries.shape[2]} tokens of a step, received one "
            f"of length={cache.shape[2]}."
        )
    rows, groups, length, width = ops.shape(cache)
    # Two indices an entry, so that a position past the end never is one of the next row.
    row = ops.repeat(ops.arange(rows * groups, dtype="int32"), ops.shape(positions)[1])
    index = ops.stack([row, ops.reshape(ops.repeat(positions, groups, axis=0), (-1,))], axis=1)
    flat = ops.reshape(cache, (rows * groups, length, width))
    flat = ops.scatter_update(flat, index, ops.reshape(entries, (-1, width)))
    return ops.reshape(flat, (rows, groups, length, width))


def held_positions(length, start):
    """Tells which positions a ring holds: the last ones before the next.

    A position lies in a ring at its remainder by the length, where it replaces an older one.

    Args:
        length: int, `L`.
        start: int32 tensor `(R, 1)`, the next position of each row.

    Returns:
        int32 tensor `(R, L)`, negative where nothing was written yet.

    Example:

    >>> held_positions(3, ops.array([[5], [1]], "int32")).numpy().tolist()
    [[3, 4, 2], [0, -2, -1]]
    """
    slots = ops.arange(length, dtype="int32")
    return start - 1 - ops.mod(start - 1 - slots, length)


def write_ring(ring, entries, start):
    """Writes the keys or the values of new tokens into those of a ring.

    Args:
        ring: float tensor `(R, G, L, K)`.
        entries: float tensor `(R, G, T, K)`, of any number of tokens.
        start: int32 tensor `(R, 1)`, the position of each row's first token.

    Returns:
        Float tensor `(R, G, L, K)`.

    Example:

    >>> ring, entries = ops.zeros((1, 1, 3, 1)), ops.reshape(ops.array([5.0, 6.0]), (1, 1, 2, 1))
    >>> write_ring(ring, entries, ops.array([[2]], "int32")).numpy().ravel().tolist()
    [6.0, 0.0, 5.0]
    """
    length = ring.shape[2]
    kept = held_positions(length, start + ops.shape(entries)[2])
    slots = ops.arange(length, dtype="int32")
    index = ops.where(kept >= start, length + kept - start, slots)
    # A gather: two entries for one slot would be written in any order.
    return ops.take_along_axis(
        ops.concatenate([ring, entries], axis=2), index[:, None, :, None], axis=2
    )


class KeyValueCache:
    """Keeps the keys and values of all tokens, for an `AttentionHeads` whose `step` reads them.

    Example:

    >>> from kerasformer.layers import MultiHeadAttention
    >>> keys, values = MultiHeadAttention(hidden_dim=6, num_heads=3).init_cache(2, max_length=5)
    >>> tuple(keys.shape)
    (2, 3, 5, 2)
    """

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step`: keys and values `(R, G, L, K)`.

        Args:
            batch_size: int or scalar int tensor, `R`.
            max_length: int, `L`. 0 for a cache that `grow_cache` gives room.

        Returns:
            Tuple of two float tensors.
        """
        return empty_cache(batch_size, self._groups, max_length, self._head_dim, self.compute_dtype)

    def grow_cache(self, cache):
        """Makes room for one more token of each row: `(R, G, L + 1, K)`."""
        return grow_cache(cache)
