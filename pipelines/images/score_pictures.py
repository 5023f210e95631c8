"""Pictures of what a classifier confuses.

Letters: `n` images, `C` classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kerasformer.explain.fonts import fonts_for

MOST_CLASSES = 30  # that a matrix shows with their names and numbers
LETTER = 0.09  # inches
LONGEST_NAME = 24  # characters of a class or a file in a picture
MOST_COLUMNS = 6
CELL = 2.1  # inches of an image, or more of a single one


def shortened(name: str, length: int = LONGEST_NAME) -> str:
    """Shortens a name in its middle, because files differ at their ends.

    Example:

    >>> shortened("pictures/holiday/IMG_2041.jpg", 17)
    'pictures…2041.jpg'
    """
    if len(name) <= length:
        return name
    half = length // 2
    return f"{name[:half]}…{name[-(length - half - 1) :]}"


def draw_confusion(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws which share of each class (row) was taken for which class (column).

    Args:
        counts: int array `(C, C)`, as `scores.confusion` gives them. Of more than 30 classes those
            that are confused most are shown, and all others together as one.
        class_names: str for each class.
    """
    title, names = "", [shortened(name) for name in class_names]
    if len(names) > MOST_CLASSES:
        title = f"The {MOST_CLASSES - 1} of {len(names)} classes that are confused most"
        counts, names = _most_confused(counts, names)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    letters = max(map(len, names), default=0)
    size = max(0.42 * len(names), 3.2) + 0.8 + LETTER * letters
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    bar = figure.colorbar(image, ax=axis, shrink=0.7)
    bar.set_label("of the images of a class, %")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("taken for")
    axis.set_ylabel("class (number of its images)")
    rows = [f"{name} ({total})" for name, total in zip(names, totals, strict=True)]
    with fonts_for(names):
        # Without parse_math=False a name of dollar signs would be read as a formula.
        axis.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axis.set_yticks(range(len(names)), rows, parse_math=False)
    for row, column in np.argwhere(shares >= 0.005):
        color = "white" if shares[row, column] > 0.5 else "black"
        text = f"{100 * shares[row, column]:.0f}"
        axis.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    return figure


def _most_confused(counts, names):
    """Keeps the classes with the most mistakes between them, and joins the others into one."""
    wrong = counts - np.diag(np.diag(counts))
    kept: list[int] = []
    for place in np.argsort(-wrong, axis=None, kind="stable"):
        kept += [number for number in divmod(int(place), len(counts)) if number not in kept]
        if len(kept) >= MOST_CLASSES - 1:
            break
    kept = sorted(kept[: MOST_CLASSES - 1])
    others = np.setdiff1d(np.arange(len(counts)), kept)
    joined = np.zeros((len(kept) + 1,) * 2, int)
    joined[:-1, :-1] = counts[np.ix_(kept, kept)]
    joined[:-1, -1] = counts[np.ix_(kept, others)].sum(axis=1)
    joined[-1, :-1] = counts[np.ix_(others, kept)].sum(axis=0)
    joined[-1, -1] = counts[np.ix_(others, others)].sum()
    return joined, [*(names[number] for number in kept), f"{len(others)} others"]


def draw_mistakes(
    pixels: Sequence[np.ndarray],
    taken_for: Sequence[str],
    classes: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Draws images with mistakes, each under what it was taken for, what it is, and its name.

    Args:
        pixels: uint8 array `(height, width, c)` of each image.
        taken_for: str for each image, what it was taken for and how surely.
        classes: str for each image, what it is.
        names: str for each image, the name of its file.

    Returns:
        Figure of a sheet of images, in several rows.
    """
    columns = max(min(MOST_COLUMNS, math.ceil(math.sqrt(len(pixels)))), 1)
    rows = max(math.ceil(len(pixels) / columns), 1)
    layout = ConstrainedLayoutEngine(h_pad=0.12)  # Room for the names below the images.
    shapes = [image.shape[0] / image.shape[1] for image in pixels]
    height = min(max(shapes, default=0.3), 1.5)  # Of the widest to its width.
    cell = max(CELL, 2 * CELL / columns)
    figure = Figure(figsize=(cell * columns, (cell * height + 0.8) * rows), layout=layout)
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    if not len(pixels):
        figure.axes[0].text(0.5, 0.5, "no mistakes", ha="center", va="center")
    cells = zip(figure.axes, pixels, taken_for, classes, names, strict=False)
    for axis, image, taken, right, name in cells:
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        title, below = f"{shortened(taken)}\nis {shortened(right)}", shortened(name, 28)
        style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7, "color": "0.35"}
        with fonts_for([title, below]):
            axis.set_title(title, fontsize=8, parse_math=False)
            of = "axes fraction", "offset points"
            axis.annotate(below, (0.5, 0), (0, -3), *of, parse_math=False, **style)
    return figure
