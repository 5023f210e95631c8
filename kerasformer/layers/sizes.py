"""The check of sizes that layers are made with."""


def check_sizes(**sizes):
    """Refuses sizes below 1.

    Args:
        **sizes: int or `None`, which is a size that was left out, by the name of the argument.

    Raises:
        ValueError: naming the first that is below 1.

    Example:

    >>> check_sizes(hidden_dim=8, num_heads=None)
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"Expected {name} of at least 1, received {name}={size}.")
