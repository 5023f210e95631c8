"""Window attention: a grid is cut into windows, and positions look at their own window alone."""

import functools

import keras
from keras import ops

from kerasformer.layers.initializers import make_dense
from kerasformer.layers.masks import fits
from kerasformer.layers.mixers.dot_product import attend
from kerasformer.layers.mixers.neighbourhoods import cut_blocks, join_blocks, memory_offsets
from kerasformer.layers.mixers.patterns import PatternAttention, check_grid_length
from kerasformer.layers.sizes import pair


@keras.saving.register_keras_serializable(package="kerasformer")
class WindowAttention(PatternAttention):
    """Lets each position of a grid look at its window, with a learned bias for relative positions.

    A list of two mixers, one of them with a `shift`, makes the blocks of a Swin Transformer. With
    `use_global_queries` the layer projects keys and values alone, and every window is asked the
    same queries, which come from outside: the global attention of GC ViT.

    Args:
        hidden_dim: int. Size of the outputs.
        num_heads: int. Number of heads.
        window_size: int or pair of ints `(rows, columns)`. Size of a window. The last windows may
            be cut off by the end of the grid.
        grid_size: pair of ints `(rows, columns)` of the sequence, which is read row by row.
        shift: int or pair of ints, less than `window_size`. How far windows are moved down and to
            the right. What is cut off at one side of the grid shares a window with what is cut off
            at the other, and neither sees the other.
        use_global_queries: bool. Whether queries come from outside.
        **kwargs: the other arguments of `MultiHeadAttention`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`, `T` the size of the grid.
        queries: float tensor `(B, window positions, N * K)`, with `use_global_queries` alone.
        mask: boolean tensor `(B, T)`, the real positions of `inputs`.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        positions: int tensor as `rotate` takes it, for `use_rotary`; `None` means `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`. Scores are those of
            all pairs, so that asking for them takes the time and memory of dense attention.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, T)` before dropout.

    Masking: the mask hides keys, never queries, and is kept. Padding of cut-off windows is
    hidden too.

    Raises:
        ValueError: when a size is below 1, the shift is as large as a window, the sequence is not
            as long as the grid, or queries are missing or too many.

    Example:

    >>> layer = WindowAttention(6, 3, window_size=2, grid_size=(4, 6), shift=1)
    >>> tuple(layer(ops.ones((2, 24, 6))).shape)
    (2, 24, 6)

    References:
        - [Liu et al., 2021](https://arxiv.org/abs/2103.14030), section 3.2
        - [Hatamizadeh et al., 2022](https://arxiv.org/abs/2206.09959), section 3.3
    """

    def __init__(
        self,
        hidden_dim,
        num_heads,
        window_size,
        grid_size,
        shift=0,
        use_global_queries=False,
        **kwargs,
    ):
        super().__init__(hidden_dim, num_heads, **kwargs)
        self.window_size = window_size
        self.grid_size = grid_size
        self.shift = shift
        self.use_global_queries = use_global_queries
        self._window = pair("window_size", window_size)
        self._grid = pair("grid_size", grid_size)
        self._shift = pair("shift", shift, smallest=0)
        if any(move >= size for move, size in zip(self._shift, self._window, strict=True)):
            raise ValueError(
                "Expected a shift of less than window_size, received "
                f"shift={shift} and window_size={window_size}."
            )
        if use_global_queries and self.use_rotary:
            raise ValueError(
                "Expected use_rotary=False with use_global_queries=True, received use_rotary=True."
            )
        sizes = zip(self._grid, self._window, strict=True)
        self._padded = tuple(-(-size // side) * side for size, side in sizes)

    def build(self, inputs_shape):
        if self.use_global_queries:
            self.key_value_dense = make_dense(
                self, 2 * self._groups * self._head_dim, "key_value_dense"
            )
        super().build(inputs_shape)
        rows, columns = self._window
        self.position_biases = self.add_weight(
            name="position_biases",
            shape=((2 * rows - 1) * (2 * columns - 1), self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def _build_own(self, inputs_shape):
        if not self.use_global_queries:
            super()._build_own(inputs_shape)
            return
        self.key_value_dense.build(inputs_shape)
        self.output_dense.build((*inputs_shape[:-1], self.num_heads * self._head_dim))

    def call(
        self,
        inputs,
        *,
        queries=None,
        mask=None,
        inputs_mask=None,
        positions=None,
        return_attention_scores=False,
        training=None,
    ):
        self._check_sequence(inputs, positions)
        check_grid_length(inputs.shape[1], self._grid)
        if self.use_global_queries:
            heads = self._project_global(inputs, queries)
            if return_attention_scores:
                heads[0] = ops.take(heads[0], self._cells(), axis=2)
        elif queries is not None:
            raise ValueError(
                "Expected queries=None with use_global_queries=False, received a value for queries."
            )
        else:
            heads = self._project_inputs(inputs, positions)
        return self._attend_by_pattern(
            heads,
            inputs_mask if mask is None else mask,
            return_attention_scores,
            dropout=self._dropout_function(training),
        )

    def _project_global(self, inputs, queries):
        size = self._window[0] * self._window[1]
        shape = (inputs.shape[0], size, self.num_heads * self._head_dim)
        if queries is None or not fits(queries.shape, shape):
            raise ValueError(
                f"Expected queries of shape {shape} with use_global_queries=True, received "
                f"{None if queries is None else tuple(queries.shape)}."
            )
        key_value = self._split_heads(self.key_value_dense(inputs), 2 * self._groups)
        query = self._split_heads(ops.cast(queries, key_value.dtype), self.num_heads)
        return [query, *ops.split(key_value, 2, axis=1)]

    def sees(self, queries, keys):
        """Tells which query may look at which key, by their positions in the sequence."""
        (window, _, is_moved), (other, _, other_is_moved) = map(self._locate, (queries, keys))
        pairs = zip(window + is_moved, other + other_is_moved, strict=True)
        return functools.reduce(ops.logical_and, [ops.equal(x, y) for x, y in pairs])

    def bias(self, queries, keys):
        """Returns the biases `(1, N, T, S)` of pairs, right for those of one window."""
        (_, cell, _), (_, other, _) = map(self._locate, (queries, keys))
        cells = zip(cell, other, self._window, strict=True)
        rows, columns = (x - y + side - 1 for x, y, side in cells)
        index = rows * (2 * self._window[1] - 1) + columns
        biases = ops.take(self.position_biases, index[:, 0], axis=0)
        return ops.transpose(biases, (0, 3, 1, 2))

    def _locate(self, positions):
        """Finds rows and columns of windows, of cells in them, and whether a shift moved them."""
        columns = self._grid[1]
        windows, cells, is_moved = [], [], []
        indices = positions // columns, positions % columns
        axes = zip(indices, self._shift, self._padded, self._window, strict=True)
        for index, shift, size, side in axes:
            moved = (index - shift) % size
            windows.append(moved // side)
            cells.append(moved % side)
            is_moved.append(index < shift)
        return windows, cells, is_moved

    def _cells(self):
        """Returns the number of each position within its window, an int32 tensor `(T,)`."""
        _, (rows, columns), _ = self._locate(
            ops.arange(self._grid[0] * self._grid[1], dtype="int32")
        )
        return rows * self._window[1] + columns

    def attend_sparsely(self, query, key, value, key_mask, dropout=None):
        """Averages the values `(B, G, T, K)` for queries `(B, N, T, K)`, window by window."""
        batch = ops.shape(key)[0]
        if self.use_global_queries:
            count = self._padded[0] * self._padded[1] // (self._window[0] * self._window[1])
            query = ops.repeat(query, count, axis=0)
        else:
            query = self._cut(query)
        outputs, _ = attend(
            query,
            self._cut(key),
            self._cut(value),
            mask=self._window_mask(batch, key_mask),
            position_bias=self._window_bias(),
            dropout=dropout,
        )
        return self._join(outputs, batch)

    def _window_bias(self):
        rows, columns = memory_offsets(self._window)
        height, breadth = self._window
        index = (height - 1 - rows) * (2 * breadth - 1) + breadth - 1 - columns
        return ops.transpose(ops.take(self.position_biases, index, axis=0), (2, 0, 1))

    def _window_mask(self, batch, key_mask):
        """Returns which keys of a window are to be seen `(B * C, 1, L, L)`, or `None` for all."""
        if key_mask is None and self._padded == self._grid and not any(self._shift):
            return None
        if key_mask is None:
            key_mask = ops.ones((batch, self._grid[0] * self._grid[1]), "bool")
        # As numbers, because not every backend pads booleans.
        real = self._cut(ops.cast(key_mask, "int8")[:, None, :, None])[..., 0] > 0
        cells = ops.arange(self._padded[0] * self._padded[1], dtype="int32")[None, None, :, None]
        rows, columns = cells // self._padded[1], cells % self._padded[1]
        moved = [
            ops.cast(x < edge, "int8") for x, edge in zip((rows, columns), self._shift, strict=True)
        ]
        moved = self._cut(2 * moved[0] + moved[1], self._padded)
        is_near = ops.equal(moved, ops.swapaxes(moved, 2, 3))[:, 0]
        size, count = is_near.shape[1], is_near.shape[0]
        mask = ops.logical_and(ops.reshape(real, (batch, count, 1, size)), is_near)
        return ops.reshape(mask, (batch * count, 1, size, size))

    def _cut(self, x, grid_size=None):
        """Cuts `(B, N, T, K)` into windows `(B * C, N, L, K)`, once they are moved."""
        grid_size = grid_size or self._grid
        if any(self._shift):
            batch, heads, _, width = ops.shape(x)
            x = ops.reshape(x, (batch, heads, *grid_size, width))
            missing = [[0, size - side] for size, side in zip(self._padded, grid_size, strict=True)]
            x = ops.pad(x, [[0, 0], [0, 0], *missing, [0, 0]])
            x = ops.roll(x, [-shift for shift in self._shift], axis=[2, 3])
            grid_size = self._padded
            x = ops.reshape(x, (batch, heads, grid_size[0] * grid_size[1], width))
        return cut_blocks(x, grid_size, self._window)

    def _join(self, x, batch):
        """Puts windows together again: the inverse of `_cut`."""
        if not any(self._shift):
            return join_blocks(x, batch, self._grid, self._window)
        x = join_blocks(x, batch, self._padded, self._window)
        _, heads, _, width = ops.shape(x)
        x = ops.roll(ops.reshape(x, (batch, heads, *self._padded, width)), self._shift, axis=[2, 3])
        x = x[:, :, : self._grid[0], : self._grid[1]]
        return ops.reshape(x, (batch, heads, self._grid[0] * self._grid[1], width))

    def get_config(self):
        return {
            **super().get_config(),
            "window_size": self.window_size,
            "grid_size": self.grid_size,
            "shift": self.shift,
            "use_global_queries": self.use_global_queries,
        }
