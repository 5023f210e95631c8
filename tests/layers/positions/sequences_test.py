"""The published position encodings against their formulas, and the learned ones."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.positions.rotary import RotaryEmbedding
from kerasformer.layers.positions.sequences import (
    LearnedPositionEmbedding,
    SinusoidalPositionEncoding,
    sinusoidal_positions,
)
from tests.backend import needs_tensorflow, tf

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
        table = np.array(sinusoidal_positions(ops.arange(LENGTH), HIDDEN))
        np.testing.assert_allclose(SinusoidalPositionEncoding()(inputs), inputs + table, rtol=1e-5)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    @pytest.mark.parametrize("layout", ["interleaved", "concatenated", "tensor2tensor"])
    def test_a_table_in_16_bits_is_the_exact_one_rounded_once(self, policy, layout):
        layer = SinusoidalPositionEncoding(layout, dtype=policy)
        table = layer(ops.zeros((1, 521, HIDDEN)))[0]
        exact = sinusoidal_positions(ops.arange(521), HIDDEN, layout)
        assert keras.backend.standardize_dtype(table.dtype) == layer.compute_dtype
        exact = ops.cast(exact, layer.compute_dtype)
        table, exact = map(ops.convert_to_numpy, (table, exact))
        np.testing.assert_array_equal(table, exact)
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
                "hidden_dim to be even, received hidden_dim=3",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()


class PositionsOfACallTest:
    @pytest.mark.parametrize(
        "layer", [SinusoidalPositionEncoding(), LearnedPositionEmbedding(7), RotaryEmbedding()]
    )
    def test_they_are_one_for_each_step(self, layer):
        is_rotary = isinstance(layer, RotaryEmbedding)
        shape = (BATCH, 3, LENGTH, HIDDEN) if is_rotary else (BATCH, LENGTH, HIDDEN)
        for right in ((LENGTH,), (1, LENGTH), (BATCH, LENGTH)):
            positions = ops.zeros(right, "int32")
            layer(ops.zeros(shape), positions=positions)
            layer(ops.zeros(shape), positions=ops.convert_to_numpy(positions).tolist())
        for wrong in ((BATCH,), (1,), (LENGTH, BATCH), (BATCH, 1), (3, LENGTH), (1, 1, 1, LENGTH)):
            message = f"with B=2 and T=5, received shape=.{wrong[0]}"
            with pytest.raises(ValueError, match=message):
                layer(ops.zeros(shape), positions=ops.zeros(wrong, "int32"))
        with pytest.raises(TypeError, match="too many positional arguments"):
            layer(ops.zeros(shape), ops.zeros((LENGTH,), "int32"))


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

    def test_the_table_starts_as_its_initializer_says(self):
        layer = LearnedPositionEmbedding(7, keras.initializers.Constant(3.0))
        np.testing.assert_array_equal(layer(ops.zeros((1, LENGTH, HIDDEN))), 3)

    @pytest.mark.parametrize(
        ("positions", "message"),
        [
            ([[0, 1, 2, 3, 7]], "from 0 to 6 with max_length=7, .* from 0 to 7"),
            ([3, -1, 2, 0, 0], "positions from -1 to 3"),
        ],
    )
    def test_positions_outside_of_the_table_are_refused_outside_of_graphs(self, positions, message):
        layer = LearnedPositionEmbedding(max_length=7)
        with pytest.raises(ValueError, match=message):
            layer(ops.zeros((1, LENGTH, HIDDEN)), positions=ops.array(positions))

    @needs_tensorflow
    def test_positions_that_a_graph_computes_are_taken_as_they_are(self):
        layer = LearnedPositionEmbedding(max_length=7)
        inputs, positions = ops.zeros((BATCH, LENGTH, HIDDEN)), ops.array([[6, 2, 2, 0, 1]])
        expected = layer(inputs, positions=positions)
        compute = tf.function(lambda positions: layer(inputs, positions=positions))
        np.testing.assert_array_equal(compute(positions), expected)

    def test_a_table_without_positions_is_refused(self):
        with pytest.raises(ValueError, match="at least 1, received max_length=0"):
            LearnedPositionEmbedding(max_length=0)

    def test_a_sequence_that_is_too_long_is_refused(self):
        message = "Expected at most max_length=3 positions, received length=5."
        with pytest.raises(ValueError, match=message):
            LearnedPositionEmbedding(max_length=3)(ops.zeros((1, 5, HIDDEN)))
