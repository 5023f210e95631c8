"""Positions that are added to a sequence: fixed sinusoids and a learned table.

Sinusoids are computed in float32 (bfloat16 cannot tell 256 from 257) and cast last. Letters: `B`
batch, `T` length.
"""

import keras
from keras import ops

from kerasformer.layers.initializers import serialize_initializer
from kerasformer.layers.masks import fits
from kerasformer.layers.sizes import check_sizes

LAYOUTS = ("interleaved", "concatenated", "tensor2tensor")


def sinusoidal_positions(positions, hidden_dim, layout="interleaved"):
    """Computes sines and cosines of the positions at geometrically falling frequencies.

    With `d = hidden_dim` and `i = 0 .. d/2 - 1`, the angle is `position / 10000^(2i/d)`, in the
    layout `tensor2tensor` `position / 10000^(i/(d/2 - 1))`. Published layouts:

    | system | layout | first position |
    |---|---|---|
    | Vaswani et al. 2017 | `interleaved`: sin, cos, sin, cos, ... | 0 |
    | Marian, Sockeye | `concatenated`: all sines, then all cosines | 0 |
    | tensor2tensor | `tensor2tensor`: concatenated, other exponent | 0 |
    | OpenNMT-tf, CTranslate2 | `tensor2tensor` | 1 |

    Args:
        positions: int or float tensor of any shape.
        hidden_dim: int. Even size of an encoding.
        layout: str. `"interleaved"`, `"concatenated"` or `"tensor2tensor"`.

    Returns:
        float32 tensor of shape `(*positions.shape, hidden_dim)`.

    Raises:
        ValueError: for another layout.

    Example:

    >>> ops.round(sinusoidal_positions(ops.array([0, 1]), 4), 2).numpy().tolist()[0]
    [0.0, 1.0, 0.0, 1.0]

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5
    """
    if layout not in LAYOUTS:
        raise ValueError(f"Expected layout to be one of {LAYOUTS}, received layout={layout!r}.")
    half = hidden_dim // 2
    steps = max(half - 1, 1) if layout == "tensor2tensor" else half
    exponents = ops.arange(half, dtype="float32") / steps
    angles = ops.cast(positions, "float32")[..., None] * ops.power(10000.0, -exponents)
    if layout == "interleaved":
        pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.reshape(pairs, (*ops.shape(angles)[:-1], hidden_dim))
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


def check_positions(positions, batch_size, length, max_rank=2):
    """Makes a tensor of the positions of a call, or raises when they are not one for each step.

    Args:
        positions: int tensor, array or list `(T,)`, `(B, T)` or `(B, T, A)`; `B` may be 1.
        batch_size: int or `None`. `B` of the inputs, where it is known.
        length: int or `None`. `T` of the inputs, where it is known.
        max_rank: int. 2, or 3 where a position may have `A` coordinates.

    Returns:
        Tensor of the shape of `positions`.

    Raises:
        ValueError: for another shape.

    Example:

    >>> tuple(check_positions([0, 1, 2], batch_size=2, length=3).shape)
    (3,)
    """
    positions = ops.convert_to_tensor(positions)
    shape, shapes = tuple(positions.shape), [(length,), (batch_size, length), (1, length)]
    if len(shape) > max_rank or not any(fits(shape[:2], sizes) for sizes in shapes):
        raise ValueError(
            f"Expected positions of shape (T,) or (B, T) with B={batch_size} and T={length}, "
            f"received shape={shape}."
        )
    return positions


def _check_range(positions, size):
    """Raises for positions outside of a table, where their values are known: outside of graphs."""
    try:
        values = ops.convert_to_numpy(positions)
    except (NotImplementedError, TypeError):  # a tensor of a graph of TensorFlow, a tracer of JAX
        return
    if values.size and (values.min() < 0 or values.max() >= size):
        raise ValueError(
            f"Expected positions from 0 to {size - 1} with max_length={size}, received positions "
            f"from {values.min()} to {values.max()}."
        )


@keras.saving.register_keras_serializable(package="kerasformer")
class SinusoidalPositionEncoding(keras.layers.Layer):
    """Adds fixed sinusoids to a sequence of any length.

    Args:
        layout: str. `"interleaved"`, `"concatenated"` or `"tensor2tensor"`, as
            `sinusoidal_positions` defines them.
        start: int. The position of the first token, 0 or 1.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`, `hidden_dim` even.
        positions: int tensor `(T,)` or `(B, T)`, counted from 0; `None` means `0..T-1`.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: the mask of the inputs is kept.

    Raises:
        ValueError: for another layout or start, an odd `hidden_dim`, or positions that are not
            one for each step.

    Example:

    >>> outputs = SinusoidalPositionEncoding()(ops.zeros((1, 2, 4)))
    >>> ops.round(outputs[0, 1], 2).numpy().tolist()
    [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5
    """

    def __init__(self, layout="interleaved", start=0, **kwargs):
        super().__init__(**kwargs)
        if layout not in LAYOUTS:
            raise ValueError(f"Expected layout to be one of {LAYOUTS}, received layout={layout!r}.")
        if start not in (0, 1):
            raise ValueError(f"Expected start to be 0 or 1, received start={start!r}.")
        self.layout = layout
        self.start = start
        self.supports_masking = True

    def build(self, inputs_shape):
        if inputs_shape[-1] % 2:
            raise ValueError(
                f"Expected hidden_dim to be even, received hidden_dim={inputs_shape[-1]}."
            )

    def call(self, inputs, *, positions=None):
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        else:
            positions = check_positions(positions, *inputs.shape[:2])
        table = sinusoidal_positions(positions + self.start, inputs.shape[-1], self.layout)
        return inputs + ops.cast(table, inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "layout": self.layout, "start": self.start}


@keras.saving.register_keras_serializable(package="kerasformer")
class LearnedPositionEmbedding(keras.layers.Layer):
    """Adds a trained vector per position to a sequence.

    Args:
        max_length: int. Number of positions in the table.
        embeddings_initializer: Keras initializer, its name or its config; `None` means a
            truncated normal distribution with a standard deviation of 0.02.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`, `T <= max_length`.
        positions: int tensor `(T,)` or `(B, T)`, each below `max_length`; `None` means `0..T-1`.
            Compiled code does not check their values: JAX makes vectors of NaN for those outside
            of the table, and a GPU with TensorFlow zeros.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: the mask of the inputs is kept.

    Raises:
        ValueError: when `max_length` is not positive, `T` exceeds it, or positions are not one
            for each step; outside of compiled code also when one lies outside of the table.

    Example:

    >>> layer = LearnedPositionEmbedding(max_length=7)
    >>> tuple(layer(ops.zeros((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Gehring et al., 2017](https://arxiv.org/abs/1705.03122), section 3.1
    """

    def __init__(self, max_length, embeddings_initializer=None, **kwargs):
        super().__init__(**kwargs)
        check_sizes(max_length=max_length)
        self.max_length = max_length
        self.embeddings_initializer = embeddings_initializer
        self.supports_masking = True

    def build(self, inputs_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.max_length, inputs_shape[-1]),
            initializer=self.embeddings_initializer
            or keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, inputs, *, positions=None):
        length = inputs.shape[1]
        if isinstance(length, int) and length > self.max_length:  # JAX may know it as a symbol.
            raise ValueError(
                f"Expected at most max_length={self.max_length} positions, received "
                f"length={length}."
            )
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        else:
            positions = check_positions(positions, *inputs.shape[:2])
            _check_range(positions, self.max_length)
        return inputs + ops.take(ops.convert_to_tensor(self.embeddings), positions, axis=0)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "embeddings_initializer": serialize_initializer(self.embeddings_initializer),
        }
