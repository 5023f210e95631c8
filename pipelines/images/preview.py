"""A picture of what a model is trained on: augmented images with their labels."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure  # Unlike pyplot it opens no window system.

from kerasformer.explain.fonts import fonts_for
from kerasformer.explain.pictures import PICTURES, save_figure
from pipelines.images.augmentation import to_levels
from pipelines.runs.files import write_atomically

CELL = 1.3  # inches of the longer side of an image
NARROWEST = 0.9  # inches, because a title stands above it
TITLE = 0.3  # inches
LONGEST_NAME = 14  # characters


def preview(
    batches: tf.data.Dataset,
    class_names: Sequence[str],
    mean: Sequence[float],
    deviation: Sequence[float],
    path: str | os.PathLike,
    rows: int = 8,
    columns: int = 8,
) -> bool:
    """Draws the first images of a training dataset; the file appears when it is complete.

    Args:
        batches: dataset as `batches.training_dataset` makes it. All images of a batch are mixed in
            the same way, so batches of `columns` images show a mixture in each row.
        class_names: str for each label.
        mean, deviation: a float for each channel, those of the dataset.
        path: str or path, that ends in `.png`, `.pdf` or `.svg`.
        rows, columns: int, at least 1.

    Returns:
        Whether each row is drawn as a column, which it is where the picture would be a strip.

    Raises:
        ValueError: for another ending of the path, or a folder that does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES or not path.parent.is_dir():
        raise ValueError(
            f"Expected path to end in one of {PICTURES}, in a folder that exists, "
            f"received path={str(path)!r}."
        )
    examples = list(batches.unbatch().take(rows * columns).as_numpy_iterator())
    height, width = examples[0]["images"].shape[:2]
    longest = max(height, width)
    cell = max(CELL * width / longest, NARROWEST), CELL * height / longest + TITLE
    # Small batches would make a strip.
    shapes = [
        (across * cell[0], down * cell[1]) for across, down in ((columns, rows), (rows, columns))
    ]
    aspects = [max(shape) / min(shape) for shape in shapes]
    turned = 1.5 * aspects[1] < aspects[0]
    lines, across = (columns, rows) if turned else (rows, columns)
    figure = Figure(figsize=shapes[turned], layout="constrained")
    grid = figure.subplots(lines, across, squeeze=False)
    grid = (grid.T if turned else grid).ravel()
    for axes, example in zip(grid, examples, strict=False):
        pixels = to_levels(example["images"], mean, deviation)
        pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
        axes.imshow(pixels, interpolation="nearest")
        title = _title(example, class_names)
        with fonts_for([title]):
            axes.set_title(title, fontsize=7, pad=2, parse_math=False)
    for axes in grid:
        axes.set_axis_off()
    suffix = path.suffix[1:].lower()
    write_atomically(path, partial(save_figure, figure, format=suffix, dpi=120))
    return turned


def _title(example: dict, class_names: Sequence[str]) -> str:
    """Writes the class of an image, or all of its classes and their shares in per cent."""
    parts = float(example["share"]), float(example.get("other_share", 1 - example["share"]))
    shares = np.zeros(len(class_names))
    for part, key in zip(parts, ("labels", "other_labels"), strict=True):
        labels = example[key]
        shares[np.flatnonzero(labels) if labels.ndim else labels] += part / (sum(parts) or 1)
    percents = np.round(100 * shares).astype(int)
    mixed = [number for number in np.argsort(-percents, kind="stable") if percents[number]]
    if all(percents[number] == 100 for number in mixed):
        return "\n".join(class_names[number][: 2 * LONGEST_NAME] for number in mixed) or "none"
    return "\n".join(f"{class_names[n][:LONGEST_NAME]} {percents[n]} %" for n in mixed)
