"""The residual connection against numpy, with all that a sublayer may be."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.residual import Residual, drop_rows, make_normalization

BATCH, LENGTH, CONTEXT, HIDDEN = 2, 5, 7, 3
EPSILON = 0.01


def example(length=LENGTH):
    return np.random.default_rng(length).standard_normal((BATCH, length, HIDDEN)).astype("float32")


def layer_norm(x, scale, shift):
    centred = x - x.mean(-1, keepdims=True)
    return scale * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) + shift


def rms_norm(x, scale):
    return scale * x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON)


NORMS = {"layer": layer_norm, "rms": rms_norm}


def random_residual(sublayer=None, **arguments):
    """A built `Residual` whose scales and biases are not the trivial ones and zeros."""
    layer = Residual(sublayer or keras.layers.Dense(HIDDEN), epsilon=EPSILON, **arguments)
    layer.build((None, None, HIDDEN))
    random = np.random.default_rng(1)
    layer.set_weights([random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


@keras.saving.register_keras_serializable(package="kerasformer_test")
class Pair(keras.layers.Layer):
    """A sublayer that returns two more things than its outputs."""

    def build(self, inputs_shape):
        pass

    def call(self, inputs):
        return 2 * inputs, inputs + 1, ops.sum(inputs, axis=-1)


@pytest.mark.parametrize("normalization", NORMS)
class OracleTest:
    def parts(self, normalization, norm_first):
        layer = random_residual(norm_first=norm_first, normalization=normalization)
        kernel, bias = layer.sublayer.get_weights()
        norm_weights = layer.norm.get_weights()
        return (
            layer,
            lambda x: NORMS[normalization](x, *norm_weights),
            lambda x: x @ kernel + bias,
        )

    def test_pre_norm(self, normalization):
        layer, norm, dense = self.parts(normalization, norm_first=True)
        x = example()
        np.testing.assert_allclose(layer(x), x + dense(norm(x)), rtol=1e-4, atol=1e-5)

    def test_post_norm(self, normalization):
        layer, norm, dense = self.parts(normalization, norm_first=False)
        x = example()
        np.testing.assert_allclose(layer(x), norm(x + dense(x)), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("norm_first", [True, False])
    def test_apply_takes_any_function(self, normalization, norm_first):
        layer, *_ = self.parts(normalization, norm_first)
        outputs, extra = layer.apply(ops.array(example()), lambda x: (layer.sublayer(x), "extra"))
        np.testing.assert_array_equal(outputs, layer(example()))
        assert extra == "extra"


@pytest.mark.parametrize("norm_first", [True, False])
class ResidualTest:
    def test_nothing_is_dropped_in_inference(self, norm_first):
        dropping = random_residual(norm_first=norm_first, dropout=0.9)
        keeping = random_residual(norm_first=norm_first)
        np.testing.assert_array_equal(dropping(example(), training=False), keeping(example()))

    def test_dropping_nearly_all_leaves_the_inputs(self, norm_first):
        layer = random_residual(norm_first=norm_first, dropout=0.99999)
        expected = example() if norm_first else layer.norm(example())
        np.testing.assert_allclose(layer(example(), training=True), expected)

    def test_a_tuple_passes_behind_its_first_entry(self, norm_first):
        layer = random_residual(Pair(), norm_first=norm_first)
        x = example()
        outputs, plus_one, total = layer(x)
        seen = np.array(layer.norm(x)) if norm_first else x
        expected = x + 2 * seen if norm_first else layer.norm(x + 2 * x)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5)
        np.testing.assert_allclose(plus_one, seen + 1)
        np.testing.assert_allclose(total, np.sum(seen, axis=-1))

    def test_a_tuple_passes_in_a_functional_model_too(self, norm_first):
        layer = random_residual(Pair(), norm_first=norm_first)
        inputs = keras.Input((LENGTH, HIDDEN))
        model = keras.Model(inputs, layer(inputs))
        for symbolic, eager in zip(model(example()), layer(example()), strict=True):
            np.testing.assert_array_equal(symbolic, eager)

    def test_a_context_reaches_the_sublayer_as_it_is(self, norm_first):
        layer = Residual(MultiHeadAttention(HIDDEN, 1), norm_first=norm_first)
        x, context = example(), example(CONTEXT)
        outputs = layer(x, context)
        attended = np.array(layer.sublayer(layer.norm(x) if norm_first else x, context))
        expected = x + attended if norm_first else layer.norm(x + attended)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)

    def test_masks_of_keras_reach_the_sublayer_and_go_on(self, norm_first):
        attention = MultiHeadAttention(HIDDEN, 1)
        layer = Residual(attention, norm_first=norm_first)
        masking = keras.layers.Masking()
        x = example()
        x[1, 3:] = 0  # what Masking calls padding
        outputs = layer(masking(x))
        mask = np.any(x != 0, axis=-1)
        np.testing.assert_array_equal(
            outputs, layer.apply(ops.array(x), lambda x: attention(x, mask=ops.array(mask)))
        )
        assert np.abs(outputs - layer(x))[1].max() > 1e-3
        # A layer that takes a mask sees that it went on.
        pooled = keras.layers.GlobalAveragePooling1D()(outputs)
        np.testing.assert_allclose(
            pooled[1], ops.mean(outputs[1, :3], axis=0), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("sequences", [(example(),), (example(), example(CONTEXT))])
    def test_a_stored_residual_makes_its_sublayer_again(self, norm_first, sequences, tmp_path):
        attention = MultiHeadAttention(HIDDEN, 1)
        layer = Residual(attention, norm_first, "rms", epsilon=EPSILON, dropout=0.3)
        inputs = [keras.Input(x.shape[1:]) for x in sequences]
        model = keras.Model(inputs, layer(*inputs))
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again(list(sequences)), model(list(sequences)))
        assert again.layers[-1].sublayer.get_config() == attention.get_config()
        assert again.layers[-1].dropout == 0.3


@pytest.mark.parametrize("norm_first", [True, False])
class BranchTest:
    """What acts on the branch beside dropout: a learned scale, and leaving it out."""

    rows, rate = 499, 0.3

    def test_a_learned_vector_scales_the_branch(self, norm_first):
        layer = random_residual(norm_first=norm_first, layer_scale=0.1)
        plain = Residual(layer.sublayer, norm_first, epsilon=EPSILON)
        plain.build((None, None, HIDDEN))
        plain.norm.set_weights(layer.norm.get_weights())
        x, scale = ops.array(example()), ops.convert_to_tensor(layer.scale)
        scaled = plain.apply(x, lambda x: scale * layer.sublayer(x))
        np.testing.assert_allclose(layer(x), scaled, rtol=1e-5, atol=1e-6)
        assert np.abs(layer(x) - plain(x)).max() > 0.1

    def test_the_vector_starts_at_the_argument_and_is_learned(self, norm_first):
        layer = Residual(keras.layers.Dense(HIDDEN), norm_first, layer_scale=1e-5)
        layer.build((None, None, HIDDEN))
        np.testing.assert_array_equal(layer.scale, np.full(HIDDEN, 1e-5, "float32"))
        assert any(weight is layer.scale for weight in layer.trainable_weights)

    def test_without_the_arguments_there_is_no_weight_and_no_state(self, norm_first):
        layer = random_residual(norm_first=norm_first, stochastic_depth=0.0, layer_scale=None)
        assert len(layer.variables) == len(layer.norm.variables) + len(layer.sublayer.variables)

    def test_each_row_keeps_the_whole_branch_or_none_of_it(self, norm_first):
        layer = random_residual(norm_first=norm_first, stochastic_depth=self.rate)
        x = np.random.default_rng(0).standard_normal((self.rows, LENGTH, HIDDEN)).astype("float32")
        branch = np.array(layer.sublayer(layer.norm(x) if norm_first else x)) / (1 - self.rate)
        dropped, kept = (x, x + branch) if norm_first else map(layer.norm, (x, x + branch))
        outputs = np.array(layer(x, training=True))
        is_dropped = np.abs(outputs - np.array(dropped)).max(axis=(1, 2)) < 1e-6
        expected = np.where(is_dropped[:, np.newaxis, np.newaxis], dropped, kept)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
        deviation = np.sqrt(self.rate * (1 - self.rate) / self.rows)
        assert abs(is_dropped.mean() - self.rate) < 4 * deviation

    def test_nothing_is_left_out_in_inference(self, norm_first):
        dropping = random_residual(norm_first=norm_first, stochastic_depth=0.9)
        keeping = random_residual(norm_first=norm_first)
        for training in (False, None):
            np.testing.assert_array_equal(
                dropping(example(), training=training), keeping(example())
            )

    def test_the_random_state_is_a_variable_of_the_layer(self, norm_first):
        first, second = (
            random_residual(norm_first=norm_first, stochastic_depth=0.5) for _ in range(2)
        )
        x = np.ones((self.rows, LENGTH, HIDDEN), "float32")
        for variable, value in zip(second.variables, first.variables, strict=True):
            variable.assign(value)
        drawn = [np.array(first(x, training=True)) for _ in range(2)]
        assert np.any(drawn[0] != drawn[1])
        for expected in drawn:
            np.testing.assert_array_equal(second(x, training=True), expected)


class SeedTest:
    def test_equal_seeds_draw_equally_and_each_source_for_itself(self):
        rates = {"dropout": 0.5, "stochastic_depth": 0.5}
        layers = [Residual(keras.layers.Dense(HIDDEN), **rates, seed=seed) for seed in (7, 7, 8)]
        states = []
        for layer in layers:
            layer.build((None, None, HIDDEN))
            states.append([v.numpy().tolist() for v in layer.non_trainable_variables])
        assert states[0] == states[1] != states[2]
        assert states[0][0] != states[0][1]
        again = Residual.from_config(layers[0].get_config())
        again.build((None, None, HIDDEN))
        assert [v.numpy().tolist() for v in again.non_trainable_variables] == states[0]


class DropRowsTest:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_small_rates_are_kept_to_in_16_bits(self, dtype):
        count, rate = 200_003, 0.003
        outputs = drop_rows(ops.ones((count, 1), dtype), rate, seed=5)
        assert keras.backend.standardize_dtype(outputs.dtype) == dtype
        found = np.mean(np.array(ops.cast(outputs, "float32")) == 0)
        assert abs(found - rate) < 4 * np.sqrt(rate / count)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, "a", [0.1]])
    def test_a_rate_that_is_none_is_refused(self, rate):
        message = re.escape(f"less than 1, received stochastic_depth={rate!r}.")
        with pytest.raises(ValueError, match=message):
            Residual(keras.layers.Dense(HIDDEN), stochastic_depth=rate)


class NormalizationTest:
    @pytest.mark.parametrize("normalization", NORMS)
    def test_statistics_do_not_suffer_from_16_bits(self, normalization):
        # In bfloat16 the mean of 1000, 1001, ... would be off by whole units.
        x = np.array([[[1000.0, 1008.0, 1016.0]]])
        norm = make_normalization(normalization, 1e-6, "norm", "mixed_bfloat16")
        exact = make_normalization(normalization, 1e-6, "norm", "float32")
        difference = ops.cast(norm(x), "float32") - exact(x)
        assert np.abs(difference).max() < 0.01

    def test_an_unknown_normalization_is_refused(self):
        message = r"one of \['affine', 'layer', 'rms'\], received normalization='batch'"
        with pytest.raises(ValueError, match=message):
            Residual(keras.layers.Dense(HIDDEN), normalization="batch")
