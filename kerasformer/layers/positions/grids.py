"""Positions in two dimensions: a learned table, fixed sinusoids, and coordinates for rotation.

A grid `(rows, columns)` is read row by row, behind the prefix tokens, which are not part of it. A
table made for one grid serves another one by `resize_grid`, the only resize there is. Everything
is computed in float32 and cast last. Letters: `B` batch, `T` length, prefix tokens included.
"""

import keras
from keras import ops

from kerasformer.layers.initializers import serialize_initializer
from kerasformer.layers.positions.sequences import sinusoidal_positions


def resize_grid(table, old_grid, new_grid):
    """Resizes the vectors of a grid to another grid, as a picture: bicubic, with antialiasing.

    It is the resize of `jax.image.resize` and `tf.image.resize` with `antialias=True` (Keys's
    kernel, centres of pixels at one half), as two matrix products, for any backend and XLA.

    Args:
        table: float tensor or array `(num_prefix_tokens + rows * columns, hidden_dim)`. What it
            has more than the old grid are prefix tokens, which are kept as they are.
        old_grid: tuple of int. Rows and columns of `table`.
        new_grid: tuple of int. Rows and columns of the result.

    Returns:
        Float tensor `(num_prefix_tokens + new rows * new columns, hidden_dim)` of the dtype of
        `table`; for the same grid `table` itself.

    Raises:
        ValueError: when the old grid has more positions than the table has rows.

    Example:

    >>> table = ops.array([[9.0], [1.0], [5.0]])
    >>> print(resize_grid(table, (1, 2), (1, 3)).numpy().ravel().round(2))
    [9.   0.74 3.   5.26]

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), section 3.2
        - [Keys, 1981](https://doi.org/10.1109/TASSP.1981.1163711)
    """
    (rows, columns), (new_rows, new_columns) = old_grid, new_grid
    num_prefix_tokens = table.shape[0] - rows * columns
    if num_prefix_tokens < 0:
        raise ValueError(
            f"Expected a table of at least {rows * columns} rows for old_grid={tuple(old_grid)}, "
            f"received table.shape={tuple(table.shape)}."
        )
    if (rows, columns) == (new_rows, new_columns):
        return table
    table = ops.convert_to_tensor(table)
    prefix, grid = ops.split(table, [num_prefix_tokens], axis=0)
    hidden_dim = table.shape[-1]
    x = ops.reshape(ops.cast(grid, "float32"), (rows, columns * hidden_dim))
    x = ops.matmul(_resize_matrix(rows, new_rows), x)
    x = ops.reshape(x, (new_rows, columns, hidden_dim))
    x = ops.matmul(_resize_matrix(columns, new_columns), x)
    x = ops.reshape(x, (new_rows * new_columns, hidden_dim))
    return ops.concatenate([prefix, ops.cast(x, table.dtype)], axis=0)


def _resize_matrix(old_size, new_size):
    """Returns the weights `(new_size, old_size)` with which new pixels average the old ones."""
    ratio = old_size / new_size
    centres = (ops.arange(new_size, dtype="float32") + 0.5) * ratio - 0.5
    distances = ops.abs(centres[:, None] - ops.arange(old_size, dtype="float32")[None])
    # Antialiasing: where pixels become fewer, each reads as many more.
    x = distances / max(ratio, 1.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    weights = ops.where(x < 1.0, near, ops.where(x < 2.0, far, 0.0))
    return weights / ops.sum(weights, axis=1, keepdims=True)


def grid_positions(grid_size, num_prefix_tokens=0):
    """Lists the row and the column of each token, as `RotaryEmbedding` takes them.

    Args:
        grid_size: tuple of int. Rows and columns.
        num_prefix_tokens: int. Tokens before the grid; they get row 0 and column 0, where nothing
            is turned.

    Returns:
        int32 tensor `(1, num_prefix_tokens + rows * columns, 2)`.

    Example:

    >>> grid_positions((2, 2), num_prefix_tokens=1).numpy().tolist()
    [[[0, 0], [0, 0], [0, 1], [1, 0], [1, 1]]]
    """
    rows, columns = grid_size
    indices = ops.arange(rows * columns, dtype="int32")
    positions = ops.stack([indices // columns, indices % columns], axis=-1)
    return ops.pad(positions, [[num_prefix_tokens, 0], [0, 0]])[None]


class _GridPositions(keras.layers.Layer):
    """Adds a table of positions to a sequence; the table is resized to the grid of the call."""

    def __init__(self, grid_size, num_prefix_tokens=0, **kwargs):
        super().__init__(**kwargs)
        if len(grid_size) != 2 or min(grid_size) < 1:
            raise ValueError(
                f"Expected grid_size to be two positive numbers, received grid_size={grid_size}."
            )
        self.grid_size = tuple(grid_size)
        self.num_prefix_tokens = num_prefix_tokens
        self.supports_masking = True

    def call(self, inputs, *, grid_size=None):
        rows, columns = grid_size = self.grid_size if grid_size is None else grid_size
        length = self.num_prefix_tokens + rows * columns
        if inputs.shape[1] not in (None, length):
            raise ValueError(
                f"Expected {length} steps for grid_size={(rows, columns)} and "
                f"num_prefix_tokens={self.num_prefix_tokens}, received length={inputs.shape[1]}."
            )
        table = resize_grid(self.position_table(inputs.shape[-1]), self.grid_size, grid_size)
        return inputs + ops.cast(table, inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "grid_size": self.grid_size,
            "num_prefix_tokens": self.num_prefix_tokens,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class LearnedGridPositions(_GridPositions):
    """Adds a trained vector to each position of a grid, and to each prefix token.

    Weights that were stored by a layer of another grid are resized when they are loaded, and the
    table is resized when a call says that its grid is another one.

    Args:
        grid_size: tuple of int. Rows and columns of the table.
        num_prefix_tokens: int. Tokens before the grid, which have a vector each.
        embeddings_initializer: Keras initializer, its name or its config; `None` means a normal
            distribution with a standard deviation of 0.02.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, num_prefix_tokens + rows * columns, hidden_dim)`.
        grid_size: tuple of int, the grid of these inputs; `None` means that of the table.

    Returns:
        Float tensor of the shape of `inputs`.

    Masking: the mask of the inputs is kept.

    Raises:
        ValueError: when the length of the inputs is not that of their grid.

    Example:

    >>> layer = LearnedGridPositions(grid_size=(2, 3), num_prefix_tokens=1)
    >>> tuple(layer(ops.zeros((1, 7, 4))).shape)
    (1, 7, 4)
    >>> tuple(layer(ops.zeros((1, 16, 4)), grid_size=(3, 5)).shape)
    (1, 16, 4)

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), section 3.1
    """

    def __init__(self, grid_size, num_prefix_tokens=0, embeddings_initializer=None, **kwargs):
        super().__init__(grid_size, num_prefix_tokens, **kwargs)
        self.embeddings_initializer = embeddings_initializer

    def build(self, inputs_shape):
        rows, columns = self.grid_size
        self.table = self.add_weight(
            name="table",
            shape=(self.num_prefix_tokens + rows * columns, inputs_shape[-1]),
            initializer=self.embeddings_initializer or keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,
        )

    def position_table(self, hidden_dim):
        """Returns the table `(num_prefix_tokens + rows * columns, hidden_dim)`."""
        return ops.convert_to_tensor(self.table)

    def load_table(self, table, grid_size):
        """Takes over a trained table, resized where its grid is another one.

        Args:
            table: float array `(num_prefix_tokens + rows * columns, hidden_dim)`.
            grid_size: tuple of int. Rows and columns of `table`.

        Raises:
            ValueError: when the prefix tokens or the width are not those of the layer.
        """
        table = resize_grid(table, grid_size, self.grid_size)
        if tuple(table.shape) != tuple(self.table.shape):
            raise ValueError(
                f"Expected a table of shape {tuple(self.table.shape)} once it has "
                f"grid_size={self.grid_size}, received shape={tuple(table.shape)}."
            )
        self.table.assign(table)

    def save_own_variables(self, store):
        """Stores the table and its grid, for `load_own_variables`."""
        store["0"] = self.table
        store["grid_size"] = ops.array(self.grid_size, "int32")

    def load_own_variables(self, store):
        """Takes over a stored table by `load_table`."""
        grid_size = tuple(int(size) for size in store["grid_size"])
        self.load_table(store["0"][:], grid_size)

    def get_config(self):
        return {
            **super().get_config(),
            "embeddings_initializer": serialize_initializer(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class SinusoidalGridPositions(_GridPositions):
    """Adds fixed sinusoids of the column and of the row to each position of a grid.

    Each fills half of the vector in the way `layout` names; prefix tokens get nothing. Published
    encodings:

    | system | layout |
    |---|---|
    | big_vision (`sincos2d`) | `tensor2tensor` |
    | MoCo v3, MAE | `concatenated` |

    Args:
        grid_size: tuple of int. Rows and columns.
        num_prefix_tokens: int. Tokens before the grid.
        layout: str. As `sinusoidal_positions` defines it.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, num_prefix_tokens + rows * columns, hidden_dim)`, `hidden_dim` a
            multiple of 4.
        grid_size: tuple of int, the grid of these inputs, to which the sinusoids are resized;
            `None` means that of the layer.

    Returns:
        Float tensor of the shape of `inputs`.

    Masking: the mask of the inputs is kept.

    Raises:
        ValueError: for another layout, when 4 does not divide `hidden_dim`, or when the length of
            the inputs is not that of their grid.

    Example:

    >>> outputs = SinusoidalGridPositions(grid_size=(1, 2))(ops.zeros((1, 2, 4)))
    >>> ops.round(outputs[0, 1], 2).numpy().tolist()
    [0.8399999737739563, 0.5400000214576721, 0.0, 1.0]

    References:
        - [Chen et al., 2021](https://arxiv.org/abs/2104.02057), section 6.1
        - [Beyer et al., 2022](https://arxiv.org/abs/2205.01580)
    """

    def __init__(self, grid_size, num_prefix_tokens=0, layout="tensor2tensor", **kwargs):
        super().__init__(grid_size, num_prefix_tokens, **kwargs)
        self.layout = layout

    def build(self, inputs_shape):
        if inputs_shape[-1] % 4:
            raise ValueError(
                "Expected hidden_dim to be a multiple of 4, received "
                f"hidden_dim={inputs_shape[-1]}."
            )

    def position_table(self, hidden_dim):
        """Computes the table `(num_prefix_tokens + rows * columns, hidden_dim)`."""
        size, positions = hidden_dim // 2, grid_positions(self.grid_size)[0]
        rows, columns = (
            sinusoidal_positions(positions[:, axis], size, self.layout) for axis in (0, 1)
        )
        table = ops.concatenate([columns, rows], axis=-1)
        return ops.pad(table, [[self.num_prefix_tokens, 0], [0, 0]])

    def get_config(self):
        return {**super().get_config(), "layout": self.layout}
