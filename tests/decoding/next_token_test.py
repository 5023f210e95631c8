"""What the searches choose with: the largest of many, shares of odds, rows of a batch."""

import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import next_token
from tests.backend import torch


@pytest.mark.parametrize("size", [997, 1000, 4096])
def test_a_large_vocabulary_is_ranked_like_a_small_one(size):
    ties = np.random.default_rng(0).normal(size=(101, size)).round(1).astype("float32")
    found = next_token.fast_top_k(ops.convert_to_tensor(ties), 5)
    values, indices = map(ops.convert_to_numpy, found)
    expected_values, expected_indices = map(ops.convert_to_numpy, ops.top_k(ties, 5))
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(np.take_along_axis(ties, indices, axis=1), values)
    assert all(len(set(row)) == 5 for row in indices)
    if not torch:  # which takes any of equal values
        np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.93, 1.0])
def test_a_nucleus_is_the_fewest_largest_that_make_up_the_share(top_p):
    odds = np.random.default_rng(1).exponential(size=(7, 113)).astype("float32")
    kept = ops.convert_to_numpy(next_token.nucleus(ops.convert_to_tensor(odds), top_p))
    for row, left in zip(odds, kept, strict=True):
        order = np.argsort(-row)
        wanted = top_p * row.sum() * (1 - 1e-6)
        count = np.searchsorted(np.cumsum(row[order]), wanted) + 1
        np.testing.assert_array_equal(np.flatnonzero(left), np.sort(order[:count]))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2)])
def test_a_batch_gather_takes_from_each_sentence_by_its_own_indices(shape):
    values = np.random.default_rng(2).normal(size=shape)
    indices = np.array([[4, 4], [0, 1], [2, 0]], "int32")
    found = next_token.batch_gather(ops.convert_to_tensor(values), ops.convert_to_tensor(indices))
    expected = [row[taken] for row, taken in zip(values, indices, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_repeated_ngrams_are_the_tokens_that_would_end_one_again():
    tokens = np.array([[5, 6, 5, 7, 5, 0], [3, 3, 3, 3, 3, 0]], "int32")
    found = next_token.repeated_ngrams(ops.convert_to_tensor(tokens), ops.array(5), 2)
    last_tokens, is_repeated = map(ops.convert_to_numpy, found)
    rows = zip(last_tokens, is_repeated, strict=True)
    assert [set(row[mask]) for row, mask in rows] == [{6, 7}, {3}]
