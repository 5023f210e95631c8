"""A sheet of images, of what is left of them behind a mask, and of what a model makes of that."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kerasformer.explain.fonts import fonts_for
from pipelines.images.score_pictures import shortened

GRAY = 128  # the level of what is hidden
CELL = 1.3  # inches of the longer side of an image
TITLE = 0.2  # inches
COLUMNS = 8  # versions of images side by side


def hide(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Paints the hidden patches of images gray.

    Args:
        pixels: uint8 array `(n, height, width, c)`.
        mask: boolean array `(n, rows, columns)`, `True` where a patch is hidden.

    Example:

    >>> hide(np.zeros((1, 2, 4, 1), np.uint8), np.array([[[True, False]]]))[0, 0, :, 0].tolist()
    [128, 128, 0, 0]
    """
    for axis in (1, 2):
        mask = np.repeat(mask, pixels.shape[axis] // mask.shape[axis], axis)
    return np.where(mask[..., None], np.uint8(GRAY), pixels)


def to_levels(images: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """Turns normalised images back into levels from 0 to 255, uint8.

    Example:

    >>> to_levels(np.array([[[[1.0]]]]), [100.0], [50.0]).ravel().tolist()
    [150]
    """
    return np.clip(np.round(images * np.array(deviation) + mean), 0, 255).astype(np.uint8)


def draw_sheet(pictures: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Draws several versions of each image beside each other.

    Args:
        pictures: uint8 arrays `(n, height, width, c)` by the title of their column.
        names: str for each image, which stands above its first version; or none.

    Returns:
        Figure with as many images in a row as fit there with all of their versions.
    """
    count, height, width = next(iter(pictures.values())).shape[:3]
    blocks = min(count, max(COLUMNS // len(pictures), 1))
    lines, across = math.ceil(count / blocks), blocks * len(pictures)
    longest = max(height, width)
    cell = CELL * width / longest, CELL * height / longest + TITLE
    figure = Figure(figsize=(across * cell[0], lines * cell[1] + TITLE), layout="constrained")
    grid = figure.subplots(lines, across, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
    for index in range(count):
        line, block = divmod(index, blocks)
        for column, (title, images) in enumerate(pictures.items()):
            axes = grid[line, block * len(pictures) + column]
            axes.imshow(images[index][..., :3], **style)
            text = shortened(names[index], 20) if names and not column else title
            with fonts_for([text]):
                axes.set_title(text, fontsize=7, pad=2, parse_math=False)
    return figure
