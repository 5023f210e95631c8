"""Rotary positions: heads of queries and keys are turned by angles that grow with the position.

All angles are computed in float32 (bfloat16 cannot tell 256 from 257). Letters: `B` batch, `T`
length, `N` heads, `K` size of a head, `A` coordinates of a position.
"""

import numbers

import keras
from keras import ops

from kerasformer.layers.positions.sequences import check_positions

SCALINGS = ("linear", "ntk")


def rotate(inputs, positions, max_wavelength=10000.0, scaling=None):
    """Turns each pair `(x_j, x_{j + K/2})` of a head by `position / max_wavelength^(2j/K)`.

    A model serves sequences that are `factor` times as long as those it was trained on when its
    angles are scaled:

    | scaling | what changes |
    |---|---|
    | `("linear", factor)` | the position, which becomes `position / factor` |
    | `("ntk", factor)` | the base, which becomes `max_wavelength * factor^(K / (K - 2))` |

    `"ntk"` keeps the fastest pair as it is, and turns the slowest one `factor` times as slowly.

    Where a position has `A` coordinates (row and column), the head is cut in `A` equal parts, and
    each part is turned by one coordinate as if it were a head of its own.

    Args:
        inputs: float tensor `(B, N, T, K)`, `K` a multiple of `2 A`.
        positions: int or float tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`.
        max_wavelength: float. Base of the wavelengths.
        scaling: tuple of a str and a float as above, or `None`.

    Returns:
        Float tensor `(B, N, T, K)` of the dtype of `inputs`. The product of a turned query and a
        turned key depends on the distance of their positions only.

    Raises:
        ValueError: for `"ntk"` when a head, or its part, has one pair alone.

    References:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864), equation 34, in the half-split
          order of GPT-NeoX
        - [Heo et al., 2024](https://arxiv.org/abs/2403.13298), section 3.1, axial frequencies
        - [Chen et al., 2023](https://arxiv.org/abs/2306.15595), `"linear"`
        - [Peng et al., 2023](https://arxiv.org/abs/2309.00071), definition 1, `"ntk"`
    """
    if len(positions.shape) == 3:
        parts = ops.split(inputs, positions.shape[-1], axis=-1)
        turned = [
            rotate(part, positions[..., axis], max_wavelength, scaling)
            for axis, part in enumerate(parts)
        ]
        return ops.concatenate(turned, axis=-1)
    half = inputs.shape[-1] // 2
    positions = ops.cast(positions, "float32")
    if scaling is not None:
        positions, max_wavelength = _scale(positions, max_wavelength, scaling, 2 * half)
    frequencies = ops.power(max_wavelength, -ops.arange(half, dtype="float32") / half)
    angles = positions[..., None] * frequencies
    angles = angles[None, None] if len(positions.shape) == 1 else angles[:, None]
    cos, sin = ops.cos(angles), ops.sin(angles)
    x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    first, second = x[..., :half], x[..., half:]
    turned = ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return ops.cast(turned, inputs.dtype)


def _scale(positions, max_wavelength, scaling, size):
    """Applies a scaling, for heads of a size; returns positions and base."""
    kind, factor = scaling
    if kind == "linear":
        return positions / factor, max_wavelength
    if size < 4:
        raise ValueError(
            f"Expected heads of at least 4 values a coordinate with scaling={scaling}, received "
            f"key_dim={size}."
        )
    return positions, max_wavelength * factor ** (size / (size - 2))


def _check_scaling(scaling):
    """Returns a scaling as a tuple (JSON makes it a list), or raises when it is none."""
    if scaling is None:
        return None
    if isinstance(scaling, (tuple, list)) and len(scaling) == 2:
        kind, factor = scaling
        is_number = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
        if kind in SCALINGS and is_number and 1 <= factor < float("inf"):
            # JSON takes no number of NumPy.
            return kind, factor if isinstance(factor, int) else float(factor)
    raise ValueError(
        f"Expected scaling to be None or a pair of one of {SCALINGS} and a factor of at least 1, "
        f"received scaling={scaling!r}."
    )


@keras.saving.register_keras_serializable(package="kerasformer")
class RotaryEmbedding(keras.layers.Layer):
    """Turns the heads of queries or keys by angles that grow with their position.

    Args:
        max_wavelength: float greater than 1. Base of the wavelengths.
        scaling: `("linear", factor)` or `("ntk", factor)` with a factor of at least 1, for
            sequences longer than those of the training, as `rotate` explains; or `None`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, N, T, K)`, `K` even.
        positions: int tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`, `A` coordinates each as
            `rotate` explains; `None` means `0..T-1`.

    Returns:
        Float tensor `(B, N, T, K)`.

    Masking: produces no mask.

    Raises:
        ValueError: for another scaling or a base that is none, when `K` is odd or no multiple of
            `2 A`, or when the positions are not one for each step.

    Example:

    >>> layer = RotaryEmbedding()
    >>> ops.round(layer(ops.ones((1, 1, 2, 2)))[0, 0, 1], 2).numpy().tolist()
    [-0.30000001192092896, 1.3799999952316284]

    References:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864)
    """

    def __init__(self, max_wavelength=10000.0, scaling=None, **kwargs):
        super().__init__(**kwargs)
        if not max_wavelength > 1:
            raise ValueError(
                f"Expected max_wavelength greater than 1, received max_wavelength={max_wavelength}."
            )
        self.max_wavelength = max_wavelength
        self.scaling = _check_scaling(scaling)

    def build(self, inputs_shape):
        if inputs_shape[-1] % 2:
            raise ValueError(f"Expected heads of even size, received key_dim={inputs_shape[-1]}.")

    def call(self, inputs, *, positions=None):
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[2], dtype="int32")
        else:
            positions = check_positions(positions, inputs.shape[0], inputs.shape[2], max_rank=3)
        if len(positions.shape) == 3 and inputs.shape[-1] % (2 * positions.shape[-1]):
            raise ValueError(
                f"Expected heads of a size that {2 * positions.shape[-1]} divides, for positions "
                f"of {positions.shape[-1]} axes, received key_dim={inputs.shape[-1]}."
            )
        return rotate(inputs, positions, self.max_wavelength, self.scaling)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "scaling": self.scaling,
        }
