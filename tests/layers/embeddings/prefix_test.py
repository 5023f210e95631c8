"""Learned tokens in front of a sequence."""

import keras
import numpy as np
import pytest

from kerasformer.layers.embeddings.prefix import PrefixTokens
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.pooling import SequencePooling

BATCH, LENGTH, HIDDEN = 2, 5, 3


def example():
    shape = (BATCH, LENGTH, HIDDEN)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("num_tokens", [1, 2])
class PrefixTest:
    def test_the_tokens_stand_before_the_sequence_of_every_row(self, num_tokens):
        layer = PrefixTokens(num_tokens)
        outputs = np.array(layer(example()))
        (tokens,) = layer.get_weights()
        assert tokens.shape == (num_tokens, HIDDEN) and tokens.any()
        for row in range(BATCH):
            np.testing.assert_array_equal(outputs[row, :num_tokens], tokens)
        np.testing.assert_array_equal(outputs[:, num_tokens:], example())

    def test_the_mask_calls_them_real_wherever_it_comes_from(self, num_tokens):
        layer = PrefixTokens(num_tokens)
        mask = np.array([[True] * 3 + [False] * 2, [False] * LENGTH])
        expected = np.concatenate([np.ones((BATCH, num_tokens), bool), mask], axis=1)
        np.testing.assert_array_equal(layer.compute_mask(example(), mask), expected)
        assert layer.compute_mask(example(), None) is None
        # Keras carries it to the next layer by itself.
        inputs = example() * mask[..., None]
        pooling = SequencePooling()
        outputs = layer(keras.layers.Masking()(inputs))
        np.testing.assert_allclose(
            pooling(outputs), pooling(np.array(outputs), mask=expected), rtol=1e-6
        )

    def test_a_class_token_sees_real_positions_alone(self, num_tokens):
        layer, attention = PrefixTokens(num_tokens), MultiHeadAttention(HIDDEN, 1)
        inputs = keras.Input((LENGTH, HIDDEN))
        model = keras.Model(inputs, attention(layer(keras.layers.Masking()(inputs)))[:, 0])
        x = example()
        x[0, 3:] = 0  # what Masking calls padding
        shorter = attention(layer(x[:1, :3]))[:, 0]
        np.testing.assert_allclose(model(x)[:1], shorter, rtol=1e-5, atol=1e-6)


class ArgumentTest:
    def test_the_tokens_start_as_their_initializer_says(self):
        layer = PrefixTokens(2, tokens_initializer=keras.initializers.Constant(0.5))
        assert np.all(np.array(layer(example()))[:, :2] == 0.5)
        again = PrefixTokens.from_config(layer.get_config())
        np.testing.assert_array_equal(again(example()), layer(example()))

    def test_no_token_at_all_is_refused(self):
        with pytest.raises(ValueError, match="received num_tokens=0"):
            PrefixTokens(0)
