"""The masks as exact arrays, and their combination against numpy."""

import itertools

import numpy as np
import pytest
from keras import ops

from kerasformer.layers.masks import causal_mask, combine_masks, padding_mask
from tests.backend import tf

BATCH, HEADS, LENGTH, KEYS = 2, 3, 5, 7


def random_masks():
    """One mask of each rank, and each with axes of size 1, by what the rank means."""
    random = np.random.default_rng(0)
    shapes = [
        (BATCH, KEYS),
        (BATCH, LENGTH, KEYS),
        (1, LENGTH, KEYS),
        (BATCH, HEADS, LENGTH, KEYS),
        (BATCH, 1, LENGTH, KEYS),
    ]
    return [random.random(shape) < 0.6 for shape in shapes]


def in_four_axes(mask):
    if mask.ndim == 2:
        return mask[:, np.newaxis, np.newaxis]
    return mask[:, np.newaxis] if mask.ndim == 3 else mask


class PaddingMaskTest:
    def test_zero_is_padding_wherever_it_stands(self):
        mask = padding_mask(ops.array([[7, 9, 0], [0, 3, 0]]))
        assert ops.convert_to_numpy(mask).tolist() == [[True, True, False], [False, True, False]]

    def test_another_id_can_be_padding(self):
        mask = padding_mask(ops.array([[7, 0, 9]]), pad_id=9)
        assert ops.convert_to_numpy(mask).tolist() == [[True, True, False]]


class CausalMaskTest:
    @pytest.mark.parametrize("length", [1, 2, 5])
    def test_it_is_the_lower_triangle_with_its_diagonal(self, length):
        expected = np.tril(np.ones((1, length, length), bool))
        np.testing.assert_array_equal(causal_mask(length), expected)

    def test_the_length_may_be_known_only_when_a_graph_runs(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None])])
        def mask(x):
            return causal_mask(ops.shape(x)[1])

        for length in (3, 5):
            np.testing.assert_array_equal(mask(tf.zeros((2, length))), causal_mask(length))


class CombineMasksTest:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_masks_of_all_ranks_are_joined_by_and(self, count):
        for masks in itertools.product(random_masks(), repeat=count):
            expected = in_four_axes(masks[0])
            for mask in masks[1:]:
                expected = expected & in_four_axes(mask)
            combined = combine_masks(*masks)
            assert len(combined.shape) == 4
            np.testing.assert_array_equal(combined, expected)

    def test_it_broadcasts_against_scores(self):
        for mask in random_masks():
            np.broadcast_to(combine_masks(mask), (BATCH, HEADS, LENGTH, KEYS))

    def test_padding_and_causality_together(self):
        combined = combine_masks(ops.array([[True, True, False]]), None, causal_mask(3))
        assert np.array(combined, int).tolist() == [[[[1, 0, 0], [1, 1, 0], [1, 1, 0]]]]

    def test_order_and_absent_masks_do_not_matter(self):
        padding, _, causal, per_head, _ = random_masks()
        np.testing.assert_array_equal(
            combine_masks(None, padding, causal, None, per_head),
            combine_masks(per_head, causal, padding),
        )

    def test_no_mask_stays_no_mask(self):
        assert combine_masks() is None
        assert combine_masks(None, None) is None

    @pytest.mark.parametrize("dtype", ["int32", "float32"])
    def test_a_mask_of_numbers_is_refused(self, dtype):
        message = rf"Expected a boolean mask \(True = attend\), received dtype={dtype}."
        with pytest.raises(ValueError, match=message):
            combine_masks(ops.ones((BATCH, KEYS), dtype))

    @pytest.mark.parametrize("shape", [(7,), (2, 3, 5, 7, 1)])
    def test_a_mask_of_another_rank_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"Expected a mask of shape .* received shape="):
            combine_masks(ops.ones(shape, "bool"))
