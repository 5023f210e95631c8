"""The parts of the published Vision Transformers: for each name, the layer that it means."""

import keras

from kerasformer.layers.pooling import (
    AttentionPooling,
    MeanPooling,
    SequencePooling,
    TokenPooling,
)
from kerasformer.layers.positions.grids import LearnedGridPositions, SinusoidalGridPositions

POOLS = ("class", "mean", "sequence", "attention")
GRID_POSITIONS = ("learned", "sinusoidal", "sinusoidal_mae")  # They are added to a grid of patches.
POSITIONS = (*GRID_POSITIONS, "rotary", "none")


def check_part(name, value, names):
    """Refuses what is neither a layer nor the name of one.

    Args:
        name: str. Name of the argument, for the error.
        value: Keras layer or str.
        names: tuple of str. The names that are known.

    Raises:
        ValueError: when `value` is neither.

    Example:

    >>> check_part("pool", "mean", POOLS)
    """
    if not isinstance(value, keras.layers.Layer) and value not in names:
        raise ValueError(
            f"Expected {name} to be one of {names} or a layer, received {name}={value!r}."
        )


def make_positions(positions, grid_size, num_prefix_tokens, dtype):
    """Makes the layer that adds positions to a sequence.

    Args:
        positions: Keras layer, which is returned, or one of `POSITIONS`, or `None` for none.
        grid_size: tuple of int. Rows and columns of the patches; `None` where nothing is added.
        num_prefix_tokens: int. Tokens before the patches.
        dtype: str or dtype policy of the layer.

    Returns:
        A Keras layer, or `None` where nothing is added: `"rotary"` works inside the encoder.

    Example:

    >>> make_positions("learned", (2, 3), 1, "float32").grid_size
    (2, 3)
    """
    if isinstance(positions, keras.layers.Layer):
        return positions
    if positions in (None, "rotary", "none"):
        return None
    options = {"name": "grid_positions", "dtype": dtype}
    if positions == "learned":
        return LearnedGridPositions(grid_size, num_prefix_tokens, **options)
    layout = "concatenated" if positions == "sinusoidal_mae" else "tensor2tensor"
    return SinusoidalGridPositions(grid_size, num_prefix_tokens, layout, **options)


def make_pool(pool, num_tokens, num_prefix_tokens, attention, dtype):
    """Makes the layer that turns a sequence into a vector, or into one for each head.

    Args:
        pool: Keras layer, which is returned, or one of `POOLS`.
        num_tokens: int. Tokens that `"class"` reads.
        num_prefix_tokens: int. Tokens before the patches, which `"mean"` leaves out.
        attention: dict of arguments of `AttentionPooling`.
        dtype: str or dtype policy of the layer.

    Returns:
        A Keras layer.

    Example:

    >>> make_pool("class", 2, 2, {}, "float32").num_tokens
    2
    """
    options = {"name": "pooling", "dtype": dtype}
    if pool == "class":
        return TokenPooling(num_tokens if num_tokens > 1 else None, **options)
    if pool == "mean":
        return MeanPooling(num_prefix_tokens, **options)
    if pool == "sequence":
        return SequencePooling(**options)
    return AttentionPooling(**attention, **options) if pool == "attention" else pool


def make_head(num_classes, name, dtype):
    """Makes a linear head that starts at zero.

    Args:
        num_classes: int. Number of classes.
        name: str. Name of the layer.
        dtype: str or dtype policy of the layer; logits are computed in float32 under any.

    Returns:
        A Keras layer.

    Example:

    >>> make_head(7, "head", "mixed_bfloat16").units
    7
    """
    return keras.layers.Dense(
        num_classes, kernel_initializer="zeros", autocast=False, name=name, dtype=dtype
    )
