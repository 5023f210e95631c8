"""Random masking: which patches stay, where they come back, and what is drawn."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.masking import (
    MaskTokens,
    RandomMasking,
    hidden_patches,
    visible_count,
)

BATCH, PATCHES, HIDDEN, VISIBLE = 2, 11, 3, 4
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.standard_normal((BATCH, PATCHES, HIDDEN)).astype("float32")
ORDER = np.stack([RANDOM.permutation(PATCHES) for _ in range(BATCH)]).astype("int32")
RATIO = 0.6  # 4.4 of 11 patches stay, rounded down as published


class CountTest:
    @pytest.mark.parametrize(
        ("length", "ratio", "count"), [(196, 0.75, 49), (10, 0.9, 1), (10, 0.7, 3), (11, 0.6, 4)]
    )
    def test_it_is_the_share_rounded_down_whatever_floats_make_of_it(self, length, ratio, count):
        assert visible_count(length, ratio) == count

    @pytest.mark.parametrize(("length", "ratio"), [(4, 0.8), (4, 0.0), (None, 0.5)])
    def test_a_mask_that_hides_all_or_none_is_refused(self, length, ratio):
        with pytest.raises(ValueError, match=r"Expected .*received (mask_ratio|length)="):
            visible_count(length, ratio)


class MaskingTest:
    def test_the_first_patches_of_the_order_stay_and_come_back_to_their_places(self):
        visible = RandomMasking(RATIO)(INPUTS, order=ORDER)
        expected = np.stack([row[o[:VISIBLE]] for row, o in zip(INPUTS, ORDER, strict=True)])
        np.testing.assert_array_equal(visible, expected)
        layer = MaskTokens()
        restored = np.array(layer(visible, order=ORDER))
        (token,) = layer.get_weights()
        hidden = np.array(hidden_patches(ops.array(ORDER), VISIBLE))
        for row in range(BATCH):
            assert sorted(np.flatnonzero(hidden[row])) == sorted(ORDER[row, VISIBLE:])
        np.testing.assert_array_equal(restored[~hidden], INPUTS[~hidden])
        np.testing.assert_array_equal(restored[hidden], np.tile(token, (hidden.sum(), 1)))

    def test_each_image_and_call_has_its_own_mask_and_patches_are_hidden_equally_often(
        self,
    ):
        layer = RandomMasking(RATIO, seed=5)
        first, second = (np.array(layer.draw_order(500, PATCHES, True)) for _ in range(2))
        assert (np.sort(first, axis=1) == np.arange(PATCHES)).all()
        assert (first != second).any(axis=1).all() and (first[0] != first[1]).any()
        shown = np.bincount(first[:, :VISIBLE].ravel(), minlength=PATCHES)
        assert abs(shown - 500 * VISIBLE / PATCHES).max() < 5 * np.sqrt(500 * 0.25)
        again = RandomMasking(RATIO, seed=5).draw_order(500, PATCHES, True)
        np.testing.assert_array_equal(again, first)

    def test_after_training_the_order_is_always_the_same(self):
        layer = RandomMasking(RATIO)
        (row,) = {tuple(row) for _ in range(2) for row in np.array(layer.draw_order(7, PATCHES))}
        assert sorted(row) == list(range(PATCHES))
        np.testing.assert_array_equal(layer(INPUTS), INPUTS[:, row[:VISIBLE]])
        trained = np.array(layer(INPUTS, training=True))
        assert (
            trained.shape == (BATCH, VISIBLE, HIDDEN) and (trained != np.array(layer(INPUTS))).any()
        )

    def test_numbers_of_16_bits_change_no_mask(self):
        """An order of integers is not cast, and noise would be, to numbers that are often equal."""
        exact = RandomMasking(RATIO)(np.round(INPUTS * 8), order=ORDER)
        coarse = RandomMasking(RATIO, dtype="mixed_bfloat16")(np.round(INPUTS * 8), order=ORDER)
        assert keras.backend.standardize_dtype(coarse.dtype) == "bfloat16"
        np.testing.assert_array_equal(ops.cast(coarse, "float32"), exact)

    @pytest.mark.parametrize("ratio", [0, 1, -0.5, "half", None])
    def test_another_ratio_is_one_sentence(self, ratio):
        with pytest.raises(ValueError, match=f"between 0 and 1, received mask_ratio={ratio!r}"):
            RandomMasking(ratio)
