"""Arguments of multi-head attention: masks of each rank, initializers, seed, rotary scaling."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.positions.rotary import RotaryEmbedding
from tests.layers.mixers.attention_test import (
    BATCH,
    HEADS,
    HIDDEN,
    KEY_DIM,
    LENGTH,
    assert_equal,
    make_layer,
    random_mask,
    sequence,
)


class MaskTest:
    def test_one_of_rank_2_is_that_of_the_queries_even_where_the_batch_has_its_size(self):
        layer, inputs = make_layer(), sequence(batch=LENGTH)
        mask = random_mask(LENGTH, LENGTH)
        expected = layer(inputs, attention_mask=np.repeat(mask[np.newaxis], LENGTH, axis=0))
        np.testing.assert_array_equal(layer(inputs, attention_mask=mask), expected)
        assert np.abs(layer(inputs, mask=mask) - expected).max() > 0.1

    def test_lists_are_masks_too(self):
        layer, masks = make_layer(), {"attention_mask": random_mask(LENGTH, LENGTH)}
        masks["mask"] = random_mask(BATCH, LENGTH)
        lists = {name: mask.tolist() for name, mask in masks.items()}
        np.testing.assert_array_equal(layer(sequence(), **lists), layer(sequence(), **masks))

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("mask", (LENGTH, BATCH)),
            ("mask", (1, LENGTH)),
            ("inputs_mask", (BATCH, LENGTH, LENGTH)),
            ("attention_mask", (BATCH, LENGTH)),
            ("attention_mask", (BATCH, LENGTH, 1)),
            ("attention_mask", (BATCH, 2, LENGTH, LENGTH)),
        ],
    )
    def test_one_of_another_shape_is_refused(self, name, shape):
        message = f"Expected an? (padding|attention) mask .* received shape=.{shape[0]}, {shape[1]}"
        for inputs in (sequence(), keras.KerasTensor(sequence().shape)):
            with pytest.raises(ValueError, match=message):
                make_layer()(inputs, **{name: np.ones(shape, bool)})


class InitializerTest:
    def test_kernels_and_biases_start_as_they_say(self):
        layer = MultiHeadAttention(
            HIDDEN,
            HEADS,
            key_dim=KEY_DIM,
            kernel_initializer=keras.initializers.RandomUniform(2.0, 3.0),
            bias_initializer="ones",
        )
        layer.build((None, None, HIDDEN), (None, None, HIDDEN))
        kernels = [dense.get_weights()[0] for dense in (layer.query_dense, layer.key_value_dense)]
        for kernel in kernels:
            assert np.all((kernel >= 2) & (kernel <= 3))
        assert np.all(kernels[0][:, :3] != kernels[1][:, :3])
        for dense in (layer.query_dense, layer.key_value_dense, layer.output_dense):
            assert np.all(dense.get_weights()[1] == 1)

    def test_the_same_seed_drops_the_same(self):
        seeds = (3, 3, 5)
        layers = [make_layer(dropout=0.5, seed=seed) for seed in seeds]
        outputs = [np.array(layer(sequence(), training=True)) for layer in layers]
        np.testing.assert_array_equal(outputs[0], outputs[1])
        assert np.any(outputs[0] != outputs[2])


class RotaryArgumentsTest:
    @pytest.mark.parametrize("scaling", [None, ("linear", 3.0), ("ntk", 3.0)])
    def test_they_reach_queries_and_keys(self, scaling):
        layer = make_layer(use_rotary=True, rotary_max_wavelength=50.0, rotary_scaling=scaling)
        query, key, _ = layer._project_inputs(ops.array(sequence()))
        plain = make_layer()
        expected = plain._project_inputs(ops.array(sequence()))
        turn = RotaryEmbedding(50.0, scaling)
        assert_equal([query, key], [turn(expected[0]), turn(expected[1])])
