"""The layout of images: `(B, height, width, channels)`, whatever Keras is configured for."""

import keras


def check_images(shape, channels=None):
    """Refuses images whose channels come first, or are not those that a layer was built for.

    A size that is 1, 3 or 4 where the height is expected, before a much larger number of
    channels, can only be the channels: of a square image `(B, 3, 32, 32)`, or of any image when
    Keras is configured for `"channels_first"`.

    Args:
        shape: tuple of ints, the shape of the images; an unknown size is `None`.
        channels: int or `None`. The number of channels that the layer was built for.

    Raises:
        ValueError: when the shape cannot be `(B, height, width, channels)`.

    Example:

    >>> check_images((2, 32, 48, 3), channels=3)
    """
    height, width, last = shape[1:]
    data_format = keras.config.image_data_format()
    is_channels_first = (
        height in (1, 3, 4)
        and (last or 0) > 4
        and (width == last or data_format == "channels_first")
    )
    if is_channels_first or (channels is not None and last not in (None, channels)):
        expected = "channels" if channels is None else f"channels={channels}"
        raise ValueError(
            f"Expected images whose channels come last, (B, height, width, {expected}), received "
            f"shape={tuple(shape)} and keras.config.image_data_format()={data_format!r}."
        )
