"""Where a token stands: fixed sinusoids, a learned table, rotation of queries and keys.

Everything that depends on a position is computed in float32 (bfloat16 cannot tell 256 from
257) and cast last. Letters: `B` batch, `T` length, `N` heads, `K` size of a head.
"""

import keras
from keras import ops

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


def rotate(inputs, positions, max_wavelength=10000.0):
    """Turns each pair `(x_j, x_{j + K/2})` of a head by `position / max_wavelength^(2j/K)`.

    Where a position has `A` coordinates (row and column), the head is cut in `A` equal parts, and
    each part is turned by one coordinate as if it were a head of its own.

    Args:
        inputs: float tensor `(B, N, T, K)`, `K` a multiple of `2 A`.
        positions: int tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`.
        max_wavelength: float. Base of the wavelengths.

    Returns:
        Float tensor `(B, N, T, K)` of the dtype of `inputs`. The product of a turned query and a
        turned key depends on the distance of their positions only.

    References:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864), equation 34, in the half-split
          order of GPT-NeoX
        - [Heo et al., 2024](https://arxiv.org/abs/2403.13298), section 3.1, axial frequencies
    """
    if len(positions.shape) == 3:
        parts = ops.split(inputs, positions.shape[-1], axis=-1)
        turned = [
            rotate(part, positions[..., axis], max_wavelength) for axis, part in enumerate(parts)
        ]
        return ops.concatenate(turned, axis=-1)
    half = inputs.shape[-1] // 2
    frequencies = ops.power(max_wavelength, -ops.arange(half, dtype="float32") / half)
    angles = ops.cast(positions, "float32")[..., None] * frequencies
    angles = angles[None, None] if len(positions.shape) == 1 else angles[:, None]
    cos, sin = ops.cos(angles), ops.sin(angles)
    x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    first, second = x[..., :half], x[..., half:]
    turned = ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return ops.cast(turned, inputs.dtype)


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
        ValueError: for another layout or start, or an odd `hidden_dim`.

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
            raise ValueError(f"Expected hidden_dim to be even, received {inputs_shape[-1]}.")

    def call(self, inputs, positions=None):
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
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
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`, `T <= max_length`.
        positions: int tensor `(T,)` or `(B, T)`; `None` means `0..T-1`.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: the mask of the inputs is kept.

    Raises:
        ValueError: when a static `T` exceeds `max_length`.

    Example:

    >>> layer = LearnedPositionEmbedding(max_length=7)
    >>> tuple(layer(ops.zeros((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Gehring et al., 2017](https://arxiv.org/abs/1705.03122), section 3.1
    """

    def __init__(self, max_length, **kwargs):
        super().__init__(**kwargs)
        self.max_length = max_length
        self.supports_masking = True

    def build(self, inputs_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.max_length, inputs_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, inputs, positions=None):
        length = inputs.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"Expected at most max_length={self.max_length} positions, received {length}."
            )
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        return inputs + ops.take(ops.convert_to_tensor(self.embeddings), positions, axis=0)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length}


@keras.saving.register_keras_serializable(package="kerasformer")
class RotaryEmbedding(keras.layers.Layer):
    """Turns the heads of queries or keys by angles that grow with their position.

    Args:
        max_wavelength: float. Base of the wavelengths.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, N, T, K)`, `K` even.
        positions: int tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`, `A` coordinates each as
            `rotate` explains; `None` means `0..T-1`.

    Returns:
        Float tensor `(B, N, T, K)`.

    Masking: produces no mask.

    Raises:
        ValueError: when `K` is odd, or no multiple of `2 A`.

    Example:

    >>> layer = RotaryEmbedding()
    >>> ops.round(layer(ops.ones((1, 1, 2, 2)))[0, 0, 1], 2).numpy().tolist()
    [-0.30000001192092896, 1.3799999952316284]

    References:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864)
    """

    def __init__(self, max_wavelength=10000.0, **kwargs):
        super().__init__(**kwargs)
        self.max_wavelength = max_wavelength

    def build(self, inputs_shape):
        if inputs_shape[-1] % 2:
            raise ValueError(f"Expected heads of even size, received key_dim={inputs_shape[-1]}.")

    def call(self, inputs, positions=None):
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[2], dtype="int32")
        elif len(positions.shape) == 3 and inputs.shape[-1] % (2 * positions.shape[-1]):
            raise ValueError(
                f"Expected heads of a size that {2 * positions.shape[-1]} divides, for positions "
                f"of {positions.shape[-1]} axes, received key_dim={inputs.shape[-1]}."
            )
        return rotate(inputs, positions, self.max_wavelength)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
