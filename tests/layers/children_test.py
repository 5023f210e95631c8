"""Copies of layers, their seeds, and how they are stored."""

import json

import keras
import numpy as np
import pytest

from kerasformer.layers.children import child_seed, clone, deserialize_child, serialize_child
from kerasformer.layers.stacks import Encoder

HIDDEN = 12


class CloneTest:
    def test_a_copy_has_the_arguments_and_weights_of_its_own(self):
        layer = keras.layers.Dense(3, activation="tanh", use_bias=False)
        layer.build((None, 5))
        copy = clone(layer, "copy", "mixed_float16")
        assert (copy.name, copy.dtype_policy.name, copy.built) == ("copy", "mixed_float16", False)
        kept = {"units", "activation", "use_bias", "kernel_initializer"}
        assert {k: copy.get_config()[k] for k in kept} == {k: layer.get_config()[k] for k in kept}
        copy.build((None, 5))
        assert np.any(copy.get_weights()[0] != layer.get_weights()[0])

    @pytest.mark.parametrize(("own", "given", "expected"), [(None, 7, 7), (3, 7, 7), (3, None, 3)])
    def test_a_seed_replaces_that_of_a_layer_that_takes_one(self, own, given, expected):
        copy = clone(keras.layers.Dropout(0.5, seed=own), "copy", "float32", given)
        assert copy.seed == expected
        assert clone(keras.layers.Dense(3), "copy", "float32", given).units == 3

    def test_a_layer_of_layers_is_copied_whole(self):
        layer = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))
        inside = clone(layer, "copy", "mixed_bfloat16").forward_layer
        assert (inside.units, inside.compute_dtype) == (3, "bfloat16")

    def test_a_layer_inside_that_chose_its_dtype_keeps_it(self):
        layer = keras.layers.TimeDistributed(keras.layers.Dense(3, dtype="float64"))
        assert clone(layer, "copy", "mixed_bfloat16").layer.compute_dtype == "float64"


class SeedTest:
    def test_children_of_other_names_draw_other_numbers(self):
        names = ["dropout_layer", "mixer", *(f"block_{index}" for index in range(101))]
        seeds = {child_seed(seed, name) for name in names for seed in range(7)}
        assert len(seeds) == 7 * len(names) and 0 <= min(seeds) and max(seeds) < 2**31
        assert child_seed(5, "mixer") == child_seed(5, "mixer")

    def test_without_a_seed_there_is_none(self):
        assert child_seed(None, "mixer") is None


class StoreTest:
    def test_a_stored_layer_is_made_again_unbuilt(self):
        layer = keras.layers.Dense(3, name="dense")
        layer.build((None, 5))
        config = json.loads(json.dumps(serialize_child(layer)))
        again = deserialize_child(config)
        assert again.get_config() == layer.get_config() and not again.built

    def test_no_layer_is_stored_as_none(self):
        assert serialize_child(None) is None and deserialize_child(None) is None

    @pytest.mark.parametrize(
        "make_mixer",
        [
            lambda: keras.layers.TimeDistributed(keras.layers.Dense(HIDDEN)),
            lambda: keras.layers.Bidirectional(recurrent(HIDDEN // 2)),
            lambda: [keras.layers.RNN(keras.layers.GRUCell(HIDDEN), return_sequences=True)],
            lambda: keras.Sequential([keras.layers.Dense(HIDDEN), recurrent(HIDDEN)]),
        ],
        ids=["time distributed", "bidirectional", "cell", "sequential"],
    )
    def test_blocks_of_mixers_that_hold_layers_share_none(self, make_mixer, tmp_path):
        encoder, model = make_model(make_mixer())
        config = json.dumps(encoder.get_config())
        again = Encoder.from_config(encoder.get_config())
        assert json.dumps(again.get_config()) == json.dumps(encoder.get_config()) == config
        assert_same_when_loaded(model, tmp_path / "model.keras")

    def test_layers_inside_mixers_are_stored_quantised(self, tmp_path):
        encoder, model = make_model(keras.layers.TimeDistributed(keras.layers.Dense(HIDDEN)))
        for block in encoder.blocks:
            block.self_attention.sublayer.layer.quantize("int8")
        assert_same_when_loaded(model, tmp_path / "model.keras")


def recurrent(units):
    return keras.layers.LSTM(units, return_sequences=True)


def make_model(mixer):
    """Makes an encoder of other weights in each block, and a functional model around it."""
    inputs = keras.Input((5, HIDDEN))
    encoder = Encoder(2, HIDDEN, mixer=mixer)
    model, random = keras.Model(inputs, encoder(inputs)), np.random.default_rng(1)
    model.set_weights([random.standard_normal(w.shape) for w in model.weights])
    return encoder, model


def assert_same_when_loaded(model, path):
    model.save(path)
    x = np.random.default_rng(2).standard_normal((2, 5, HIDDEN)).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model(path)(x), model(x))
