"""Copies of layers, their seeds, and how they are stored."""

import json

import keras
import numpy as np
import pytest

from kerasformer.layers.children import child_seed, clone, deserialize_child, serialize_child


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
        assert clone(layer, "copy", "float32").forward_layer.units == 3


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
