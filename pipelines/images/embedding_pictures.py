"""Pictures of what an encoder makes of images: what its heads attend to, and what is alike."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure  # Unlike pyplot it opens no window system.

from kerasformer.explain.fonts import fonts_for
from pipelines.images.score_pictures import shortened

CELL = 1.3  # inches
MOST_HEADS = 12  # that are drawn
SHARE = 0.6  # of the attention, that the marked patches have


def largest_share(maps: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Marks the patches of each map that have the most attention, and together a share of it.

    Args:
        maps: float array `(..., rows, columns)`.
        share: float, from 0 to 1.

    Returns:
        Bool array of the same shape. As few patches as are needed have the share, at least one.

    Example:

    >>> largest_share(np.array([[0.1, 0.5], [0.3, 0.1]])).tolist()
    [[False, True], [True, False]]

    References:
        - [Caron et al., 2021](https://arxiv.org/abs/2104.14294), figures 1 and 4
    """
    flat = maps.reshape(*maps.shape[:-2], -1).astype(np.float64)
    order = np.argsort(-flat, axis=-1, kind="stable")
    falling = np.take_along_axis(flat, order, axis=-1)
    before = np.cumsum(falling, axis=-1) - falling
    marked = before < share * falling.sum(axis=-1, keepdims=True) - 1e-9
    marked[..., 0] = True
    marks = np.zeros(flat.shape, bool)
    np.put_along_axis(marks, order, marked, axis=-1)
    return marks.reshape(maps.shape)


def draw_attention(
    pixels: Sequence[np.ndarray], heads: np.ndarray, names: Sequence[str], share: float = SHARE
) -> Figure:
    """Draws what each head of one block attends to, and below it where most of that is.

    Args:
        pixels: uint8 array `(height, width, c)` of each image.
        heads: float array `(images, heads, rows, columns)`, the attention of the class token.
        names: str for each image.
        share: float. What the marked patches have of the attention of their head.

    Returns:
        Figure with two rows an image.
    """
    heads = heads[:, :MOST_HEADS]
    columns, height = 1 + heads.shape[1], pixels[0].shape[0] / pixels[0].shape[1]
    figure = Figure(
        figsize=(CELL * columns, (CELL * height + 0.12) * 2 * len(pixels) + 0.3),
        layout="constrained",
    )
    grid = figure.subplots(2 * len(pixels), columns, squeeze=False)
    marks = largest_share(heads, share)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (image, name) in enumerate(zip(pixels, names, strict=True)):
        size = image.shape[:2]
        extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
        picture = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
        above, below = grid[2 * index], grid[2 * index + 1]
        above[0].imshow(image, **picture)
        with fonts_for([name]):
            above[0].set_title(shortened(name, 20), fontsize=7, pad=2, parse_math=False)
        for number, (attention, marked) in enumerate(zip(heads[index], marks[index], strict=True)):
            column = number + 1
            above[column].imshow(attention, extent=extent, cmap="inferno", interpolation="nearest")
            mark = np.where(marked[..., None], (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.75))
            below[column].imshow(image, **picture)
            below[column].imshow(mark, extent=extent, interpolation="nearest")
            if not index:
                above[column].set_title(f"head {column}", fontsize=7, pad=2)
    title = f"Attention of the class token in the last block; below, the patches with {share:.0%}"
    figure.suptitle(f"{title} of it", fontsize=8)
    return figure


def draw_neighbours(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]]
) -> Figure:
    """Draws images, each with its nearest neighbours beside it.

    Args:
        rows: uint8 arrays `(height, width, c)`; the first of each row is the image.
        titles: str for each image of each row.

    Returns:
        Figure.
    """
    figure = Figure(figsize=(CELL * len(rows[0]), (CELL + 0.3) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, images, texts in zip(grid, rows, titles, strict=True):
        for axes, image, text in zip(line, images, texts, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            with fonts_for([text]):
                axes.set_title(text, fontsize=7, pad=2, parse_math=False)
    return figure
