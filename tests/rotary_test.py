"""Rotary positions against complex numbers, published scalings, and what rotation promises."""

import numpy as np
import pytest
from keras import ops

from kerasformer.layers.positions.rotary import RotaryEmbedding, rotate

BATCH, LENGTH = 2, 5


class RotaryEmbeddingTest:
    heads, key_dim = 3, 10

    def example(self, length=LENGTH, seed=0):
        random = np.random.default_rng(seed)
        return random.standard_normal((BATCH, self.heads, length, self.key_dim)).astype("float32")

    def test_it_turns_pairs_as_complex_numbers(self):
        x = self.example()
        half = self.key_dim // 2
        frequencies = 10000.0 ** (-2 * np.arange(half) / self.key_dim)
        angles = np.arange(LENGTH)[:, np.newaxis] * frequencies
        turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
        expected = np.concatenate([turned.real, turned.imag], axis=-1)
        np.testing.assert_allclose(RotaryEmbedding()(x), expected, rtol=1e-5, atol=1e-5)

    def test_the_first_position_does_not_turn(self):
        x = self.example()
        np.testing.assert_array_equal(RotaryEmbedding()(x)[:, :, 0], x[:, :, 0])

    def test_lengths_of_vectors_are_kept(self):
        x = self.example(length=101)
        turned = RotaryEmbedding(max_wavelength=50.0)(x)
        np.testing.assert_allclose(
            np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
        )

    def test_a_product_depends_on_the_distance_only(self):
        query, key = self.example(1, seed=1), self.example(1, seed=2)

        def product(query_position, key_position):
            turned = (
                rotate(query, ops.array([query_position])),
                rotate(key, ops.array([key_position])),
            )
            return np.sum(turned[0] * turned[1], axis=-1)

        for distance in (0, 1, 5):
            near = product(distance, 0)
            np.testing.assert_allclose(product(distance + 300, 300), near, atol=1e-3)
            assert np.abs(product(distance + 2, 0) - near).max() > 0.1

    def test_each_row_may_have_positions_of_its_own(self):
        layer, x = RotaryEmbedding(), self.example(length=1)
        rows = layer(x, positions=ops.array([[4], [2]]))
        for row, position in enumerate((4, 2)):
            alone = layer(x[row : row + 1], positions=ops.array([position]))
            np.testing.assert_allclose(rows[row], alone[0], rtol=1e-6)

    def test_each_axis_turns_a_part_of_the_head_as_if_it_were_a_head(self):
        x = np.random.default_rng(3).standard_normal((BATCH, self.heads, LENGTH, 12))
        x = x.astype("float32")
        for axes in (1, 2, 3):
            positions = np.random.default_rng(axes).integers(0, 97, (BATCH, LENGTH, axes))
            parts = np.split(x, axes, axis=-1)
            turned = [rotate(part, positions[..., i]) for i, part in enumerate(parts)]
            outputs = RotaryEmbedding()(x, positions=positions)
            np.testing.assert_array_equal(outputs, np.concatenate(turned, axis=-1))
            for_all = RotaryEmbedding()(x, positions=positions[:1])
            np.testing.assert_allclose(for_all[0], outputs[0], rtol=1e-5, atol=1e-6)

    def test_heads_that_the_axes_cannot_share_are_refused(self):
        with pytest.raises(ValueError, match="that 4 divides, .* 2 axes, received key_dim=10"):
            RotaryEmbedding()(self.example(), positions=ops.zeros((1, LENGTH, 2), "int32"))

    def test_angles_are_exact_in_16_bits(self):
        x = np.ones((1, 1, 521, self.key_dim), "float32")
        turned = RotaryEmbedding(dtype="mixed_bfloat16")(x)
        np.testing.assert_array_equal(turned, ops.cast(RotaryEmbedding()(x), "bfloat16"))

    def test_heads_of_odd_size_are_refused(self):
        with pytest.raises(ValueError, match="Expected heads of even size, received key_dim=3."):
            RotaryEmbedding()(ops.zeros((1, 1, 2, 3)))
