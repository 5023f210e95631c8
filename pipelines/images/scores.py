"""Scores of a classifier.

Letters: `n` images, `C` classes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

BINS = 15  # of the calibration error
MOST_PAIRS = 20  # classes that are taken for each other, in a table


def predict(function: Callable, batches: tf.data.Dataset, count: int) -> np.ndarray:
    """Computes the probabilities `(n, C)` of the first `count` images of batches."""
    parts = [function(batch["images"]).numpy() for batch in batches]
    return np.concatenate(parts)[:count]


def score(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict:
    """Computes accuracy, by class too, and how far probabilities can be trusted.

    Args:
        probabilities: float array `(n, C)`.
        labels: int array `(n,)`.
        class_names: str for each class.

    Returns:
        Dict that JSON can hold: `top1` and `top5` (fractions), `balanced_accuracy` (the mean over
        the classes that have images), `macro_f1`, `expected_calibration_error` (of 15 bins of equal
        width), `nll` (nats an image), `images`, and `per_class`, the top-1 accuracy by name (`None`
        for a class without images).

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
        "balanced_accuracy": float(np.mean([x for x in per_class.values() if x is not None])),
        "macro_f1": _macro_f1(confusion(probabilities, labels)),
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


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts how many images of each class (row) are taken for which class (column)."""
    counts = np.zeros((probabilities.shape[1],) * 2, int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def _macro_f1(counts):
    """Averages the F1 of the classes that occur, among the labels or the answers."""
    occurrences = counts.sum(axis=0) + counts.sum(axis=1)
    occurs = occurrences > 0
    return float(np.mean(2 * np.diag(counts)[occurs] / occurrences[occurs]))


def score_several(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> dict:
    """Computes how well classes are ranked where an image may have several.

    Args:
        probabilities: float array `(n, C)`, of each class by itself.
        labels: int array `(n, C)` of 0 and 1.
        class_names: str for each class.

    Returns:
        Dict that JSON can hold: `mean_average_precision` over the classes that some image has,
        `macro_f1` (at a probability of 0.5), `top1` (the most probable class is one of the
        image's, of the images that have any; `None` without such), `images`, and `per_class`, the
        average precision by name (`None` for a class without images).

    Raises:
        ValueError: when there are no images, or not as many probabilities as labels.

    Example:

    >>> score_several(np.array([[0.9, 0.2]]), np.array([[1, 0]]), ["sun", "sea"])["top1"]
    1.0
    """
    if not len(labels) or labels.shape != probabilities.shape:
        raise ValueError(
            f"Expected as many probabilities as labels, at least one, received "
            f"{probabilities.shape} and {labels.shape}."
        )
    per_class = {
        name: _average_precision(probabilities[:, number], labels[:, number])
        for number, name in enumerate(class_names)
    }
    known = [value for value in per_class.values() if value is not None]
    is_found = probabilities >= 0.5
    right = (is_found & (labels > 0)).sum(axis=0)
    f1 = 2 * right / np.maximum(is_found.sum(axis=0) + labels.sum(axis=0), 1)
    best = labels[np.arange(len(labels)), probabilities.argmax(axis=1)][labels.any(axis=1)]
    return {
        "mean_average_precision": float(np.mean(known)) if known else None,
        "macro_f1": float(f1.mean()),
        "top1": float(best.mean()) if len(best) else None,
        "images": len(labels),
        "per_class": per_class,
    }


def _average_precision(scores, labels):
    """Averages the precision at each image of the class, equal scores being one step."""
    if not labels.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(labels[order], dtype=float)
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))  # of each group of equal scores
    gained = np.diff(hits[last], prepend=0.0)
    return float(np.sum(gained * hits[last] / (last + 1)) / hits[-1])


def table(scores: dict, measure: str = "top-1 accuracy") -> str:
    """Writes a measure of each class in per cent as Markdown, worst first."""
    known = {name: value for name, value in scores["per_class"].items() if value is not None}
    rows = [
        f"| {name} | {100 * value:.2f} |"
        for name, value in sorted(known.items(), key=lambda item: item[1])
    ]
    return "\n".join([f"| class | {measure}, % |", "| :--- | ---: |", *rows])


def pairs_table(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Writes which class is most often taken for which other one, as Markdown; "" without any."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = np.transpose(np.unravel_index(order, wrong.shape))
    rows = [
        f"| {class_names[row]} | {class_names[column]} | {wrong[row, column]} "
        f"| {100 * wrong[row, column] / counts[row].sum():.1f} |"
        for row, column in places
        if wrong[row, column]
    ]
    if not rows:
        return ""
    head = "| class | taken for | images | of the class, % |"
    return "\n".join([head, "| :--- | :--- | ---: | ---: |", *rows])


def worst(probabilities: np.ndarray, labels: np.ndarray, count: int = 24) -> np.ndarray:
    """Lists the images whose wrong class was most probable, worst first, `count` at most.

    Where images have several classes, those without any are left out.
    """
    best = probabilities.argmax(axis=1)
    if labels.ndim == 2:
        is_right = labels[np.arange(len(labels)), best] > 0
        wrong = np.flatnonzero(labels.any(axis=1) & ~is_right)
    else:
        wrong = np.flatnonzero(best != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]
