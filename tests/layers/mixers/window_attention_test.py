"""Window attention against dense attention with the mask and the biases of the windows."""

import numpy as np
import pytest
from keras import ops

from kerasformer.layers.blocks import EncoderBlock
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.window_attention import WindowAttention
from tests.layers.mixers.local_attention_test import BATCH, HEADS, HIDDEN, sequence

WINDOW = (2, 3)
GRIDS = [((4, 6), 0), ((4, 6), 1), ((5, 7), (1, 2)), ((5, 7), 0)]


def place(index, side, shift, size):
    """Returns the window of an index of an axis, the cell in it, and whether it was wrapped."""
    moved = (index - shift) % (-(-size // side) * side)
    return moved // side, moved % side, index < shift


def windows_of(grid, shift, table):
    """Writes down which positions share a window, and the biases of their scores."""
    count = grid[0] * grid[1]
    mask, biases = np.zeros((count, count), bool), np.zeros((table.shape[1], count, count))
    shifts = np.broadcast_to(shift, 2)
    places = [
        [place(*axis) for axis in zip(divmod(index, grid[1]), WINDOW, shifts, grid, strict=True)]
        for index in range(count)
    ]
    for query, key in np.ndindex(count, count):
        pairs = list(zip(places[query], places[key], strict=True))
        mask[query, key] = all(x[::2] == y[::2] for x, y in pairs)
        rows, columns = (x[1] - y[1] for x, y in pairs)
        biases[:, query, key] = table[(rows + 1) * 5 + columns + 2]
    return mask, biases


class DenseTest:
    @pytest.mark.parametrize(("grid", "shift"), GRIDS)
    def test_it_equals_dense_attention_with_biases(self, grid, shift):
        layer = WindowAttention(HIDDEN, HEADS, WINDOW, grid, shift)
        dense, random = MultiHeadAttention(HIDDEN, HEADS), np.random.default_rng(1)
        dense.build((None, None, HIDDEN))
        layer.build((None, None, HIDDEN))
        layer.set_weights([random.standard_normal(x.shape) for x in layer.weights])
        dense.query_key_value_dense.set_weights(layer.query_key_value_dense.get_weights())
        dense.output_dense.set_weights(layer.output_dense.get_weights())
        mask, biases = windows_of(grid, shift, layer.position_biases.numpy())
        inputs = sequence(len(mask))
        for real in (None, random.random(inputs.shape[:2]) < 0.7):
            expected, scores = dense(
                inputs,
                mask=real,
                attention_mask=mask,
                position_bias=ops.array(biases),
                return_attention_scores=True,
            )
            found = layer(inputs, mask=real)
            again, found_scores = layer(inputs, mask=real, return_attention_scores=True)
            for actual, wanted in ((found, expected), (again, expected), (found_scores, scores)):
                np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-4)

    def test_windows_do_not_see_each_other(self):
        layer, changed = WindowAttention(HIDDEN, HEADS, 2, (4, 4), shift=1), sequence(16)
        before = np.array(layer(changed))
        changed[:, 0] += 1  # the corner, which a shift brings together with three other corners
        assert np.flatnonzero(np.any(before != np.array(layer(changed)), axis=(0, 2))).tolist() == [
            0
        ]


class GlobalQueryTest:
    def test_all_windows_are_asked_the_same(self):
        layer = WindowAttention(HIDDEN, HEADS, WINDOW, (4, 6), use_global_queries=True)
        queries, inputs = sequence(6), np.tile(sequence(24)[:, :1], (1, 24, 1))
        outputs = np.array(layer(inputs, queries=queries))
        # Windows of one vector answer every query with that vector.
        np.testing.assert_allclose(outputs, outputs[:, :1].repeat(24, axis=1), atol=1e-5)
        inputs = sequence(24)
        outputs = layer(inputs, queries=queries)
        dense, _ = layer(inputs, queries=queries, return_attention_scores=True)
        np.testing.assert_allclose(outputs, dense, atol=1e-5)
        twice = inputs.reshape(BATCH, 2, 2, 2, 3, HIDDEN)
        twice = twice[:, :1].repeat(2, axis=1).reshape(inputs.shape)
        upper, lower = np.split(np.array(layer(twice, queries=queries)), 2, axis=1)
        np.testing.assert_allclose(upper, lower, atol=1e-6)


class ErrorTest:
    @pytest.mark.parametrize(
        ("use", "message"),
        [
            (lambda: WindowAttention(6, 3, 2, (2, 4), shift=2), "shift=2 and window_size=2"),
            (lambda: WindowAttention(6, 3, 0, (2, 4)), "received window_size=0"),
            (
                lambda: WindowAttention(6, 3, 2, (2, 4), use_global_queries=True, use_rotary=True),
                "received use_rotary=True",
            ),
            (lambda: WindowAttention(6, 3, 2, (2, 4))(ops.ones((1, 9, 6))), "received length=9"),
            (
                lambda: WindowAttention(6, 3, 2, (2, 4))(
                    ops.ones((1, 8, 6)), queries=ops.ones((1, 4, 6))
                ),
                "received a value for queries",
            ),
            (
                lambda: WindowAttention(6, 3, 2, (2, 4), use_global_queries=True)(
                    ops.ones((1, 8, 6)), queries=ops.ones((1, 5, 6))
                ),
                r"Expected queries of shape \(1, 4, 6\) .* received \(1, 5, 6\)",
            ),
            (
                lambda: EncoderBlock(6, mixer=WindowAttention(6, 3, 2, (2, 4)))(
                    ops.ones((1, 8, 6)), use_causal_mask=True
                ),
                "whose call takes use_causal_mask, received mixer=WindowAttention",
            ),
            (
                lambda: EncoderBlock(6, mixer=WindowAttention(6, 3, 2, (2, 4))).init_cache(1, 8),
                "to decode token by token, received mixer=WindowAttention",
            ),
        ],
    )
    def test_what_contradicts_itself_is_named(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()
