"""Nearest neighbours and their votes against brute force."""

import numpy as np
import pytest

from pipelines.images import neighbours
from pipelines.images.neighbours import features_of, find_neighbours, votes

RANDOM = np.random.default_rng(0)
KNOWN, QUERIES = RANDOM.standard_normal((307, 5)), RANDOM.standard_normal((31, 5))
LABELS = RANDOM.integers(0, 3, 307)


def brute_force(count, temperature, labels):
    """Sorts all cosines of each query, and lets the best vote by `exp(cosine / temperature)`."""
    found = []
    for query in QUERIES:
        cosines = [query @ known / np.linalg.norm(query) / np.linalg.norm(known) for known in KNOWN]
        nearest = sorted(range(307), key=lambda i: -cosines[i])[:count]
        weights = np.exp([cosines[i] / temperature for i in nearest])
        found.append((nearest, sum(w * labels[i] for w, i in zip(weights, nearest, strict=True))))
    nearest, shares = zip(*found, strict=True)
    return np.array(nearest), np.array(shares)


@pytest.mark.parametrize("are_multi", [False, True])
def test_neighbours_and_votes_are_those_of_brute_force(monkeypatch, are_multi):
    monkeypatch.setattr(neighbours, "BLOCK", 7)  # The last block is smaller.
    labels = RANDOM.integers(0, 2, (307, 3)) if are_multi else LABELS
    found = find_neighbours(QUERIES, KNOWN)
    nearest, weights = brute_force(20, 0.07, labels if are_multi else np.eye(3)[labels])
    np.testing.assert_array_equal(found.indices, nearest)
    shares = votes(found, labels, 3)
    np.testing.assert_array_equal(shares.argmax(axis=1), weights.argmax(axis=1))
    if are_multi:
        assert shares.max() <= 1 + 1e-9
    else:
        np.testing.assert_allclose(shares, weights / weights.sum(axis=1, keepdims=True), rtol=1e-4)


def test_a_low_temperature_overflows_nothing():
    found = find_neighbours(QUERIES, KNOWN, 3)
    shares = votes(found, LABELS, 3, temperature=1e-3)
    assert np.isfinite(shares).all()
    np.testing.assert_array_equal(shares.argmax(axis=1), LABELS[found.indices[:, 0]])


def test_fewer_known_images_than_neighbours_all_count():
    found = find_neighbours(QUERIES, KNOWN[:2])
    assert found.indices.shape == (31, 2) and set(found.indices.ravel()) == {0, 1}


def test_an_image_is_its_own_neighbour_and_nothing_divides_by_zero():
    assert find_neighbours(KNOWN, KNOWN, 1).indices[:, 0].tolist() == list(range(307))
    assert np.isfinite(find_neighbours(np.zeros((2, 5)), KNOWN).similarities).all()


@pytest.mark.parametrize("known", [np.zeros((0, 5)), np.zeros((3, 4))])
def test_features_of_another_size_and_no_known_images_are_refused(known):
    with pytest.raises(ValueError, match="features of one size, and at least one"):
        find_neighbours(QUERIES, known)


def test_features_are_those_of_the_real_images():
    batches = [{"images": np.ones((2, 3))}, {"images": np.zeros((2, 3))}]
    assert features_of(lambda x: 2 * x, batches, 3).tolist() == [[2] * 3, [2] * 3, [0] * 3]
