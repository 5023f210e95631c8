"""The masks as exact arrays, and their combination against numpy."""

import itertools

import numpy as np
import pytest
from keras import ops

from kerasformer.layers.masks import causal_mask, combine_masks, padding_mask
from tests.backend import needs_tensorflow, tf

BATCH, HEADS, LENGTH, KEYS = 2, 3, 5, 7


SHAPE = (BATCH, HEADS, LENGTH, KEYS)


def random_mask(*shape):
    return np.random.default_rng(0).random(shape) < 0.6


KEY_MASK = random_mask(BATCH, KEYS)
# One attention mask of each rank, and each with axes of size 1.
ATTENTION_MASKS = [
    random_mask(LENGTH, KEYS),
    random_mask(1, KEYS),
    random_mask(BATCH, LENGTH, KEYS),
    random_mask(1, LENGTH, KEYS),
    random_mask(BATCH, 1, KEYS),
    random_mask(BATCH, HEADS, LENGTH, KEYS),
    random_mask(BATCH, 1, LENGTH, KEYS),
    random_mask(1, HEADS, 1, KEYS),
]


def in_four_axes(mask):
    """Writes out the meaning of an attention mask: rank 2 is `(T, S)`."""
    if mask.ndim == 2:
        return mask[np.newaxis, np.newaxis]
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

    @needs_tensorflow
    def test_the_length_may_be_known_only_when_a_graph_runs(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None])])
        def mask(x):
            return causal_mask(ops.shape(x)[1])

        for length in (3, 5):
            np.testing.assert_array_equal(mask(tf.zeros((2, length))), causal_mask(length))


class CombineMasksTest:
    @pytest.mark.parametrize("count", [1, 2])
    @pytest.mark.parametrize("key_mask", [None, KEY_MASK], ids=["no padding", "padding"])
    def test_masks_of_all_ranks_are_joined_by_and(self, count, key_mask):
        for masks in itertools.product(ATTENTION_MASKS, repeat=count):
            expected = np.ones(SHAPE, bool)
            for mask in masks:
                expected = expected & in_four_axes(mask)
            if key_mask is not None:
                expected = expected & key_mask[:, np.newaxis, np.newaxis]
            combined = combine_masks(key_mask, *masks, shape=SHAPE)
            assert len(combined.shape) == 4
            np.testing.assert_array_equal(np.broadcast_to(combined, SHAPE), expected)

    def test_of_a_square_batch_rank_2_is_that_of_the_queries(self):
        square = np.tril(np.ones((3, 3), bool))
        padding = combine_masks(square, shape=(3, 1, 3, 3))
        attention = combine_masks(None, square, shape=(3, 1, 3, 3))
        np.testing.assert_array_equal(padding, square[:, np.newaxis, np.newaxis])
        np.testing.assert_array_equal(attention, square[np.newaxis, np.newaxis])

    def test_padding_and_causality_together(self):
        combined = combine_masks(ops.array([[True, True, False]]), None, causal_mask(3))
        assert np.array(combined, int).tolist() == [[[[1, 0, 0], [1, 1, 0], [1, 1, 0]]]]

    def test_lists_are_masks_too(self):
        for key_mask, attention_mask in ((KEY_MASK, None), (None, ATTENTION_MASKS[2])):
            lists = [mask if mask is None else mask.tolist() for mask in (key_mask, attention_mask)]
            expected = combine_masks(key_mask, attention_mask)
            np.testing.assert_array_equal(combine_masks(*lists), expected)

    def test_no_mask_stays_no_mask(self):
        assert combine_masks() is None
        assert combine_masks(None, None) is None

    @pytest.mark.parametrize("dtype", ["int32", "float32"])
    def test_a_mask_of_numbers_is_refused(self, dtype):
        message = rf"Expected a boolean mask \(True = attend\), received dtype={dtype}."
        for masks in ([ops.ones((BATCH, KEYS), dtype)], [None, ops.ones((LENGTH, KEYS), dtype)]):
            with pytest.raises(ValueError, match=message):
                combine_masks(*masks)

    @pytest.mark.parametrize("shape", [(KEYS,), (1, KEYS), (BATCH, 1), (BATCH, 1, KEYS), (KEYS, 2)])
    def test_padding_of_another_rank_or_size_is_refused(self, shape):
        message = r"padding mask of shape \(B, S\) with B=2 and S=7, received shape=\(%s"
        with pytest.raises(ValueError, match=message % shape[0]):
            combine_masks(np.ones(shape, bool), shape=SHAPE)

    @pytest.mark.parametrize(
        "shape",
        [
            (KEYS,),
            (BATCH, KEYS),
            (LENGTH, 1),
            (KEYS, LENGTH),
            (BATCH, LENGTH, 1),
            (HEADS, LENGTH, KEYS),
            (BATCH, LENGTH, LENGTH, KEYS),
            (BATCH, HEADS, LENGTH, LENGTH),
            (1, BATCH, HEADS, LENGTH, KEYS),
        ],
    )
    def test_an_attention_mask_of_another_rank_or_size_is_refused(self, shape):
        message = r"Expected an attention mask .* B=2, N=3, T=5 and S=7, received shape=\(%s"
        with pytest.raises(ValueError, match=message % shape[0]):
            combine_masks(None, np.ones(shape, bool), shape=SHAPE)

    @needs_tensorflow
    def test_sizes_known_only_when_a_graph_runs_are_taken_as_they_are(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None], "bool")] * 2)
        def combine(key_mask, attention_mask):
            return combine_masks(key_mask, attention_mask, shape=(None, HEADS, None, None))

        np.testing.assert_array_equal(
            combine(KEY_MASK, ATTENTION_MASKS[0]), combine_masks(KEY_MASK, ATTENTION_MASKS[0])
        )
