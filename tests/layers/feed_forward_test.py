"""The feed-forward layers against numpy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.activations import gelu_tanh, get_activation
from kerasformer.layers.feed_forward import FeedForward, GatedFeedForward

BATCH, LENGTH, INPUT_DIM, INNER, HIDDEN = 2, 5, 3, 7, 11

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def example():
    return np.random.default_rng(0).standard_normal((BATCH, LENGTH, INPUT_DIM)).astype("float32")


def with_random_weights(layer):
    """Builds a layer and moves its biases away from zero, or they could be missing."""
    random = np.random.default_rng(1)
    layer.build((None, None, INPUT_DIM))
    layer.set_weights([random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("use_bias", [False, True])
class OracleTest:
    def test_the_plain_layer(self, name, use_bias):
        layer = with_random_weights(FeedForward(HIDDEN, INNER, name, use_bias=use_bias))
        w1, b1, w2, b2 = self.weights(layer, use_bias)
        expected = ACTIVATIONS[name](example() @ w1 + b1) @ w2 + b2
        np.testing.assert_allclose(layer(example()), expected, rtol=1e-4, atol=1e-5)

    def test_the_gated_layer(self, name, use_bias):
        layer = with_random_weights(GatedFeedForward(HIDDEN, INNER, name, use_bias=use_bias))
        w1, b1, w2, b2 = self.weights(layer, use_bias)
        assert w1.shape == (INPUT_DIM, 2 * INNER)
        gate, value = np.split(example() @ w1 + b1, 2, axis=-1)
        expected = (ACTIVATIONS[name](gate) * value) @ w2 + b2
        np.testing.assert_allclose(layer(example()), expected, rtol=1e-4, atol=1e-5)

    def weights(self, layer, use_bias):
        weights = layer.get_weights()
        return weights if use_bias else (weights[0], 0.0, weights[1], 0.0)


@pytest.mark.parametrize("kind", [FeedForward, GatedFeedForward])
class FeedForwardTest:
    def test_positions_do_not_see_each_other(self, kind):
        layer, inputs = kind(HIDDEN, INNER), example()
        before = ops.convert_to_numpy(layer(inputs))
        inputs[:, 2] += 1
        moved = np.any(np.array(layer(inputs)) != before, axis=(0, 2))
        assert moved.tolist() == [False, False, True, False, False]

    def test_inner_dropout_is_for_training_only(self, kind):
        layer = with_random_weights(kind(HIDDEN, INNER, "relu", dropout=0.99999, use_bias=True))
        *_, output_bias = layer.get_weights()
        dropped = np.broadcast_to(output_bias, (BATCH, LENGTH, HIDDEN))
        np.testing.assert_allclose(layer(example(), training=True), dropped)
        without = kind(HIDDEN, INNER, "relu", use_bias=True)
        without.build((None, None, INPUT_DIM))
        without.set_weights(layer.get_weights())
        np.testing.assert_array_equal(layer(example(), training=False), without(example()))

    @pytest.mark.parametrize("activation", ["gelu_tanh", gelu_tanh, keras.activations.relu])
    def test_an_activation_survives_storing(self, kind, activation):
        layer = kind(HIDDEN, INNER, activation)
        layer(example())
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        again.set_weights(layer.get_weights())
        np.testing.assert_array_equal(again(example()), layer(example()))
        assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("kind", [FeedForward, GatedFeedForward])
class ArgumentsTest:
    def test_initializers_reach_both_products(self, kind):
        initializers = {"kernel_initializer": "ones", "bias_initializer": "ones"}
        layer = kind(HIDDEN, INNER, use_bias=True, **initializers)
        layer.build((None, None, INPUT_DIM))
        assert all(np.all(weight == 1) for weight in layer.get_weights())

    def test_equal_seeds_drop_equally(self, kind):
        first, second = (
            with_random_weights(kind(HIDDEN, INNER, dropout=0.5, seed=7)) for _ in range(2)
        )
        drawn = np.array(first(example(), training=True))
        np.testing.assert_array_equal(drawn, second(example(), training=True))
        assert np.any(drawn != np.array(first(example(), training=True)))


class ActivationTest:
    def test_the_two_forms_of_gelu_differ(self):
        x = np.linspace(-3, 3, 13, dtype="float32")
        np.testing.assert_allclose(gelu_tanh(x), ACTIVATIONS["gelu_tanh"](x), atol=1e-6)
        assert np.abs(gelu_tanh(x) - get_activation("gelu")(x)).max() > 1e-4

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ValueError, match="Could not interpret activation"):
            FeedForward(HIDDEN, INNER, "no_such_activation")
