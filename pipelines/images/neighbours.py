"""Classes of images by their nearest neighbours in a space of features.

Letters: `n` images, `C` classes, `k` neighbours.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

BLOCK = 256  # images whose similarities to all others are in memory at once


class Neighbours(NamedTuple):
    """The nearest neighbours of some images, nearest first.

    Attributes:
        indices: int32 array `(n, k)`, which of the known images they are.
        similarities: float32 array `(n, k)`, cosines of the angles.
    """

    indices: np.ndarray
    similarities: np.ndarray


def find_neighbours(features: np.ndarray, known: np.ndarray, count: int = 20) -> Neighbours:
    """Finds those of the known images whose features point in the most similar directions.

    Args:
        features: float array `(n, features)`.
        known: float array `(known images, features)`.
        count: int. How many, `k`; all of the known images if there are fewer.

    Returns:
        `Neighbours`; of equal similarities the first known image is the nearest.

    Raises:
        ValueError: when features differ in size, or there are no known images.

    Example:

    >>> find_neighbours(np.array([[2.0, 0.0]]), np.array([[0.0, 1.0], [3.0, 0.0]]), 1).indices
    array([[1]], dtype=int32)
    """
    if known.ndim != 2 or not len(known) or features.shape[1:] != known.shape[1:]:
        raise ValueError(
            "Expected features of one size, and at least one known image, received "
            f"features.shape={features.shape} and known.shape={known.shape}."
        )
    directions = tf.constant(_unit(known))
    count = min(count, len(known))
    blocks = [(np.zeros((0, count), np.int32), np.zeros((0, count), np.float32))]
    for start in range(0, len(features), BLOCK):
        queries = tf.constant(_unit(features[start : start + BLOCK]))
        best = tf.math.top_k(tf.matmul(queries, directions, transpose_b=True), count)
        blocks.append((best.indices.numpy(), best.values.numpy()))
    return Neighbours(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def votes(
    neighbours: Neighbours, labels: np.ndarray, num_classes: int, temperature: float = 0.07
) -> np.ndarray:
    """Lets the neighbours of each image vote for their classes, with the weight `exp(s / t)`.

    Args:
        neighbours: `Neighbours`, with the similarities `s`.
        labels: int array `(known images,)`, or `(known images, C)` of 0 and 1.
        num_classes: int, `C`.
        temperature: float, `t`.

    Returns:
        float64 array `(n, C)`, the shares of the weight; with one label each they sum to 1.

    Example:

    >>> near = Neighbours(np.array([[0, 2]]), np.array([[0.5, 0.5]]))
    >>> votes(near, np.array([1, 0, 0]), 2).tolist()
    [[0.5, 0.5]]

    References:
        - [Wu et al., 2018](https://arxiv.org/abs/1805.01978), section 3.4
        - [Caron et al., 2021](https://arxiv.org/abs/2104.14294), appendix F.1, 20 neighbours
    """
    similarities = neighbours.similarities.astype(np.float64)
    # Less the largest, because the weights of all could overflow, and only their ratios matter.
    weights = np.exp((similarities - similarities[:, :1]) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    shares = np.zeros((len(weights), num_classes))
    for rank in range(weights.shape[1]):
        of_rank = labels[neighbours.indices[:, rank]]
        if labels.ndim == 2:
            shares += weights[:, rank, None] * of_rank
        else:
            shares[np.arange(len(shares)), of_rank] += weights[:, rank]
    return shares


def features_of(function, batches: Iterable, count: int) -> np.ndarray:
    """Computes the features `(n, features)` of the first `count` images of batches.

    Args:
        function: from float images `(B, h, w, c)` to features `(B, features)`.
        batches: of dicts with `images`.
        count: int.

    Returns:
        float32 array.
    """
    return np.concatenate([np.asarray(function(batch["images"])) for batch in batches])[:count]


def _unit(vectors):
    x = np.asarray(vectors, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
