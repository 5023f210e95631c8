"""Linear attention: its features, what it converges to, and its sums in chunks and steps."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.blocks import EncoderBlock
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.dot_product import scaled_dot_product_attention
from kerasformer.layers.mixers.linear_attention import (
    LinearAttention,
    causal_linear_attention,
    linear_attention,
    orthogonal_features,
    softmax_features,
)
from tests.backend import gradients, needs_tensorflow, tf

BATCH, LENGTH, HIDDEN, HEADS, KEY_DIM, FEATURES = 2, 7, 12, 3, 4, 5
OPTIONS = {
    "softmax": {},
    "relu": {"kernel": "relu"},
    "rotary": {"use_rotary": True},
    "grouped": {"num_key_value_heads": 1},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def sequence(length=LENGTH, seed=0):
    shape = (BATCH, length, HIDDEN)
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def make_layer(**options):
    layer = LinearAttention(HIDDEN, HEADS, num_features=FEATURES, **options)
    layer.build((None, None, HIDDEN))
    random = np.random.default_rng(2)
    layer.set_weights([0.4 * random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


def heads(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


class FeaturesTest:
    def test_they_are_orthogonal_in_blocks_and_as_long_as_gaussian_vectors(self):
        drawn = np.array(orthogonal_features(2999, 3, seed=1))
        blocks = drawn[:2997].reshape(-1, 3, 3)
        products = blocks @ blocks.swapaxes(1, 2)
        np.testing.assert_allclose(products, products * np.eye(3), atol=1e-4)
        flat = np.concatenate([drawn, orthogonal_features(2999, 3, seed=2)])
        assert np.abs(flat.mean(axis=0)).max() < 0.05
        np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(3), atol=0.06)
        squares = (flat**2).sum(axis=1)
        assert abs(squares.mean() - 3) < 0.1
        assert abs(squares.var() - 6) < 0.6  # of a chi-square distribution

    def test_their_products_are_the_exponential_on_average(self):
        query, key = heads(4, KEY_DIM) / 2, heads(4, KEY_DIM, seed=4) / 2
        exact = np.exp(query @ key.T / KEY_DIM**0.5)
        features = np.array(orthogonal_features(199_999, KEY_DIM, seed=1))
        scale = KEY_DIM**-0.25
        norms = ((query * scale) ** 2).sum(axis=1) / 2
        exponents = query @ features.T * scale - norms[:, None]
        # Queries are scaled by their largest feature, which is put back here.
        found = softmax_features(ops.array(query), ops.array(features), True)
        found = np.array(found) * np.exp(exponents.max(axis=1, keepdims=True))
        found = found @ np.array(softmax_features(ops.array(key), ops.array(features), False)).T
        np.testing.assert_allclose(found / len(features), exact, rtol=0.02)

    def test_the_layer_draws_them_by_its_seed_and_again_when_told(self):
        layers = [LinearAttention(HIDDEN, HEADS, seed=seed) for seed in (1, 1, 2, None)]
        for layer in layers:
            layer.build((None, None, HIDDEN))
        drawn = [layer.features.numpy() for layer in layers]
        assert drawn[0].shape == (round(KEY_DIM * np.log(KEY_DIM)), KEY_DIM)
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert not np.any(drawn[0] == drawn[2]) and not np.any(drawn[2] == drawn[3])
        before = layers[0](sequence())
        layers[0].redraw(seed=2)
        np.testing.assert_array_equal(layers[0].features, drawn[2])
        assert not layers[0].features.trainable
        assert np.abs(np.array(before) - np.array(layers[0](sequence()))).max() > 1e-3


def exact_attention(query, key, value, is_causal):
    mask = np.tril(np.ones((LENGTH, LENGTH), bool)) if is_causal else None
    return np.array(scaled_dot_product_attention(query, key, value, mask)[0])


def approximation(query, key, value, features, is_causal=False):
    query = softmax_features(query, features, is_query=True)
    key = softmax_features(key, features, is_query=False)
    if is_causal:
        return np.array(causal_linear_attention(query, key, value, chunk=3)[0])
    return np.array(linear_attention(query, key, value))


class ConvergenceTest:
    @pytest.mark.parametrize("is_causal", [False, True])
    def test_the_error_falls_as_one_over_the_root_of_the_number_of_features(self, is_causal):
        tensors = [ops.array(heads(BATCH, HEADS, LENGTH, KEY_DIM, seed=s)) / 2 for s in (3, 4, 5)]
        exact, counts = exact_attention(*tensors, is_causal), [64, 1024, 16384]
        errors = []
        for count in counts:
            draws = [
                approximation(*tensors, orthogonal_features(count, KEY_DIM, s), is_causal)
                for s in range(5)
            ]
            errors.append(np.sqrt(np.mean((np.stack(draws) - exact) ** 2)))
        slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
        assert -0.6 < slope < -0.4
        assert errors[-1] < 0.01

    def test_with_many_features_it_is_the_attention_of_the_same_weights(self):
        layer = LinearAttention(HIDDEN, HEADS, num_features=16384, use_rotary=True, seed=1)
        exact = MultiHeadAttention(HIDDEN, HEADS, use_rotary=True)
        for attention in (layer, exact):
            attention.build((None, None, HIDDEN))
        exact.set_weights(layer.get_weights()[1:])
        masks = {"mask": np.arange(LENGTH) != [[2], [4]], "use_causal_mask": True}
        found, expected = (x(sequence() / 2, **masks) for x in (layer, exact))
        np.testing.assert_allclose(found, expected, atol=0.03)


class ChunkTest:
    @pytest.mark.parametrize("chunk", [1, 3, 7, 64])
    def test_chunks_change_nothing(self, chunk):
        query, key = (np.abs(heads(BATCH, HEADS, LENGTH, FEATURES, seed=s)) for s in (6, 7))
        value, state = heads(BATCH, HEADS, LENGTH, KEY_DIM), None
        mask = np.arange(LENGTH) != [[2], [0]]
        weights = np.tril(query @ key.swapaxes(2, 3) * mask[:, None, None, :])
        total = weights.sum(axis=-1, keepdims=True)
        expected = weights @ value / np.where(total > 0, total, 1)
        outputs = []
        for part in (slice(0, 4), slice(4, LENGTH)):
            tensors = [ops.array(x[:, :, part]) for x in (query, key, value)]
            found, state = causal_linear_attention(
                *tensors, ops.array(mask[:, part]), state, chunk=chunk
            )
            outputs.append(found)
        np.testing.assert_allclose(ops.concatenate(outputs, axis=2), expected, atol=1e-5)
        assert not np.any(expected[1, :, 0])

    @every_option
    @pytest.mark.parametrize("is_causal", [False, True])
    def test_no_tokens_give_no_outputs(self, options, is_causal):
        outputs = make_layer(**options)(sequence(0), use_causal_mask=is_causal)
        assert outputs.shape == (BATCH, 0, HIDDEN)

    @needs_tensorflow
    @pytest.mark.parametrize("options", [{}, {"use_causal_mask": True}])
    def test_compiled_with_an_open_length_it_computes_the_same(self, options):
        layer = make_layer()
        spec = tf.TensorSpec((None, None, HIDDEN), tf.float32)
        compiled = tf.function(lambda x: layer(x, **options), input_signature=[spec])
        for length in (0, 1, 64, 131):
            x = sequence(length)
            np.testing.assert_allclose(compiled(x), layer(x, **options), atol=1e-5)


class MaskTest:
    @every_option
    def test_a_future_token_cannot_change_the_past(self, options):
        layer, changed = make_layer(**options), sequence(131)
        changed[:, 67] *= 9
        before, after = (np.array(layer(x, use_causal_mask=True)) for x in (sequence(131), changed))
        np.testing.assert_array_equal(after[:, :67], before[:, :67])
        assert np.all(np.any(after[:, 67:] != before[:, 67:], axis=-1))

    def test_the_mask_of_keras_arrives_beside_positions_too(self):
        layer, mask = make_layer(use_rotary=True), np.arange(LENGTH) != [[2], [4]]
        hidden = keras.layers.Masking()(ops.array(sequence() * mask[..., None]))
        positions = ops.arange(LENGTH)[None] + ops.zeros((BATCH, 1), "int32")
        expected = layer(sequence(), mask=mask)
        found = layer(hidden, positions=positions)
        np.testing.assert_allclose(
            np.array(found)[mask], np.array(expected)[mask], rtol=1e-4, atol=1e-5
        )

    @every_option
    @pytest.mark.parametrize("is_causal", [False, True])
    def test_padding_changes_nothing(self, options, is_causal):
        layer, mask = make_layer(**options), np.arange(LENGTH) != [[2], [4]]
        masks = {"mask": mask, "use_causal_mask": is_causal}
        changed = np.where(mask[..., None], sequence(), 30.0)
        before, after = (np.array(layer(x, **masks)) for x in (sequence(), changed))
        np.testing.assert_array_equal(after[mask], before[mask])
        unmasked = np.array(layer(sequence(), use_causal_mask=is_causal))
        assert np.abs(before - unmasked).max() > 1e-3

    @pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
    @pytest.mark.parametrize("is_causal", [False, True])
    def test_a_query_without_keys_gets_zeros_and_finite_gradients(self, policy, is_causal):
        layer = make_layer(dtype=policy)
        mask = np.array([[False] * LENGTH, [False] + [True] * (LENGTH - 1)])

        def outputs():
            return layer(30 * sequence(), mask=mask, use_causal_mask=is_causal)

        found = gradients(
            lambda: ops.sum(ops.cast(outputs(), "float32")), layer.trainable_variables
        )
        assert all(np.isfinite(ops.convert_to_numpy(x)).all() for x in found)
        bias = ops.cast(layer.output_dense.bias, layer.compute_dtype)
        empty = ops.convert_to_numpy(outputs() == bias).all(axis=-1)
        expected = ~mask & (is_causal | ~mask.any(axis=1, keepdims=True))
        np.testing.assert_array_equal(empty, expected)

    @pytest.mark.parametrize(
        ("keywords", "name"),
        [
            ({"attention_mask": np.ones((LENGTH, LENGTH), bool)}, "attention_mask"),
            ({"return_attention_scores": True}, "return_attention_scores"),
        ],
    )
    def test_what_asks_for_pairs_is_refused(self, keywords, name):
        block = EncoderBlock(HIDDEN, mixer=LinearAttention(HIDDEN, HEADS))
        with pytest.raises(ValueError, match=f"call takes {name}, received mixer=LinearAttention"):
            block(sequence(), **keywords)


class StepTest:
    @every_option
    def test_a_prompt_and_steps_equal_the_causal_pass_with_a_cache_of_one_size(self, options):
        layer, inputs = make_layer(**options), sequence()
        cache, outputs = layer.init_cache(BATCH, 0), []
        for start, stop in ((0, 4), (4, 5), (5, 6), (6, 7)):
            positions = ops.full((BATCH,), start, dtype="int32")
            assert cache.shape == (BATCH, HEADS, FEATURES, KEY_DIM + 1)
            step, cache = layer.step(ops.array(inputs[:, start:stop]), cache, positions)
            cache = layer.grow_cache(cache)
            outputs.append(step)
        expected = layer(inputs, use_causal_mask=True)
        np.testing.assert_allclose(ops.concatenate(outputs, axis=1), expected, atol=1e-5)


class ArgumentsTest:
    def test_what_cannot_be_is_named(self):
        for use, message in (
            (lambda: LinearAttention(HIDDEN, HEADS, kernel="cosine"), "received kernel='cosine'"),
            (lambda: LinearAttention(HIDDEN, HEADS, 0), "at least 1, received num_features=0"),
            (lambda: make_layer()(sequence()[..., :5]), r"T, 12\), .* received shape=\(2, 7, 5\)"),
            (lambda: make_layer()(sequence(), positions=np.arange(LENGTH)), "use_rotary=False"),
            (lambda: make_layer()(sequence(), mask=np.ones((2, 5), bool)), r"S=7, .*\(2, 5\)"),
        ):
            with pytest.raises(ValueError, match=message):
                use()

    def test_dropout_drops_what_the_heads_say(self):
        outputs = ops.convert_to_numpy(make_layer(dropout=0.99999)(sequence(), training=True))
        assert np.all(outputs == outputs[0, 0])


class LongTest:
    @pytest.mark.parametrize("is_causal", [False, True])
    def test_keys_four_times_as_long_as_usual_still_decide_and_learn(self, is_causal):
        attend = causal_linear_attention if is_causal else linear_attention
        features = ops.convert_to_tensor(heads(266, 64, seed=6))
        query, value = heads(1, 1, 8, 64), heads(1, 1, 8, 2, seed=5)
        key = keras.Variable(4 * heads(1, 1, 8, 64, seed=4))

        def mapped():
            pairs = ((query, True), (key, False))
            return [softmax_features(ops.convert_to_tensor(x), features, y) for x, y in pairs]

        def outputs():
            found = attend(*mapped(), ops.convert_to_tensor(value))
            return found[0] if is_causal else found

        found = gradients(lambda: ops.sum(ops.square(outputs())), [key])[0]
        found = ops.convert_to_numpy(found)
        exact = [ops.convert_to_numpy(x).astype("float64") for x in mapped()]
        products = exact[0] @ exact[1].swapaxes(2, 3)
        products = np.tril(products) if is_causal else products
        shares = products / products.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(outputs(), shares @ value, rtol=1e-3, atol=1e-4)
        assert shares[0, 0, -1].max() > 0.5
        assert np.isfinite(found).all() and np.abs(found).max() > 1e-2

    def test_large_keys_and_queries_stay_finite(self):
        layer = LinearAttention(64, 1, seed=1)
        layer.build((None, None, 64))
        x = 1000 * np.random.default_rng(0).standard_normal((1, 5, 64))
        for is_causal in (False, True):
            assert np.isfinite(ops.convert_to_numpy(layer(x, use_causal_mask=is_causal))).all()
