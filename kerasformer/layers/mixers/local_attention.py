"""Local attention: blocks of a sequence or of a grid look at themselves and at their neighbours."""

import keras
from keras import ops

from kerasformer.layers.mixers.caches import empty_cache, held_positions, write_ring
from kerasformer.layers.mixers.dot_product import attend, scaled_dot_product_attention
from kerasformer.layers.mixers.neighbourhoods import (
    join_blocks,
    memory_offsets,
    neighbourhoods,
)
from kerasformer.layers.mixers.patterns import PatternAttention, check_grid_length
from kerasformer.layers.sizes import pair

# Tokens of a prompt that `step` reads at once.
PART = 256


@keras.saving.register_keras_serializable(package="kerasformer")
class LocalAttention(PatternAttention):
    """Lets each position of a block look at the block and at a halo around it.

    In one dimension blocks have `block_size` positions. With the default halo a position looks at
    its own block and at both neighbours, or, with a causal mask, at the block before and at what
    its own holds up to it. In two dimensions the sequence is a grid, read row by row, and blocks
    have rows and columns; the last ones may be cut off by the end of the grid. Time and memory
    grow with `T * block_size`, not with `T * T`.

    Args:
        hidden_dim: int. Size of the outputs.
        num_heads: int. Number of heads.
        block_size: int, or pair of ints `(rows, columns)` with a `grid_size`. Size of a block.
        halo: int, pair of ints or `None`. How far positions look beyond their block, at most the
            size of a block; `None` means that size, 0 the block alone.
        grid_size: pair of ints `(rows, columns)` of the sequence, or `None` for one dimension.
        **kwargs: the other arguments of `MultiHeadAttention`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`, of any length in one dimension.
        mask: boolean tensor `(B, T)`, the real positions of `inputs`.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        use_causal_mask: bool. Whether a position may not look at later ones of the sequence.
        positions: int tensor as `rotate` takes it, for `use_rotary`; `None` means `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`. Scores are those of
            all pairs, so that asking for them takes the time and memory of dense attention.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, T)` before dropout.

    Masking: the mask hides keys, never queries, and is kept. A query that may look at no key gets
    zeros before the output projection.

    Decoding: the cache is a ring of the keys that the next token may look at. Each row's tokens
    must come in order, and prompts must be of one length.

    In two dimensions the published code generates the blocks one after the other. Here later means
    later in the sequence, which is read row by row, so that training, cached steps and every other
    mixer agree on the order: a causal query sees what is earlier of its block and of the halo
    above it, to its left and to its right.

    Raises:
        ValueError: when a size is below 1, a halo is larger than a block, or the sequence is not as
            long as the grid.

    Example:

    >>> layer = LocalAttention(hidden_dim=6, num_heads=3, block_size=4)
    >>> tuple(layer(ops.ones((2, 11, 6)), use_causal_mask=True).shape)
    (2, 11, 6)
    >>> layer = LocalAttention(6, 3, block_size=(2, 3), halo=1, grid_size=(4, 5))
    >>> tuple(layer(ops.ones((2, 20, 6))).shape)
    (2, 20, 6)

    References:
        - [Parmar et al., 2018](https://arxiv.org/abs/1802.05751), section 4
        - its code, `local_attention_1d` and `local_attention_2d` of tensor2tensor
    """

    def __init__(self, hidden_dim, num_heads, block_size, halo=None, grid_size=None, **kwargs):
        super().__init__(hidden_dim, num_heads, **kwargs)
        self.block_size = block_size
        self.halo = halo
        self.grid_size = grid_size
        self._grid = None if grid_size is None else pair("grid_size", grid_size)
        self._block = self._read("block_size", block_size)
        self._halo = self._read("halo", block_size if halo is None else halo, smallest=0)
        if any(edge > size for edge, size in zip(self._halo, self._block, strict=True)):
            raise ValueError(
                "Expected a halo of at most block_size, received "
                f"halo={halo} and block_size={block_size}."
            )
        # As many keys as there are from the first that a query sees to itself.
        (rows, columns), (above, left) = self._block, self._halo
        self._ring = columns + left if grid_size is None else (rows + above) * self._grid[1]

    def _read(self, name, size, smallest=1):
        """Writes a size as rows and columns; one dimension is a grid of one row."""
        if self._grid is None and isinstance(size, (tuple, list)):
            raise ValueError(
                f"Expected {name} to be an integer without a grid_size, received {name}={size}."
            )
        rows, columns = pair(name, size, smallest)
        return (rows if self._grid else smallest, columns)

    def sees(self, queries, keys):
        """Tells which query may look at which key, by their positions in the sequence."""
        axes = [(queries, keys)]
        block, halo = self._block[1:], self._halo[1:]
        if self._grid is not None:
            columns = self._grid[1]
            axes = [(queries // columns, keys // columns), (queries % columns, keys % columns)]
            block, halo = self._block, self._halo
        seen = True
        for (query, key), size, edge in zip(axes, block, halo, strict=True):
            start = query // size * size
            near = ops.logical_and(key >= start - edge, key < start + size + edge)
            seen = ops.logical_and(near, seen)
        return seen

    def attend_sparsely(self, query, key, value, key_mask, is_causal=False, dropout=None):
        """Averages the values `(B, G, T, K)` for queries `(B, N, T, K)`, block by block."""
        after, allowed = self._halo, True
        if is_causal:
            # The rows above a position have earlier columns to its right.
            has_rows_above = self._block[0] + self._halo[0] > 1
            after = (0, self._halo[1] if has_rows_above else 0)
            rows, columns = memory_offsets(self._block, self._halo, after)
            is_left = ops.logical_and(ops.equal(rows, 0), columns <= 0)
            allowed = ops.logical_or(rows < 0, is_left)
        grid = self._grid or (1, ops.shape(query)[2])
        *tensors, mask = neighbourhoods(
            query, key, value, key_mask, grid, self._block, self._halo, after, allowed
        )
        outputs, _ = attend(*tensors, mask=mask, dropout=dropout)
        return join_blocks(outputs, ops.shape(query)[0], grid, self._block)

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step`: a ring of as many keys as a query may look at.

        Args:
            batch_size: int or scalar int tensor, `R`.
            max_length: int. Not read, because the ring has room for any length.

        Returns:
            Tuple of keys and values `(R, G, ring, K)`, two blocks long in one dimension.
        """
        shape = (batch_size, self._groups, self._ring, self._head_dim)
        return empty_cache(*shape, self.compute_dtype)

    def grow_cache(self, cache):
        """Returns the cache as it is, because the ring has room for any length."""
        return cache

    def step(self, inputs, cache, positions):
        """Attends from the next tokens of each row to themselves and what they see before them.

        Args:
            inputs: float tensor `(R, T, input_dim)`, all of them real: prompts must be of one
                length, because padding would take the places of older keys in the ring.
            cache: tuple of keys and values, as `init_cache` made it.
            positions: int tensor `(R,)`, where each row's first token goes.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the cache with the tokens written to it.
        """
        length, size, outputs = inputs.shape[1], max(self._ring, PART), []
        # A long prompt is read in parts, so that time and memory grow as its length and not as its
        # square. One of unknown length is read at once.
        for start in range(0, length or 1, size):
            part = inputs[:, start : start + size] if length else inputs
            output, cache = self._step(part, cache, ops.cast(positions, "int32")[:, None] + start)
            outputs.append(output)
        return ops.concatenate(outputs, axis=1), cache

    def _step(self, inputs, cache, start):
        new = start + ops.arange(ops.shape(inputs)[1], dtype="int32")
        held = ops.concatenate([held_positions(self._ring, start), new], axis=1)
        query, *entries = self._project_inputs(inputs, new)
        key, value = (ops.concatenate(x, axis=2) for x in zip(cache, entries, strict=True))
        queries, keys = new[:, None, :, None], held[:, None, None]
        is_earlier = ops.logical_and(keys >= 0, keys <= queries)
        mask = ops.logical_and(is_earlier, self.sees(queries, keys))
        outputs, _ = scaled_dot_product_attention(query, key, value, mask=mask)
        cache = tuple(write_ring(*pair, start) for pair in zip(cache, entries, strict=True))
        return self.output_dense(self._join_heads(outputs)), cache

    def _check_sequence(self, inputs, positions):
        super()._check_sequence(inputs, positions)
        if self._grid is not None:
            check_grid_length(inputs.shape[1], self._grid)

    def get_config(self):
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "halo": self.halo,
            "grid_size": self.grid_size,
        }
