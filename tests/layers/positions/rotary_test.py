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
            return np.array(ops.sum(turned[0] * turned[1], axis=-1))

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
        expected = ops.cast(RotaryEmbedding()(x), "bfloat16")
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (turned, expected)))

    def test_heads_of_odd_size_are_refused(self):
        with pytest.raises(ValueError, match="Expected heads of even size, received key_dim=3."):
            RotaryEmbedding()(ops.zeros((1, 1, 2, 3)))


def turn(x, positions, base):
    """Rotates with numpy's complex numbers, the frequencies being `base^(-2j/K)`."""
    half = x.shape[-1] // 2
    angles = np.multiply.outer(positions, base ** (-np.arange(half) / half))
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


class ScalingTest:
    x = np.random.default_rng(7).standard_normal((BATCH, 3, LENGTH, 10)).astype("float32")
    positions = np.array([0, 3, 8, 101, 997])

    def test_a_linear_factor_divides_the_positions(self):
        layer = RotaryEmbedding(scaling=("linear", np.float32(4.0)))
        outputs = layer(self.x, positions=self.positions)
        np.testing.assert_array_equal(outputs, rotate(self.x, ops.array(self.positions / 4)))
        expected = turn(self.x, self.positions / 4, 10000.0)
        np.testing.assert_allclose(outputs, expected, atol=1e-4)

    def test_the_ntk_factor_raises_the_base(self):
        layer = RotaryEmbedding(500.0, ("ntk", 4.0))
        outputs = layer(self.x, positions=self.positions)
        expected = turn(self.x, self.positions, 500.0 * 4.0 ** (10 / 8))
        np.testing.assert_allclose(outputs, expected, atol=1e-3)
        # The slowest pair turns a quarter as far, and the fastest as far as ever.
        slow = RotaryEmbedding(500.0)(self.x, positions=self.positions / 4)
        fast = RotaryEmbedding(500.0)(self.x, positions=self.positions)
        for pair, other in ((4, slow), (0, fast)):
            both = [np.array(y)[..., [pair, pair + 5]] for y in (outputs, other)]
            np.testing.assert_allclose(*both, atol=1e-3)

    @pytest.mark.parametrize("kind", ["linear", "ntk"])
    def test_a_factor_of_one_changes_nothing_and_another_does(self, kind):
        plain = RotaryEmbedding()(self.x)
        np.testing.assert_array_equal(RotaryEmbedding(scaling=(kind, 1))(self.x), plain)
        assert np.abs(RotaryEmbedding(scaling=(kind, 2))(self.x) - plain).max() > 0.1

    def test_each_axis_of_a_grid_is_scaled_as_its_part_of_the_head(self):
        x, layer = self.x[..., :8], RotaryEmbedding(scaling=("ntk", 3.0))
        positions = np.stack([self.positions, self.positions[::-1]], axis=-1)[np.newaxis]
        outputs = layer(x, positions=positions)
        for axis in range(2):
            expected = turn(x[..., 4 * axis :][..., :4], positions[0, :, axis], 1e4 * 3.0**2)
            np.testing.assert_allclose(outputs[..., 4 * axis :][..., :4], expected, atol=1e-3)

    @pytest.mark.parametrize(
        "scaling",
        [
            ("linear", True),
            ("yarn", 2.0),
            ("linear", 0.5),
            ("ntk", -1),
            ("linear", "2"),
            "linear",
            ("ntk",),
            2.0,
        ]
        + [("linear", float("nan")), ("linear", float("inf"))],
    )
    def test_what_is_no_scaling_is_refused(self, scaling):
        with pytest.raises(ValueError, match="Expected scaling to be None or a pair .* received"):
            RotaryEmbedding(scaling=scaling)

    @pytest.mark.parametrize("base", [1, 0, -10000.0])
    def test_what_is_no_base_is_refused(self, base):
        with pytest.raises(ValueError, match=f"greater than 1, received max_wavelength={base}"):
            RotaryEmbedding(base)

    def test_a_single_pair_has_no_ntk_scaling(self):
        with pytest.raises(
            ValueError, match="at least 4 values .*'ntk', 2.0.*, received key_dim=2"
        ):
            RotaryEmbedding(scaling=("ntk", 2.0))(self.x[..., :2])
