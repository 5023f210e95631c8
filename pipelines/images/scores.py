"""Scores of a classifier, and pictures of what it confuses.

Letters: `n` images, `C` classes.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

BINS = 15  # of the calibration error
MOST_NAMES = 30  # classes that a confusion matrix has the names and numbers of


def predict(model, batches: tf.data.Dataset, count: int) -> np.ndarray:
    """Computes the probabilities `(n, C)` of the first `count` images of batches."""
    function = tf.function(lambda x: tf.nn.softmax(model(x, training=False)))
    parts = [function(batch["images"]).numpy() for batch in batches]
    return np.concatenate(parts)[:count]


def score(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict:
    """Computes accuracy, by class too, and how far probabilities can be trusted.

    Args:
        probabilities: float array `(n, C)`.
        labels: int array `(n,)`.
        class_names: str for each class.

    Returns:
        Dict that JSON can hold: `top1` and `top5` (fractions), `expected_calibration_error` (of
        15 bins of equal width), `nll` (nats an image), `images`, and `per_class`, the top-1
        accuracy by name (`None` for a class without images).

    Raises:
        ValueError: when there are no images, or not as many probabilities as labels.

    Example:

    >>> score(np.array([[0.75, 0.25]]), np.array([0]), ["cat", "dog"])["top1"]
    1.0

    References:
        - [Guo et al., 2017](https://arxiv.org/abs/1706.04599), the calibration error
    """
    if not len(labels) or len(labels) != len(probabilities):
        raise ValueError(
            f"Expected as many probabilities as labels, at least one, received "
            f"{len(probabilities)} and {len(labels)}."
        )
    correct = probabilities[np.arange(len(labels)), labels]
    rank = (probabilities > correct[:, None]).sum(axis=1)
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = best == labels
    per_class = {
        name: float(right[labels == number].mean()) if np.any(labels == number) else None
        for number, name in enumerate(class_names)
    }
    return {
        "top1": float(right.mean()),
        "top5": float((rank < 5).mean()),
        "expected_calibration_error": _calibration_error(confidence, right),
        "nll": float(-np.log(np.maximum(correct, 1e-30)).mean()),
        "images": len(labels),
        "per_class": per_class,
    }


def _calibration_error(confidence, right):
    """Averages |accuracy - confidence| over bins, each with the share of its images."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - confidence.astype(float), minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))


def table(scores: dict) -> str:
    """Writes the accuracy of each class as Markdown, worst first."""
    known = {name: value for name, value in scores["per_class"].items() if value is not None}
    rows = [
        f"| {name} | {100 * value:.2f} |"
        for name, value in sorted(known.items(), key=lambda item: item[1])
    ]
    return "\n".join(["| class | top-1 accuracy, % |", "| :--- | ---: |", *rows])


def draw_confusion(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Draws which share of each class (row) was taken for which class (column)."""
    classes = len(class_names)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.4 * min(classes, MOST_NAMES)
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("taken for")
    axis.set_ylabel("class")
    if classes <= MOST_NAMES:
        # Without parse_math=False a name of dollar signs would be read as a formula.
        axis.set_xticks(range(classes), class_names, rotation=90, parse_math=False)
        axis.set_yticks(range(classes), class_names, parse_math=False)
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{100 * shares[row, column]:.0f}"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    return figure


def draw_mistakes(
    pixels: Sequence[np.ndarray],
    indices: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> Figure:
    """Draws the images with the most confident mistakes.

    Args:
        pixels: uint8 array `(height, width, c)` of each image.
        indices: int array, which images these are, as `worst` lists them.
        probabilities, labels, class_names: as in `score`.

    Returns:
        Figure of a sheet of images, each under what it was taken for and what it is.
    """
    columns = 6
    rows = max(-(-len(indices) // columns), 1)
    figure = Figure(figsize=(1.7 * columns, 2.1 * rows), layout="constrained")
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    for axis, image, index in zip(figure.axes, pixels, indices, strict=False):
        taken_for = probabilities[index].argmax()
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        title = f"{class_names[taken_for]} {100 * probabilities[index, taken_for]:.0f} %"
        axis.set_title(f"{title}\nis {class_names[labels[index]]}", fontsize=8, parse_math=False)
    return figure


def worst(probabilities: np.ndarray, labels: np.ndarray, count: int = 24) -> np.ndarray:
    """Lists the images whose wrong class was most probable, worst first, `count` at most."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]
