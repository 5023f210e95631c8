"""The parts of GC ViT that are its own: convolutions between its blocks, and its global queries.

Letters: `B` batch, `T` positions of a grid, read row by row, `L` positions of a window. Grids are
float tensors `(B, rows, columns, channels)`.
"""

import keras
from keras import ops

from kerasformer.layers.blocks import EncoderBlock
from kerasformer.layers.children import Composite, child_seed
from kerasformer.layers.mixers.window_attention import WindowAttention

EPSILON = 1e-5  # of each normalisation


def _convolution(filters, kernel_size, strides, use_bias, name, dtype):
    """Makes a convolution, which is called with zeros around the grid where it needs some."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        use_bias=use_bias,
        data_format="channels_last",
        name=name,
        dtype=dtype,
    )


def _pad(grid, value=0.0):
    """Adds a row and a column around a grid, as torch does for a window of 3 and any step."""
    return ops.pad(grid, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=value)


class ExcitedConvolution(Composite):
    """Adds a depthwise convolution, squeeze and excitation, and a pointwise one to a grid.

    It is called `MBConv` in the paper, but it neither widens nor normalises.

    Args:
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    References:
        - [Hatamizadeh et al., 2022](https://arxiv.org/abs/2206.09959), equation 1
        - [Hu et al., 2017](https://arxiv.org/abs/1709.01507), squeeze and excitation
    """

    def build(self, grid_shape):
        policy, channels = self.dtype_policy, grid_shape[-1]
        self.depthwise = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            name="depthwise",
            dtype=policy,
        )
        # A quarter of the channels, and at least 8.
        squeezed = max(8, channels // 4)
        self.squeeze = keras.layers.Dense(squeezed, use_bias=False, name="squeeze", dtype=policy)
        self.excite = keras.layers.Dense(channels, use_bias=False, name="excite", dtype=policy)
        self.pointwise = _convolution(channels, 1, 1, False, "pointwise", policy)
        self.depthwise.build(grid_shape)
        self.squeeze.build((None, 1, 1, channels))
        self.excite.build((None, 1, 1, squeezed))
        self.pointwise.build(grid_shape)

    def call(self, grid):
        x = _gelu(self.depthwise(grid))
        gate = self.squeeze(ops.mean(x, axis=(1, 2), keepdims=True))
        x = x * ops.sigmoid(self.excite(_gelu(gate)))
        return grid + self.pointwise(x)


class Downsampling(Composite):
    """Normalises a grid, mixes it, and halves its rows and columns by a convolution.

    Args:
        filters: int. Channels of the result.
        strides: int. Step of the convolution; 1 keeps rows and columns.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    References:
        - [Hatamizadeh et al., 2022](https://arxiv.org/abs/2206.09959), section 3.1
    """

    def __init__(self, filters, strides=2, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm", dtype=policy)
        self.mixing = ExcitedConvolution(name="mixing", dtype=policy)
        self.reduction = _convolution(filters, 3, strides, False, "reduction", policy)
        self.output_norm = keras.layers.LayerNormalization(
            epsilon=EPSILON, name="output_norm", dtype=policy
        )

    def build(self, grid_shape):
        for layer in (self.norm, self.mixing, self.reduction):
            layer.build(grid_shape)
        self.output_norm.build((*grid_shape[:-1], self.reduction.filters))

    def call(self, grid):
        x = self.reduction(_pad(self.mixing(self.norm(grid))))
        return self.output_norm(x)


class GridStem(Composite):
    """Turns images into a grid: a convolution and a `Downsampling`.

    Args:
        hidden_dim: int. Channels of the grid.
        strides: pair of ints, the step of the convolution and that of the `Downsampling`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).
    """

    def __init__(self, hidden_dim, strides, **kwargs):
        super().__init__(**kwargs)
        first, second = strides
        self.convolution = _convolution(
            hidden_dim, 3, first, True, "convolution", self.dtype_policy
        )
        self.downsampling = Downsampling(
            hidden_dim, second, name="downsampling", dtype=self.dtype_policy
        )

    def build(self, images_shape):
        self.convolution.build(images_shape)
        self.downsampling.build((None, None, None, self.convolution.filters))

    def call(self, images):
        return self.downsampling(self.convolution(_pad(ops.cast(images, self.compute_dtype))))


class GlobalQueries(Composite):
    """Turns a grid into as many queries as a window has positions: what all windows are asked.

    Args:
        num_steps: int. How often rows and columns are halved, by the maximum over 3 x 3 positions.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    References:
        - [Hatamizadeh et al., 2022](https://arxiv.org/abs/2206.09959), section 3.2
    """

    def __init__(self, num_steps, **kwargs):
        super().__init__(**kwargs)
        self.num_steps = num_steps
        self.mixings = [
            ExcitedConvolution(name=f"mixing_{index}", dtype=self.dtype_policy)
            for index in range(max(num_steps, 1))
        ]

    def build(self, grid_shape):
        for mixing in self.mixings:
            mixing.build(grid_shape)

    def call(self, grid):
        x = grid
        for index, mixing in enumerate(self.mixings):
            x = mixing(x)
            if index < self.num_steps:
                x = ops.max_pool(_pad(x, -float("inf")), 3, 2, data_format="channels_last")
        batch, rows, columns, channels = ops.shape(x)
        return ops.reshape(x, (batch, rows * columns, channels))


class GlobalQueryBlock(EncoderBlock):
    """Hands queries from outside to the mixer of an `EncoderBlock`."""

    def build(self, inputs_shape, queries_shape=None):
        super().build(inputs_shape)

    def call(self, inputs, queries, return_attention_scores=False):
        mixer = self.self_attention.sublayer
        options = {"return_attention_scores": True} if return_attention_scores else {}
        x = self.self_attention.apply(inputs, lambda x: mixer(x, queries=queries, **options))
        return self._feed(x, return_attention_scores)

    def compute_output_shape(self, inputs_shape, queries_shape=None):
        return inputs_shape


class Stage(Composite):
    """Applies blocks of window attention to a grid, every second of them with global queries.

    Args:
        num_layers: int. Number of blocks.
        hidden_dim: int. Channels of the grid.
        num_heads: int. Number of heads.
        grid_size: tuple of int, rows and columns.
        window_size: tuple of int, rows and columns of a window.
        intermediate_dim: int. Inner size of the feed-forward layers.
        stochastic_depth: list of float, the rate of each block.
        attention_dropout: float. Rate of the attention probabilities.
        seed: int or `None`.
        block: dict of the other arguments of `EncoderBlock`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).
    """

    def __init__(
        self,
        num_layers,
        hidden_dim,
        num_heads,
        grid_size,
        window_size,
        intermediate_dim,
        stochastic_depth,
        attention_dropout,
        seed,
        block,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        steps = _halvings(grid_size, window_size)
        self.global_queries = None
        if num_layers > 1:
            self.global_queries = GlobalQueries(
                steps, name="global_queries", dtype=self.dtype_policy
            )
        self.blocks = []
        for index in range(num_layers):
            mixer = WindowAttention(
                hidden_dim,
                num_heads,
                window_size,
                grid_size,
                use_global_queries=index % 2 == 1,
                dropout=attention_dropout,
                dtype=self.dtype_policy,
            )
            block_class = GlobalQueryBlock if index % 2 else EncoderBlock
            self.blocks.append(
                block_class(
                    hidden_dim,
                    intermediate_dim=intermediate_dim,
                    mixer=mixer,
                    stochastic_depth=stochastic_depth[index],
                    epsilon=EPSILON,
                    seed=child_seed(seed, f"block_{index}"),
                    name=f"block_{index}",
                    dtype=self.dtype_policy,
                    **block,
                )
            )

    def build(self, grid_shape):
        if self.global_queries is not None:
            self.global_queries.build(grid_shape)
        for block in self.blocks:
            block.build((None, None, self.hidden_dim))

    def call(self, grid, return_attention_scores=False):
        queries = None if self.global_queries is None else self.global_queries(grid)
        batch, rows, columns, channels = ops.shape(grid)
        x, all_scores = ops.reshape(grid, (batch, rows * columns, channels)), []
        options = {"return_attention_scores": True} if return_attention_scores else {}
        for block in self.blocks:
            is_global = isinstance(block, GlobalQueryBlock)
            x = block(x, queries, **options) if is_global else block(x, **options)
            if return_attention_scores:
                x, scores = x
                all_scores.append(scores)
        x = ops.reshape(x, (batch, rows, columns, channels))
        return (x, all_scores) if return_attention_scores else x


def _halvings(grid_size, window_size):
    """Counts how often a grid is halved until it is a window.

    Raises:
        ValueError: when it never is.
    """
    size, count = grid_size, 0
    while min(size) > min(window_size):
        size, count = tuple(-(-side // 2) for side in size), count + 1
    is_cut = any(side % part for side, part in zip(grid_size, window_size, strict=True))
    if size != window_size or is_cut:
        raise ValueError(
            "Expected a window_size that divides its grid, and that the grid has once it is halved "
            f"often enough, received window_size={window_size} for a grid of {grid_size}."
        )
    return count


def _gelu(x):
    return ops.gelu(x, approximate=False)
