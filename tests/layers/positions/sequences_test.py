"""The published position encodings against their formulas, and what rotation promises."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.positions.sequences import (
    LearnedPositionEmbedding,
    RotaryEmbedding,
    SinusoidalPositionEncoding,
    rotate,
    sinusoidal_positions,
)

BATCH, LENGTH, HIDDEN = 2, 5, 14


def vaswani(position, d):
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(the same)."""
    row = np.zeros(d)
    for i in range(d // 2):
        row[2 * i] = np.sin(position / 10000 ** (2 * i / d))
        row[2 * i + 1] = np.cos(position / 10000 ** (2 * i / d))
    return row


def marian(position, d):
    angles = [position / 10000 ** (2 * i / d) for i in range(d // 2)]
    return np.concatenate([np.sin(angles), np.cos(angles)])


def tensor2tensor(position, d):
    increment = np.log(10000) / (d // 2 - 1)
    angles = position * np.exp(-increment * np.arange(d // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)])


def opennmt(position, d):
    return tensor2tensor(position + 1, d)


# system: layout, start, formula with positions from 0
PUBLISHED = {
    "Vaswani et al.": ("interleaved", 0, vaswani),
    "Marian, Sockeye": ("concatenated", 0, marian),
    "tensor2tensor": ("tensor2tensor", 0, tensor2tensor),
    "OpenNMT-tf, CTranslate2": ("tensor2tensor", 1, opennmt),
}


class SinusoidalPositionEncodingTest:
    @pytest.mark.parametrize("system", PUBLISHED)
    @pytest.mark.parametrize("hidden_dim", [4, HIDDEN])
    @pytest.mark.parametrize("length", [1, 7, 601])
    def test_it_is_what_the_system_published(self, system, hidden_dim, length):
        layout, start, formula = PUBLISHED[system]
        layer = SinusoidalPositionEncoding(layout, start)
        table = layer(ops.zeros((1, length, hidden_dim)))[0]
        expected = [formula(position, hidden_dim) for position in range(length)]
        np.testing.assert_allclose(table, expected, atol=1e-4)

    def test_all_published_encodings_differ(self):
        tables = [[f(p, HIDDEN) for p in range(LENGTH)] for *_, f in PUBLISHED.values()]
        for i, table in enumerate(tables):
            for other in tables[:i]:
                assert np.abs(np.subtract(table, other)).max() > 0.1

    def test_it_is_added_to_the_sequence(self):
        inputs = np.random.default_rng(0).standard_normal((BATCH, LENGTH, HIDDEN))
        table = sinusoidal_positions(ops.arange(LENGTH), HIDDEN)
        np.testing.assert_allclose(SinusoidalPositionEncoding()(inputs), inputs + table, rtol=1e-5)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    @pytest.mark.parametrize("layout", ["interleaved", "concatenated", "tensor2tensor"])
    def test_a_table_in_16_bits_is_the_exact_one_rounded_once(self, policy, layout):
        layer = SinusoidalPositionEncoding(layout, dtype=policy)
        table = layer(ops.zeros((1, 521, HIDDEN)))[0]
        exact = sinusoidal_positions(ops.arange(521), HIDDEN, layout)
        assert keras.backend.standardize_dtype(table.dtype) == layer.compute_dtype
        np.testing.assert_array_equal(table, ops.cast(exact, layer.compute_dtype))
        # bfloat16 would take position 257 for 256.
        assert np.any(table[256] != table[257])

    def test_positions_of_the_callers_choice(self):
        layer = SinusoidalPositionEncoding(start=1)
        table = layer(ops.zeros((1, 11, HIDDEN)))[0]
        chosen = np.array([[3, 4, 10], [0, 7, 7]])
        outputs = layer(ops.zeros((2, 3, HIDDEN)), positions=chosen)
        np.testing.assert_allclose(outputs, np.array(table)[chosen], rtol=1e-6)
        outputs = layer(ops.zeros((2, 3, HIDDEN)), positions=chosen[0])
        np.testing.assert_allclose(outputs[1], np.array(table)[chosen[0]], rtol=1e-6)

    @pytest.mark.parametrize(
        ("use", "message"),
        [
            (lambda: SinusoidalPositionEncoding("spiral"), "received layout='spiral'"),
            (lambda: SinusoidalPositionEncoding(start=2), "Expected start to be 0 or 1"),
            (
                lambda: SinusoidalPositionEncoding()(ops.zeros((1, 2, 3))),
                "hidden_dim to be even, received 3",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()


class LearnedPositionEmbeddingTest:
    def test_it_adds_the_row_of_each_position(self):
        layer = LearnedPositionEmbedding(max_length=7)
        inputs = np.random.default_rng(0).standard_normal((BATCH, LENGTH, HIDDEN))
        outputs = layer(inputs)
        (table,) = layer.get_weights()
        assert table.shape == (7, HIDDEN)
        np.testing.assert_allclose(outputs, inputs + table[:LENGTH], rtol=1e-5)
        chosen = np.array([[6, 2, 2, 0, 1], [0, 1, 2, 3, 4]])
        outputs = layer(inputs, positions=chosen)
        np.testing.assert_allclose(outputs, inputs + table[chosen], rtol=1e-5)

    def test_a_sequence_that_is_too_long_is_refused(self):
        message = "Expected at most max_length=3 positions, received 5."
        with pytest.raises(ValueError, match=message):
            LearnedPositionEmbedding(max_length=3)(ops.zeros((1, 5, HIDDEN)))


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
