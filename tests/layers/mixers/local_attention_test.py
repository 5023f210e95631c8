"""Local attention against dense attention with the same mask, in training and step by step."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.local_attention import PART, LocalAttention
from tests.backend import gradients

BATCH, HIDDEN, HEADS = 2, 12, 6
GROUPED = {"num_key_value_heads": 3, "use_rotary": True}


def sequence(length):
    shape = (BATCH, length, HIDDEN)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def padding(length):
    mask = np.ones((BATCH, length), bool)
    mask[0, -2:] = mask[1, :4] = False
    return mask


def copied(layer, **options):
    """Returns a `MultiHeadAttention` and gives it and a layer the same random weights."""
    dense, random = MultiHeadAttention(HIDDEN, HEADS, **options), np.random.default_rng(1)
    weights = []
    for attention in (dense, layer):
        attention.build((None, None, HIDDEN))
        weights = weights or [random.standard_normal(x.shape) for x in dense.weights]
        attention.set_weights(weights)
    return dense


def value_and_gradients(layer, inputs, options):
    """Calls a layer; returns its outputs and the gradients of what it reads, all as arrays."""
    inputs = keras.Variable(inputs)

    outputs = []

    def loss():
        outputs.append(layer(ops.convert_to_tensor(inputs), **options))
        return ops.sum(ops.sin(keras.tree.flatten(outputs[0])[0]))

    found = gradients(loss, [inputs, *layer.trainable_weights])
    return [ops.convert_to_numpy(x) for x in [*keras.tree.flatten(outputs[0]), *found]]


def assert_equals_dense(layer, mask, length, is_causal, key_mask=None, **arguments):
    """Compares a layer with dense attention of the same weights under a mask `(..., T, T)`."""
    dense, inputs = copied(layer, **arguments), sequence(length)
    mask = mask & (np.tri(length, dtype=bool) if is_causal else True)
    options = {"mask": key_mask, "attention_mask": mask, "return_attention_scores": True}
    outputs, scores, *expected = value_and_gradients(dense, inputs, options)
    options = {"mask": key_mask, **({"use_causal_mask": True} if is_causal else {})}
    found = value_and_gradients(layer, inputs, options)
    found += layer(inputs, return_attention_scores=True, **options)
    for actual, wanted in zip(found, [outputs, *expected, outputs, scores], strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-4)


def assert_steps_equal_the_causal_pass(layer, length, parts=(1, 4)):
    """Compares steps of some tokens at once, the second row two tokens behind the first."""
    inputs = sequence(length)
    expected = np.array(layer(inputs, use_causal_mask=True))
    for part in parts:
        cache, rows = layer.init_cache(BATCH, length), np.arange(BATCH)[:, None]
        for start in range(0, length - part + 1, part):
            # The second row begins by repeating its first tokens.
            starts = np.array([start, max(start - 2, 0)])
            places = starts[:, None] + np.arange(part)
            tokens = ops.convert_to_tensor(inputs[rows, places])
            outputs, cache = layer.step(tokens, layer.grow_cache(cache), ops.array(starts))
            np.testing.assert_allclose(outputs, expected[rows, places], rtol=1e-3, atol=1e-4)


def near(indices, size, halo):
    """Tells which index of an axis lies in the block of another, or in the halo around it."""
    start = indices[:, None] // size * size
    return (indices >= start - halo) & (indices < start + size + halo)


class DenseTest:
    @pytest.mark.parametrize(
        ("length", "halo", "options", "is_causal"),
        [
            (5, None, {}, True),
            (11, 2, GROUPED, True),
            (11, None, GROUPED, False),
            (12, 0, {}, False),
        ],
    )
    def test_in_one_dimension_it_equals_dense_attention(self, length, halo, options, is_causal):
        layer = LocalAttention(HIDDEN, HEADS, block_size=3, halo=halo, **options)
        mask = near(np.arange(length), 3, 3 if halo is None else halo)
        assert_equals_dense(layer, mask, length, is_causal, padding(length), **options)

    @pytest.mark.parametrize("is_causal", [True, False])
    @pytest.mark.parametrize(
        ("grid", "block", "halo"),
        [((5, 7), (2, 3), None), ((4, 5), 2, (0, 1)), ((4, 3), (1, 2), 1)],
    )
    def test_in_two_dimensions_too(self, grid, block, halo, is_causal):
        layer = LocalAttention(HIDDEN, HEADS, block, halo, grid)
        length = grid[0] * grid[1]
        sizes = np.broadcast_to(block, 2)
        halos = sizes if halo is None else np.broadcast_to(halo, 2)
        axes = zip(np.divmod(np.arange(length), grid[1]), sizes, halos, strict=True)
        rows, columns = (near(*axis) for axis in axes)
        assert_equals_dense(layer, rows & columns, length, is_causal)

    def test_any_length_goes_through_a_model_whose_length_is_open(self):
        layer, inputs = LocalAttention(HIDDEN, HEADS, 3), keras.Input((None, HIDDEN))
        model = keras.Model(inputs, layer(inputs, use_causal_mask=True))
        for length in (2, 7):
            expected = layer(sequence(length), use_causal_mask=True)
            np.testing.assert_allclose(model(sequence(length)), expected, rtol=1e-4, atol=1e-5)


class PerturbationTest:
    def test_what_is_later_or_too_far_away_changes_nothing(self):
        layer = LocalAttention(HIDDEN, HEADS, 3)
        before, changed = np.array(layer(sequence(11), use_causal_mask=True)), sequence(11)
        changed[:, 4] += 1
        moved = np.any(before != np.array(layer(changed, use_causal_mask=True)), axis=(0, 2))
        assert np.flatnonzero(moved).tolist() == [4, 5, 6, 7, 8]

    def test_probabilities_are_dropped_in_training_alone(self):
        layer = LocalAttention(HIDDEN, HEADS, 3, dropout=0.99999)
        copied(layer)
        bias = layer.output_dense.bias.numpy()
        assert np.all(np.array(layer(sequence(5), training=True)) == bias)
        assert np.any(np.array(layer(sequence(5), training=False)) != bias)


class StepTest:
    @pytest.mark.parametrize(
        "arguments",
        [{"block_size": 3, **GROUPED}, {"block_size": (2, 3), "halo": 1, "grid_size": (3, 4)}],
    )
    def test_steps_with_a_ring_of_keys_equal_the_causal_pass(self, arguments):
        layer = LocalAttention(HIDDEN, HEADS, **arguments)
        assert_steps_equal_the_causal_pass(layer, 12, parts=(1, 11))
        ring = 2 * 3 if "grid_size" not in arguments else 3 * 4
        assert layer.init_cache(2, 100)[0].shape[2] == layer.init_cache(2, 0)[0].shape[2] == ring

    def test_a_long_prompt_is_read_in_parts(self):
        layer, part = LocalAttention(HIDDEN, HEADS, 3), PART + 5
        assert_steps_equal_the_causal_pass(layer, 2 * part, parts=[part])


class ErrorTest:
    @pytest.mark.parametrize(
        ("use", "message"),
        [
            (lambda: LocalAttention(6, 3, 0), "positive integer .*, received block_size=0"),
            (lambda: LocalAttention(6, 3, (2, 3)), "without a grid_size, .*block_size=.2, 3."),
            (lambda: LocalAttention(6, 3, 2, -1), "at least 0 or a pair .*, received halo=-1"),
            (lambda: LocalAttention(6, 3, 2, 3), "received halo=3 and block_size=2"),
            (lambda: LocalAttention(6, 3, 2, grid_size=(2,)), r"received grid_size=\(2,\)"),
            (
                lambda: LocalAttention(6, 3, 2, grid_size=(2, 3))(ops.ones((1, 7, 6))),
                r"without prefix tokens, received length=7 and grid_size=\(2, 3\)",
            ),
            (
                lambda: LocalAttention(6, 3, 2)(ops.ones((1, 7, 6)), mask=np.ones((1, 6), bool)),
                r"Expected a padding mask .* received shape=\(1, 6\)",
            ),
        ],
    )
    def test_what_contradicts_itself_is_named(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()
