"""The part of an image that a unit sees, and pictures of several such parts.

A box is `(top, left, bottom, right)` in pixels, the last two exclusive.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from kerasformer.explain.gradients import input_gradient

DIMMED = 0.35  # what is left of an image around a box, beside gray
GRAY, WHITE = 128, 255
SMALL = 32  # rows


def receptive_field(
    function: Callable[[Any], Any], images: Any, place: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Finds the part of an image that the units at one place of a layer can see.

    It is the smallest box around all pixels at which their gradient is not zero for one of the
    images. Images of noise find nearly always all of it: a pixel is missed only if no unit feels
    it on any of them.

    Args:
        function: from images to float tensors `(B, rows, columns, U)`, such as
            `lambda images: unit_maps(model, layer, images)`.
        images: float tensor `(B, height, width, channels)`.
        place: pair of int, row and column.

    Returns:
        Tuple `(top, left, bottom, right)` in pixels, the last two exclusive; the whole image where
        no unit feels anything.

    Example:

    >>> import keras
    >>> pool = keras.layers.AveragePooling2D(2)
    >>> receptive_field(pool, keras.random.normal((1, 6, 8, 3)), place=(1, 2))
    (2, 4, 4, 6)
    """
    row, column = place
    gradients = input_gradient(lambda x: ops.sum(function(x)[:, row, column], axis=-1), images)
    felt = ops.convert_to_numpy(ops.any(ops.not_equal(gradients, 0), axis=(0, 3)))
    if not felt.any():
        return (0, 0, *felt.shape)
    rows, columns = np.flatnonzero(felt.any(axis=1)), np.flatnonzero(felt.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def cell(
    place: tuple[int, int], grid_size: Sequence[int], image_size: Sequence[int]
) -> tuple[int, int, int, int]:
    """Returns the part of an image that lies under one place of a grid, such as a patch.

    Args:
        place: pair of int, row and column.
        grid_size: tuple of int. Rows and columns of the grid.
        image_size: tuple of int. Height and width of the image.

    Returns:
        Tuple `(top, left, bottom, right)` in pixels, the last two exclusive.

    Example:

    >>> cell((1, 2), (4, 4), (32, 48))
    (8, 24, 16, 36)
    """
    starts = [x * size // n for x, n, size in zip(place, grid_size, image_size, strict=True)]
    ends = [
        -(-(x + 1) * size // n) for x, n, size in zip(place, grid_size, image_size, strict=True)
    ]
    return (*starts, *ends)


def cut_out(image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Cuts out of an image a part of some size around a box, and dims what lies outside of the box.

    Args:
        image: uint8 array `(height, width, channels)`.
        box: `(top, left, bottom, right)`.
        size: pair of int, height and width of the part; of a smaller image all is taken.

    Returns:
        uint8 array of this size: the box is in its middle, or as near to it as the edges allow.

    Example:

    >>> part = cut_out(np.zeros((8, 8, 1), np.uint8), (0, 4, 2, 6), size=(2, 4))
    >>> part[..., 0].tolist()
    [[83, 0, 0, 83], [83, 0, 0, 83]]
    """
    top, left, bottom, right = box
    is_inside = np.zeros(image.shape[:2], bool)
    is_inside[top:bottom, left:right] = True
    dimmed = image * DIMMED + GRAY * (1 - DIMMED)
    dimmed[..., 3:] = image[..., 3:]  # Transparency stays.
    image = np.where(is_inside[..., None], image, dimmed).astype(np.uint8)
    for axis, (middle, wanted) in enumerate(zip((top + bottom, left + right), size, strict=True)):
        start = min(max((middle - wanted) // 2, 0), max(image.shape[axis] - wanted, 0))
        image = image.take(range(start, min(start + wanted, image.shape[axis])), axis=axis)
    return image


def mosaic(images: Sequence[np.ndarray], columns: int = 3) -> np.ndarray:
    """Puts images of one size together, row by row, with thin white lines between them.

    Images of less than 32 rows are enlarged by a whole number first.

    Args:
        images: uint8 arrays `(height, width, channels)`.
        columns: int. Images in a row; what is left of the last row is white.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        ValueError: for no images, or images that differ in shape.

    Example:

    >>> mosaic([np.zeros((32, 48, 1), np.uint8)] * 3, columns=2).shape
    (66, 98, 1)
    """
    shapes = {np.shape(image) for image in images}
    if len(shapes) != 1:
        raise ValueError(f"Expected images of one shape, received {sorted(shapes) or 'none'}.")
    factor = max(SMALL // images[0].shape[0], 1)
    images = [image.repeat(factor, axis=0).repeat(factor, axis=1) for image in images]
    height, width, channels = images[0].shape
    line = height // 16
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    whole = np.full(
        (rows * (height + line) - line, columns * (width + line) - line, channels), WHITE, np.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = row * (height + line), column * (width + line)
        whole[top : top + height, left : left + width] = image
    return whole
