"""The checks of sizes that layers are made with."""

import numbers


def check_sizes(**sizes):
    """Refuses sizes below 1, and those that are no integers.

    Args:
        **sizes: int or `None`, which is a size that was left out, by the name of the argument.

    Raises:
        ValueError: naming the first that is no integer or below 1.

    Example:

    >>> check_sizes(hidden_dim=8, num_heads=None)
    """
    for name, size in sizes.items():
        if size is None:
            continue
        if not isinstance(size, numbers.Integral):
            raise ValueError(f"Expected {name} to be an integer, received {name}={size!r}.")
        if size < 1:
            raise ValueError(f"Expected {name} of at least 1, received {name}={size}.")


def pair(name, value, smallest=1):
    """Reads a size of an image, a patch or a step: one number for both axes, or two.

    Args:
        name: str. Name of the argument, for the error.
        value: int, or pair of ints `(height, width)`.
        smallest: int. The smallest number that is allowed, 1 or 0.

    Returns:
        Tuple `(height, width)`.

    Raises:
        ValueError: when `value` is neither.

    Example:

    >>> pair("patch_size", 4), pair("patch_size", [2, 3])
    ((4, 4), (2, 3))
    """
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(sizes) != 2 or not all(isinstance(x, numbers.Integral) and x >= smallest for x in sizes):
        kind = "a positive integer" if smallest else "an integer of at least 0"
        raise ValueError(
            f"Expected {name} to be {kind} or a pair of them, received {name}={value!r}."
        )
    return sizes
