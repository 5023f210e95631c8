"""Tests of keyed random numbers: the published generator, and what their users rely on."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.keyed_random import fold, integers, make_keys, normal, uniform

KEYS = make_keys(7, tf.range(20011))


class KeysTest:
    def test_they_are_the_outputs_of_splitmix64(self):
        outputs = fold(tf.constant(1234567, tf.uint64), tf.range(5)).numpy().tolist()
        assert outputs == [  # as the reference implementation prints them
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ]

    def test_neither_numbers_nor_their_order_can_be_mixed_up(self):
        numbers = [(a, b, c) for a in range(5) for b in range(7) for c in range(3)]
        keys = {int(make_keys(*row)) for row in numbers} | {int(make_keys(*r[:2])) for r in numbers}
        assert len(keys) == 105 + 35

    def test_a_batch_of_keys_is_its_keys_one_by_one(self):
        batch = make_keys(3, tf.constant([5, 2], tf.int64), tf.constant([[1], [0]]))
        assert batch.shape == (2, 2)
        assert int(batch[1, 0]) == int(make_keys(3, 5, 0))


class UniformTest:
    def test_they_are_even_and_never_0_or_1(self):
        numbers = uniform(KEYS, 2, 11).numpy()
        assert numbers.shape == (20011, 11) and numbers.dtype == np.float32
        assert 0 < numbers.min() and numbers.max() < 1
        counts = np.histogram(numbers, 101, (0, 1))[0]
        expected = numbers.size / 101
        assert np.sum((counts - expected) ** 2 / expected) < 160  # 100 on average, deviation 14

    @pytest.mark.parametrize("shift", ["key", "stream", "place"])
    def test_neighbours_are_independent(self, shift):
        first, second = uniform(KEYS, 0, 2)[:, 0], uniform(KEYS, 0, 2)[:, 1]
        if shift == "key":
            first, second = first[1:], first[:-1]
        elif shift == "stream":
            second = uniform(KEYS, 1, 1)[:, 0]
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / 20011**0.5

    def test_more_numbers_begin_with_the_same_ones(self):
        np.testing.assert_array_equal(uniform(KEYS[:3], 5, 2), uniform(KEYS[:3], 5, 7)[:, :2])


class OtherDistributionsTest:
    def test_normal_numbers_have_the_moments_of_the_normal_distribution(self):
        numbers = normal(KEYS, 0, 5).numpy().astype(np.float64)
        moments = [np.mean(numbers**power) for power in (1, 2, 3, 4)]
        np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.12)

    def test_integers_are_even_and_below_their_limits(self):
        numbers = integers(uniform(KEYS, 0, 1)[:, 0], 7).numpy()
        counts = np.bincount(numbers)
        assert len(counts) == 7
        assert np.ptp(counts) < 8 * (20011 / 7) ** 0.5
        assert integers(tf.constant([0.9999999, 1e-7]), [5, 1]).numpy().tolist() == [4, 0]
