"""Pooling by attention against numpy and Keras, with masks."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.pooling import (
    AttentionPooling,
    MeanPooling,
    SequencePooling,
    TokenPooling,
)

BATCH, LENGTH, HIDDEN, HEADS, INTERMEDIATE = 2, 5, 6, 3, 7
MASK = np.array([[True, True, False, True, False], [True] * LENGTH])


def example():
    shape = (BATCH, LENGTH, HIDDEN)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def random_weights(layer):
    random = np.random.default_rng(1)
    layer(example())
    layer.set_weights([random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


LAYERS = {
    "sequence": SequencePooling,
    "attention": lambda **arguments: AttentionPooling(HIDDEN, HEADS, INTERMEDIATE, **arguments),
}
MEANS = {
    "mean": MeanPooling,
    "mean behind a prefix": lambda: MeanPooling(num_prefix_tokens=1),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


class TokenPoolingTest:
    def test_it_takes_the_first_token_or_the_first_ones(self):
        x = example()
        np.testing.assert_array_equal(TokenPooling()(x), x[:, 0])
        np.testing.assert_array_equal(TokenPooling(2)(x), x[:, :2])
        np.testing.assert_array_equal(TokenPooling(1)(x), x[:, :1])

    def test_no_token_at_all_is_refused(self):
        with pytest.raises(ValueError, match="received num_tokens=0"):
            TokenPooling(0)


@pytest.mark.parametrize("make", MEANS.values(), ids=MEANS)
class MeanPoolingTest:
    def test_it_averages_what_is_real_behind_the_prefix(self, make):
        layer, x = make(), example()
        first = layer.num_prefix_tokens
        np.testing.assert_allclose(layer(x), x[:, first:].mean(axis=1), rtol=1e-5, atol=1e-6)
        expected = [
            row[first:][real[first:]].mean(axis=0) for row, real in zip(x, MASK, strict=True)
        ]
        np.testing.assert_allclose(layer(x, mask=MASK), expected, rtol=1e-5, atol=1e-6)

    def test_hidden_positions_change_nothing_and_a_row_of_them_gives_zeros(self, make):
        layer, x = make(), example()
        mask = np.array([[False] * LENGTH, [True] * 3 + [False] * 2])
        before = np.array(layer(x, mask=mask))
        x[~mask] = np.inf
        np.testing.assert_array_equal(layer(x, mask=mask), before)
        assert np.all(before[0] == 0) and np.all(before[1] != 0)


class SequencePoolingTest:
    @pytest.mark.parametrize("mask", [None, MASK])
    def test_it_is_the_average_that_its_scores_weigh(self, mask):
        layer, x = random_weights(SequencePooling()), example()
        (kernel,) = layer.get_weights()
        weights = np.exp(x @ kernel) * (1.0 if mask is None else mask[..., None])
        expected = np.sum(weights * x, axis=1) / np.sum(weights, axis=1)
        np.testing.assert_allclose(layer(x, mask=mask), expected, rtol=1e-5, atol=1e-6)

    def test_its_output_is_the_sum_of_what_it_weighs(self):
        layer, x = random_weights(SequencePooling()), example()
        expected = np.einsum("bt,bth->bh", layer.weights_of(x, MASK), x)
        np.testing.assert_allclose(layer(x, mask=MASK), expected, rtol=1e-5, atol=1e-6)

    def test_equal_scores_make_the_mean(self):
        layer = random_weights(SequencePooling())
        layer.set_weights([np.zeros((HIDDEN, 1))])
        np.testing.assert_allclose(layer(example()), example().mean(axis=1), rtol=1e-5, atol=1e-6)
        mean = keras.layers.GlobalAveragePooling1D()(example(), mask=MASK)
        np.testing.assert_allclose(layer(example(), mask=MASK), mean, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
    def test_a_row_without_anything_real_gives_zeros(self, policy):
        layer = random_weights(SequencePooling(dtype=policy))
        mask = np.array([[False] * LENGTH, [True] * LENGTH])
        outputs = ops.convert_to_numpy(ops.cast(layer(example(), mask=mask), "float32"))
        assert np.all(outputs[0] == 0) and np.all(outputs[1] != 0)


class AttentionPoolingTest:
    @pytest.mark.parametrize("mask", [None, MASK])
    def test_it_equals_keras_attention_and_dense_layers(self, mask):
        layer, x = random_weights(AttentionPooling(HIDDEN, HEADS, INTERMEDIATE)), example()
        probe = np.tile(layer.probe, (BATCH, 1, 1))
        ours = layer.attention
        theirs = keras.layers.MultiHeadAttention(HEADS, HIDDEN // HEADS)
        theirs.build(probe.shape, x.shape)
        kernel, bias = ours.key_value_dense.get_weights()
        key_kernel, value_kernel = np.split(kernel, 2, axis=1)
        key_bias, value_bias = np.split(bias, 2)
        weights = [
            *ours.query_dense.get_weights(),
            *(key_kernel, key_bias, value_kernel, value_bias),
            *ours.output_dense.get_weights(),
        ]
        shapes = [weight.shape for weight in theirs.weights]
        theirs.set_weights([w.reshape(s) for w, s in zip(weights, shapes, strict=True)])
        attended = theirs(probe, x, attention_mask=None if mask is None else mask[:, None])

        feed_forward = layer.feed_forward.sublayer
        inner_kernel, inner_bias = feed_forward.inner_dense.get_weights()
        output_kernel, output_bias = feed_forward.output_dense.get_weights()
        inner = np.array(layer.feed_forward.norm(attended)) @ inner_kernel + inner_bias
        inner = np.array(keras.activations.gelu(inner, approximate=True))
        expected = (attended + inner @ output_kernel + output_bias)[:, 0]
        np.testing.assert_allclose(layer(x, mask=mask), expected, rtol=1e-4, atol=1e-5)

    def test_it_has_the_weights_of_a_block_with_one_norm_and_a_probe(self):
        layer = random_weights(AttentionPooling(HIDDEN, HEADS, INTERMEDIATE))
        attention = MultiHeadAttention(HIDDEN, HEADS)
        attention.build((None, 1, HIDDEN), (None, LENGTH, HIDDEN))
        feed_forward = HIDDEN * INTERMEDIATE * 2 + INTERMEDIATE + HIDDEN
        assert layer.count_params() == attention.count_params() + feed_forward + 3 * HIDDEN

    def test_the_output_may_have_another_size_than_the_inputs(self):
        layer = AttentionPooling(4, 2, INTERMEDIATE)
        assert layer(example()).shape == (BATCH, 4)
        assert layer.compute_output_shape((BATCH, LENGTH, HIDDEN)) == (BATCH, 4)


@each_layer
class PoolingTest:
    def test_order_does_not_matter(self, make):
        layer, x = random_weights(make()), example()
        order = np.random.default_rng(2).permutation(LENGTH)
        np.testing.assert_allclose(
            layer(x[:, order], mask=MASK[:, order]), layer(x, mask=MASK), rtol=1e-4, atol=1e-5
        )

    def test_hidden_positions_change_nothing_and_real_ones_do(self, make):
        layer, x = random_weights(make()), example()
        before = np.array(layer(x, mask=MASK))
        hidden, real = x.copy(), x.copy()
        hidden[~MASK] += 100.0
        real[0, 3] += 1.0
        np.testing.assert_array_equal(layer(hidden, mask=MASK), before)
        after = np.array(layer(real, mask=MASK))
        assert np.all(after[0] != before[0]) and np.all(after[1] == before[1])

    @pytest.mark.parametrize("mask", [None, MASK])
    def test_its_weights_are_shares_of_what_is_real(self, make, mask):
        layer, x = random_weights(make()), example()
        weights = np.array(layer.weights_of(x, mask))
        assert weights.shape == (BATCH, LENGTH)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
        assert np.all((weights > 0) == (True if mask is None else mask))

    def test_a_shorter_row_gives_what_its_padded_form_gives(self, make):
        layer, x = random_weights(make()), example()
        mask = np.arange(LENGTH) < np.array([[3], [LENGTH]])
        np.testing.assert_allclose(
            layer(x[:1, :3])[0], layer(x, mask=mask)[0], rtol=1e-4, atol=1e-5
        )

    def test_the_mask_of_keras_arrives_and_ends_here(self, make):
        layer, x = random_weights(make()), example() * MASK[..., None]
        masked = keras.layers.Masking()(x)
        np.testing.assert_array_equal(layer(masked), layer(x, mask=ops.array(MASK)))
        assert layer.compute_mask(x, MASK) is None


class WrongMaskTest:
    @pytest.mark.parametrize("layer", [MeanPooling(), SequencePooling()])
    def test_a_mask_of_another_size_is_refused_and_a_list_taken(self, layer):
        inputs = keras.ops.ones((2, 5, 6))
        with pytest.raises(ValueError, match=r"padding mask of shape \(B, S\)"):
            layer(inputs, mask=np.ones((2, 1), bool))
        assert tuple(layer(inputs, mask=[[True] * 5] * 2).shape) == (2, 6)
