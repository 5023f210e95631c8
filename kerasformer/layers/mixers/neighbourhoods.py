"""Attention of blocks of a grid to themselves and to what lies around them, as pure functions.

A sequence of `T` positions is a grid `(rows, columns)`, read row by row; one dimension is a grid of
one row. It is cut into blocks, and the positions of a block look at its memory: the block and a
halo around it. Time and memory grow with `T` times the size of a memory, never with `T * T`.

Letters: `B` batch, `T` length, `N` query heads, `G` key and value heads, `K` size of a head, `L`
positions of a block, `M` positions of a memory, `C` blocks.
"""

from keras import ops


def cut_blocks(x, grid_size, block_size, before=(0, 0), after=(0, 0)):
    """Cuts a sequence into the memories of its blocks; what lies outside of the grid is zeros.

    Args:
        x: tensor `(B, N, T, K)`.
        grid_size: tuple, rows and columns of the sequence; scalar tensors where they are unknown.
        block_size: tuple of int, rows and columns of a block.
        before: tuple of int, rows above and columns to the left of a block that its memory has
            more; at most those of a block.
        after: tuple of int, the same below and to the right.

    Returns:
        Tensor `(B * C, N, M, K)`, the blocks row by row.

    Example:

    >>> x = ops.reshape(ops.arange(4), (1, 1, 4, 1))
    >>> cut_blocks(x, (1, 4), (1, 2), before=(0, 1))[..., 0].numpy().tolist()
    [[[0, 0, 1]], [[1, 2, 3]]]
    """
    batch, heads, _, width = ops.shape(x)
    x = ops.reshape(x, (batch, heads, *grid_size, width))
    counts = [-(-size // side) for size, side in zip(grid_size, block_size, strict=True)]
    sizes = zip(counts, block_size, grid_size, strict=True)
    missing = [count * side - size for count, side, size in sizes]
    if not all(isinstance(size, int) and size == 0 for size in missing):
        x = ops.pad(x, [[0, 0], [0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    (rows, columns), (height, breadth) = counts, block_size
    x = ops.reshape(x, (batch, heads, rows, height, columns, breadth, width))
    x = _add_halo(x, 2, before[0], after[0])
    x = _add_halo(x, 4, before[1], after[1])
    size = (height + before[0] + after[0]) * (breadth + before[1] + after[1])
    x = ops.transpose(x, (0, 2, 4, 1, 3, 5, 6))
    return ops.reshape(x, (batch * rows * columns, heads, size, width))


def _add_halo(x, axis, before, after):
    """Puts the last cells of the block before, and the first of the one after, around each block.

    Blocks lie on `axis`, their cells on the one behind it.
    """
    parts = [x]
    sides = [[0, 0]] * len(x.shape)
    count, cells = ops.shape(x)[axis], x.shape[axis + 1]

    def cut(x, axis, start, stop):
        return x[(slice(None),) * axis + (slice(start, stop),)]

    if before:
        sides[axis] = [1, 0]
        edge = cut(x, axis + 1, cells - before, cells)
        parts.insert(0, cut(ops.pad(edge, sides), axis, 0, count))
    if after:
        sides[axis] = [0, 1]
        edge = cut(x, axis + 1, 0, after)
        parts.append(cut(ops.pad(edge, sides), axis, 1, count + 1))
    return ops.concatenate(parts, axis=axis + 1) if len(parts) > 1 else x


def join_blocks(x, batch, grid_size, block_size):
    """Puts blocks together again: the inverse of `cut_blocks` without a halo.

    Args:
        x: tensor `(B * C, N, L, K)`.
        batch: int or scalar int tensor, `B`.
        grid_size: tuple, rows and columns of the sequence.
        block_size: tuple of int, rows and columns of a block.

    Returns:
        Tensor `(B, N, T, K)`.

    Example:

    >>> x = ops.reshape(ops.arange(12), (1, 1, 12, 1))
    >>> blocks = cut_blocks(x, (3, 4), (2, 2))
    >>> bool(ops.all(join_blocks(blocks, 1, (3, 4), (2, 2)) == x))
    True
    """
    _, heads, _, width = ops.shape(x)
    rows, columns = [-(-size // side) for size, side in zip(grid_size, block_size, strict=True)]
    height, breadth = block_size
    x = ops.reshape(x, (batch, rows, columns, heads, height, breadth, width))
    x = ops.transpose(x, (0, 3, 1, 4, 2, 5, 6))
    x = ops.reshape(x, (batch, heads, rows * height, columns * breadth, width))
    x = x[:, :, : grid_size[0], : grid_size[1]]
    return ops.reshape(x, (batch, heads, grid_size[0] * grid_size[1], width))


def memory_offsets(block_size, before=(0, 0), after=(0, 0)):
    """Tells how far each position of a memory lies from each of its block.

    Args:
        block_size: tuple of int, rows and columns of a block.
        before: tuple of int, as in `cut_blocks`.
        after: tuple of int, as in `cut_blocks`.

    Returns:
        Two int32 tensors `(L, M)`: rows and columns from the position of the block to the other.

    Example:

    >>> memory_offsets((1, 2), before=(0, 1))[1].numpy().tolist()
    [[-1, 0, 1], [-2, -1, 0]]
    """
    offsets = []
    for size, low, high in zip(block_size, before, after, strict=True):
        memory = ops.arange(-low, size + high, dtype="int32")
        offsets.append(memory[None] - ops.arange(size, dtype="int32")[:, None])
    rows, columns = offsets
    height, breadth = block_size
    shape = (height, breadth, rows.shape[1], columns.shape[1])
    return tuple(
        ops.reshape(ops.broadcast_to(x, shape), (height * breadth, -1))
        for x in (rows[:, None, :, None], columns[None, :, None, :])
    )


def neighbourhoods(query, key, value, real, grid_size, block_size, before, after, allowed):
    """Makes the positions of blocks ready to attend to those of their memories.

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, T, K)`, `G` a divisor of `N`.
        value: float tensor `(B, G, T, K)`.
        real: boolean tensor `(B, T)`, the keys to look at, or `None` for all.
        grid_size: tuple, rows and columns of the sequence.
        block_size: tuple of int, rows and columns of a block.
        before: tuple of int, as in `cut_blocks`.
        after: tuple of int, as in `cut_blocks`.
        allowed: boolean tensor that broadcasts to `(L, M)`, which position of a memory a position
            of the block may look at.

    Returns:
        Tuple of the queries `(B * C, N, L, K)`, keys and values `(B * C, G, M, K)` and the mask
        `(B * C, 1, 1 or L, M)`: the first arguments of `attend`.

    Example:

    >>> x = ops.ones((1, 2, 6, 4))
    >>> parts = neighbourhoods(x, x, x, None, (1, 6), (1, 2), (0, 2), (0, 2), True)
    >>> [tuple(part.shape) for part in parts]
    [(3, 2, 2, 4), (3, 2, 6, 4), (3, 2, 6, 4), (3, 1, 1, 6)]

    References:
        - [Parmar et al., 2018](https://arxiv.org/abs/1802.05751), section 4
    """
    if real is None:
        batch, _, length, _ = ops.shape(query)
        real = ops.ones((batch, length), "bool")
    # As numbers, because not every backend pads booleans.
    real = ops.cast(real, "int8")[:, None, :, None]
    mask = cut_blocks(real, grid_size, block_size, before, after)[..., 0] > 0
    mask = ops.logical_and(mask[:, :, None], ops.convert_to_tensor(allowed))
    key, value = (cut_blocks(x, grid_size, block_size, before, after) for x in (key, value))
    return cut_blocks(query, grid_size, block_size), key, value, mask
