"""Multi-head attention against Keras and numpy, under masks, perturbation, and step by step."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.dot_product import scaled_dot_product_attention
from tests.backend import gradients, needs_tensorflow, tf

BATCH, LENGTH, CONTEXT, HIDDEN, CONTEXT_DIM, HEADS, KEY_DIM = 2, 5, 7, 13, 17, 6, 4
MASKS = ["no mask", "padding", "arbitrary", "per head", "shared", "causal", "causal and arbitrary"]
OPTIONS = {
    "plain": {},
    "no bias": {"use_bias": False},
    "grouped": {"num_key_value_heads": 2},
    "multi-query": {"num_key_value_heads": 1},
    "rotary": {"use_rotary": True},
    "grouped rotary": {"num_key_value_heads": 3, "use_rotary": True, "use_bias": False},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
every_policy = pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])


def sequence(length=LENGTH, width=HIDDEN, batch=BATCH, seed=0):
    shape = (batch, length, width)
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def context():
    return sequence(CONTEXT, CONTEXT_DIM, seed=1)


def make_layer(is_cross_attention=False, **options):
    """Makes a built layer with random weights, biases included."""
    layer = MultiHeadAttention(HIDDEN, HEADS, key_dim=KEY_DIM, **options)
    shapes = [(None, None, HIDDEN)] + [(None, None, CONTEXT_DIM)] * is_cross_attention
    layer.build(*shapes)
    random = np.random.default_rng(2)
    layer.set_weights([0.4 * random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


def random_mask(*shape):
    """Makes a mask that leaves every query a key."""
    mask = np.random.default_rng(3).random(shape) < 0.5
    mask[..., 0] = True
    return mask


def masks(kind, keys, padding_name="mask"):
    """Writes one mask in our arguments and in those of Keras."""
    if kind == "padding":
        padding = random_mask(BATCH, keys)
        expanded = np.repeat(padding[:, np.newaxis], LENGTH, axis=1)
        return {padding_name: padding}, {"attention_mask": expanded}
    arguments = {}
    if "arbitrary" in kind:
        arguments["attention_mask"] = random_mask(BATCH, LENGTH, keys)
    if "per head" in kind:
        arguments["attention_mask"] = random_mask(BATCH, HEADS, LENGTH, keys)
    if kind == "shared":
        arguments["attention_mask"] = random_mask(LENGTH, keys)
    if "causal" in kind:
        arguments["use_causal_mask"] = True
    return arguments, arguments


def copy_weights(layer, twin):
    """Copies our weights to the attention of Keras, cut out of the fused kernels."""
    groups = layer.num_key_value_heads or HEADS
    if layer.is_cross_attention:
        fused = [(layer.query_dense, [HEADS]), (layer.key_value_dense, [groups, groups])]
    else:
        fused = [(layer.query_key_value_dense, [HEADS, groups, groups])]
    weights = []
    for dense, head_counts in fused:
        ends = KEY_DIM * np.cumsum(head_counts)[:-1]
        parts = [np.split(weight, ends, axis=-1) for weight in dense.get_weights()]
        for index, heads in enumerate(head_counts):
            weights += [p[index].reshape(*p[index].shape[:-1], heads, KEY_DIM) for p in parts]
    kernel, *bias = layer.output_dense.get_weights()
    twin.set_weights([*weights, kernel.reshape(HEADS, KEY_DIM, HIDDEN), *bias])


def assert_equal(ours, theirs):
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


class OracleTest:
    @pytest.mark.parametrize("use_bias", [True, False])
    @pytest.mark.parametrize(
        ("kind", "is_cross_attention"),
        [*((kind, False) for kind in MASKS), *((kind, True) for kind in MASKS[:5])],
    )
    def test_it_equals_the_attention_of_keras(self, kind, is_cross_attention, use_bias):
        layer = make_layer(is_cross_attention, use_bias=use_bias)
        keys = context() if is_cross_attention else sequence()
        twin = keras.layers.MultiHeadAttention(HEADS, KEY_DIM, use_bias=use_bias)
        twin.build(sequence().shape, keys.shape)
        copy_weights(layer, twin)
        padding_name = "context_mask" if is_cross_attention else "mask"
        ours, theirs = masks(kind, keys.shape[1], padding_name)
        others = [keys] * is_cross_attention
        assert_equal(
            layer(sequence(), *others, return_attention_scores=True, **ours),
            twin(sequence(), keys, return_attention_scores=True, **theirs),
        )

    @pytest.mark.parametrize("groups", [1, 2, 3])
    @pytest.mark.parametrize("kind", MASKS)
    def test_grouped_queries_equal_those_of_keras(self, kind, groups):
        layer = make_layer(num_key_value_heads=groups)
        twin = keras.layers.GroupQueryAttention(KEY_DIM, HEADS, groups)
        twin.build((None, None, HIDDEN), (None, None, HIDDEN))
        copy_weights(layer, twin)
        ours, theirs = masks(kind, LENGTH)
        assert_equal([layer(sequence(), **ours)], [twin(sequence(), sequence(), **theirs)])

    @pytest.mark.parametrize("groups", [1, 2, 6])
    @pytest.mark.parametrize("bias_shape", [(HEADS, LENGTH, CONTEXT), (1, 1, LENGTH, CONTEXT)])
    def test_a_position_bias_equals_numpy(self, groups, bias_shape):
        random = np.random.default_rng(0)
        query = random.standard_normal((BATCH, HEADS, LENGTH, KEY_DIM))
        key, value = random.standard_normal((2, BATCH, groups, CONTEXT, KEY_DIM))
        bias = random.standard_normal(bias_shape)
        mask = random_mask(BATCH, HEADS, LENGTH, CONTEXT)
        key_copies, value_copies = np.repeat([key, value], HEADS // groups, axis=2)
        scores = query @ key_copies.swapaxes(2, 3) / KEY_DIM**0.5 + bias
        scores = np.where(mask, np.exp(scores), 0)
        probabilities = scores / scores.sum(axis=-1, keepdims=True)
        assert_equal(
            scaled_dot_product_attention(*map(ops.array, (query, key, value, mask, bias))),
            (probabilities @ value_copies, probabilities),
        )

    @pytest.mark.parametrize("is_cross_attention", [False, True])
    def test_the_bias_of_the_layer_is_added_to_its_scores(self, is_cross_attention):
        layer = make_layer(is_cross_attention)
        inputs = [sequence(), context()][: 1 + is_cross_attention]
        _, before = layer(*inputs, return_attention_scores=True)
        bias = np.random.default_rng(4).standard_normal(before.shape[1:])
        _, after = layer(*inputs, position_bias=ops.array(bias), return_attention_scores=True)
        expected = np.array(before) * np.exp(bias)
        assert_equal([after], [expected / expected.sum(axis=-1, keepdims=True)])


def query_without_keys():
    """Hides all keys from one query of the first sentence, and from all of the second."""
    mask = np.ones((BATCH, LENGTH, LENGTH), bool)
    mask[0, 3] = mask[1] = False
    return mask


class FullyMaskedTest:
    @every_policy
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("options", [{}, {"num_key_value_heads": 2, "use_rotary": True}])
    def test_a_query_without_keys_gets_zeros_and_finite_gradients(self, policy, training, options):
        layer = make_layer(dropout=0.3, dtype=policy, **options)
        self.check(layer, [sequence()], training, attention_mask=query_without_keys())

    @every_policy
    def test_a_context_of_padding_alone_too(self, policy):
        layer = make_layer(is_cross_attention=True, dropout=0.3, dtype=policy)
        inputs = [sequence(), sequence(LENGTH, CONTEXT_DIM, seed=1)]
        real = np.array([[True] * LENGTH, [False] * LENGTH])
        self.check(layer, inputs, True, attention_mask=query_without_keys(), context_mask=real)

    @needs_tensorflow
    def test_a_compiled_call_too(self):
        layer = make_layer(dropout=0.3, dtype="mixed_bfloat16")
        layer.call = tf.function(layer.call, jit_compile=True, autograph=False)
        self.check(layer, [sequence()], True, attention_mask=query_without_keys())

    def check(self, layer, inputs, training, **masks):
        inputs = [keras.Variable(x) for x in inputs]

        def call():
            tensors = map(ops.convert_to_tensor, inputs)
            return layer(*tensors, **masks, return_attention_scores=True, training=training)

        def loss():
            return ops.sum(ops.square(ops.cast(call()[0], "float32")))

        found = gradients(loss, [*inputs, *layer.trainable_weights])
        outputs, scores = map(ops.convert_to_numpy, call())
        bias = ops.convert_to_numpy(ops.cast(layer.output_dense.bias, layer.compute_dtype))
        bias = np.broadcast_to(bias, (LENGTH, HIDDEN))
        np.testing.assert_array_equal(outputs[0, 3], bias[3])
        np.testing.assert_array_equal(outputs[1], bias)
        assert np.all(outputs[0, 2] != bias[2])
        assert np.all(scores[0, :, 3] == 0)
        assert np.all(scores[1] == 0)
        for gradient in map(ops.convert_to_numpy, found):
            assert np.isfinite(gradient).all()
            assert np.any(gradient != 0)

    @every_policy
    def test_a_step_into_an_empty_context_gets_zeros(self, policy):
        layer = make_layer(is_cross_attention=True, dtype=policy)
        cache = layer.project_context(ops.cast(context(), layer.compute_dtype))
        inputs = ops.cast(sequence(1), layer.compute_dtype)
        outputs = layer.cross_step(inputs, cache, ops.zeros((BATCH, CONTEXT), "bool"))
        bias = ops.cast(layer.output_dense.bias, layer.compute_dtype)
        outputs, bias = map(ops.convert_to_numpy, (outputs, bias))
        np.testing.assert_array_equal(outputs, np.broadcast_to(bias, (BATCH, 1, HIDDEN)))


class PerturbationTest:
    @every_option
    @pytest.mark.parametrize("training", [False, True])
    def test_a_future_token_cannot_change_the_past(self, options, training):
        layer = make_layer(dropout=0.3, seed=5, **options)
        dropout_state = layer.dropout_layer.seed_generator.state
        seed = dropout_state.numpy().copy()

        def run(inputs):
            dropout_state.assign(seed)
            return ops.convert_to_numpy(layer(inputs, use_causal_mask=True, training=training))

        before, changed = run(sequence()), sequence()
        changed[:, 3] += 1
        after = run(changed)
        np.testing.assert_array_equal(after[:, :3], before[:, :3])
        assert np.all(np.any(after[:, 3:] != before[:, 3:], axis=-1))

    @every_option
    def test_padding_changes_nothing(self, options):
        layer, mask = make_layer(**options), random_mask(BATCH, LENGTH)
        changed = np.where(mask[..., np.newaxis], sequence(), 100.0)
        before, after = (np.array(layer(x, mask=mask)) for x in (sequence(), changed))
        np.testing.assert_array_equal(after[mask], before[mask])
        more = np.pad(sequence(), [(0, 0), (0, 3), (0, 0)], constant_values=9.0)
        after = layer(more, mask=np.pad(mask, [(0, 0), (0, 3)]))
        assert_equal([after[:, :LENGTH]], [before])

    def test_padding_of_the_context_changes_nothing_and_that_of_queries_hides_none(self):
        layer, mask = make_layer(is_cross_attention=True), random_mask(BATCH, CONTEXT)
        changed = np.where(mask[..., np.newaxis], context(), 100.0)
        np.testing.assert_array_equal(
            layer(sequence(), changed, context_mask=mask, mask=random_mask(BATCH, LENGTH)),
            layer(sequence(), context(), context_mask=mask),
        )


class ScoresTest:
    @every_option
    @pytest.mark.parametrize("training", [False, True])
    def test_they_sum_to_one_over_the_keys_allowed_before_dropout(self, options, training):
        layer = make_layer(dropout=0.99999, **options)
        masks = {"attention_mask": random_mask(BATCH, HEADS, LENGTH, LENGTH)}
        outputs, scores = layer(
            sequence(), training=training, return_attention_scores=True, **masks
        )
        outputs, scores = map(ops.convert_to_numpy, (outputs, scores))
        np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(scores > 0, masks["attention_mask"])
        nothing_but_bias_is_left = np.all(outputs == outputs[0, 0])
        assert nothing_but_bias_is_left == training

    def test_a_functional_model_returns_them_too(self):
        layer = make_layer()
        inputs = keras.Input((None, HIDDEN))
        model = keras.Model(inputs, layer(inputs, return_attention_scores=True))
        assert_equal(model(sequence()), layer(sequence(), return_attention_scores=True))


class StepTest:
    @every_option
    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_steps_equal_the_causal_pass(self, options, policy):
        layer = make_layer(dtype=policy, **options)
        inputs = ops.cast(sequence(), layer.compute_dtype)
        cache, outputs = layer.init_cache(BATCH, LENGTH + 2), []
        for position in range(LENGTH):
            positions = ops.full((BATCH,), position, dtype="int32")
            step, cache = layer.step(inputs[:, position : position + 1], cache, positions)
            outputs.append(step)
        outputs = ops.cast(ops.concatenate(outputs, axis=1), "float32")
        expected = ops.cast(layer(inputs, use_causal_mask=True), "float32")
        np.testing.assert_allclose(outputs, expected, atol=1e-5 if policy == "float32" else 0.1)

    @every_option
    def test_rows_may_stand_at_different_positions(self, options):
        layer, inputs = make_layer(**options), sequence()
        expected = layer(inputs, use_causal_mask=True)
        cache = layer.init_cache(BATCH, LENGTH)
        for position in range(LENGTH):
            # The second row lags two tokens behind, and begins by repeating its first.
            positions = np.array([position, max(position - 2, 0)])  # int64
            tokens = inputs[[0, 1], positions][:, np.newaxis]
            outputs, cache = layer.step(tokens, cache, ops.array(positions))
            assert_equal(outputs[:, 0], np.array(expected)[[0, 1], positions])

    @every_option
    @pytest.mark.parametrize("rows", [1, 3])
    def test_rows_of_a_sentence_share_its_context(self, options, rows):
        layer = make_layer(is_cross_attention=True, **{**options, "use_rotary": False})
        inputs, mask = sequence(rows), random_mask(BATCH, CONTEXT)
        cache = layer.project_context(context())
        outputs = layer.cross_step(inputs.reshape(-1, 1, HIDDEN), cache, mask)
        expected = layer(inputs, context(), context_mask=mask)
        assert_equal([outputs], [ops.reshape(expected, (-1, 1, HIDDEN))])


class KernelTest:
    def test_what_reads_one_sequence_is_one_product(self):
        own = make_layer(num_key_value_heads=2)
        assert own.query_key_value_dense.kernel.shape == (HIDDEN, (HEADS + 2 + 2) * KEY_DIM)
        cross = make_layer(is_cross_attention=True, num_key_value_heads=2, use_bias=False)
        assert cross.query_dense.kernel.shape == (HIDDEN, HEADS * KEY_DIM)
        assert cross.key_value_dense.kernel.shape == (CONTEXT_DIM, (2 + 2) * KEY_DIM)
        assert (len(own.weights), len(cross.weights)) == (4, 3)


class KerasMaskTest:
    token_ids = np.array([[3, 1, 4, 0, 0], [2, 7, 0, 8, 1]])

    @pytest.mark.parametrize("use_causal_mask", [False, True])
    def test_that_of_self_attention_is_found(self, use_causal_mask):
        embedding = keras.layers.Embedding(11, HIDDEN, mask_zero=True)
        layer, inputs = make_layer(), keras.Input((None,), dtype="int32")
        outputs = layer(embedding(inputs), use_causal_mask=use_causal_mask)
        vectors = embedding.embeddings.numpy()[self.token_ids]
        by_hand = {"mask": self.token_ids != 0, "use_causal_mask": use_causal_mask}
        model = keras.Model(inputs, outputs)
        assert_equal(model(self.token_ids), layer(vectors, **by_hand))

    def test_that_of_a_context_is_found(self):
        embedding = keras.layers.Embedding(11, CONTEXT_DIM, mask_zero=True)
        layer = make_layer(is_cross_attention=True)
        inputs = [keras.Input((None, HIDDEN)), keras.Input((None,), dtype="int32")]
        model = keras.Model(inputs, layer(inputs[0], embedding(inputs[1])))
        vectors = embedding.embeddings.numpy()[self.token_ids]
        by_hand = {"context_mask": self.token_ids != 0}
        assert_equal(model([sequence(7), self.token_ids]), layer(sequence(7), vectors, **by_hand))


class ErrorTest:
    @pytest.mark.parametrize("layer", [make_layer(), make_layer(True)])
    def test_query_value_and_key_in_the_order_of_keras_are_refused(self, layer):
        keys = context() if layer.is_cross_attention else sequence()
        with pytest.raises(TypeError, match="too many positional arguments"):
            layer(sequence(), keys, keys)

    @pytest.mark.parametrize(
        ("use", "message"),
        [
            (lambda: MultiHeadAttention(7, 3), "received hidden_dim=7 and num_heads=3"),
            (lambda: MultiHeadAttention(6, 0), "at least 1, received num_heads=0"),
            (lambda: MultiHeadAttention(0, 3), "at least 1, received hidden_dim=0"),
            (lambda: MultiHeadAttention(6, 3, key_dim=0), "at least 1, received key_dim=0"),
            (lambda: MultiHeadAttention(6, 3, dropout=1.0), "less than 1, received dropout=1.0"),
            (lambda: MultiHeadAttention(6, 3, dropout=-0.1), "received dropout=-0.1"),
            (lambda: MultiHeadAttention(6, 3, rotary_scaling=("ntk", 2)), "use_rotary=False"),
            (lambda: MultiHeadAttention(6, 3, rotary_max_wavelength=5), "use_rotary=False"),
            (
                lambda: MultiHeadAttention(6, 3)(ops.ones((2, 6))),
                r"axes .*, received shape=\(2, 6\)",
            ),
            (lambda: MultiHeadAttention(6, 3)(keras.Input((5, None))), r"size, .* 5, None\)"),
            (lambda: make_layer()(sequence(width=11)), r"inputs of .* T, 13\), .*\(2, 5, 11\)"),
            (lambda: make_layer()(sequence()[0]), r"inputs of shape .* received shape=\(5, 13\)"),
            (lambda: make_layer(True)(sequence(), sequence()), r"context of .* T, 17\), .* 13\)"),
            (lambda: MultiHeadAttention(6, 3, 2), "num_heads=3 and num_key_value_heads=2"),
            (lambda: MultiHeadAttention(6, 3, 0), "of at least 1, received num_key_value_heads=0"),
            (lambda: make_layer(True, use_rotary=True), "use_rotary=True, received a context"),
            (
                lambda: make_layer(True)(sequence(), context(), use_causal_mask=True),
                "received a context",
            ),
            (lambda: make_layer()(sequence(), sequence()), "a call for self-attention, .* cross"),
            (lambda: make_layer(True)(sequence()), "a call for cross-attention, .* self-att"),
            (lambda: make_layer()(sequence(), mask=np.ones((2, 5))), "Expected a boolean mask"),
        ],
    )
    def test_what_contradicts_itself_is_named(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()


class CacheOverflowTest:
    """A token past the end of the cache of one row never lands in that of another."""

    def test_too_many_tokens_are_refused(self):
        layer = MultiHeadAttention(6, 3)
        layer.build((None, None, 6))
        with pytest.raises(ValueError, match="room for the 5 tokens of a step, received one of"):
            layer.step(ops.ones((2, 5, 6)), layer.init_cache(2, 3), ops.zeros((2,), "int32"))

    def test_a_position_past_the_end_changes_no_other_row(self):
        layer = MultiHeadAttention(6, 1)
        layer.build((None, None, 6))
        cache, positions = layer.init_cache(2, 4), ops.array([4, 3], "int32")
        try:
            _, (keys, _) = layer.step(ops.ones((2, 1, 6)), cache, positions)
        except Exception:  # TensorFlow's own error
            return
        assert not np.any(ops.convert_to_numpy(keys)[1, :, :3])
