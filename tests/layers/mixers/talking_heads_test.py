"""Talking-heads attention: plain attention where heads keep silent, einsum, masks and steps."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.talking_heads import TalkingHeadsAttention

BATCH, LENGTH, CONTEXT, HIDDEN, HEADS = 2, 5, 7, 12, 3


def sequence(length=LENGTH, seed=0):
    shape = (BATCH, length, HIDDEN)
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def make_layer(*shapes, **options):
    layer = TalkingHeadsAttention(HIDDEN, HEADS, **options)
    layer.build(*shapes or [(None, None, HIDDEN)])
    random = np.random.default_rng(2)
    layer.set_weights([0.4 * random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


def without_talk(layer):
    """Makes the `MultiHeadAttention` of the same projections."""
    config = {name: getattr(layer, name) for name in ("use_rotary", "num_key_value_heads")}
    plain = MultiHeadAttention(HIDDEN, HEADS, **config)
    plain.build((None, None, HIDDEN))
    paths = {w.path.split("/", 1)[1]: w for w in layer.weights}
    plain.set_weights([paths[w.path.split("/", 1)[1]] for w in plain.weights])
    return plain


class OracleTest:
    @pytest.mark.parametrize("options", [{}, {"use_rotary": True}, {"num_key_value_heads": 1}])
    def test_heads_that_hear_themselves_alone_are_plain_attention(self, options):
        layer = make_layer(**options)
        for projection in (layer.logits_projection, layer.weights_projection):
            projection.set_weights([np.eye(HEADS), np.zeros(HEADS)])
        masks = {"use_causal_mask": True, "mask": np.arange(LENGTH) != [[2], [4]]}
        for keywords in ({}, masks):
            found = layer(sequence(), return_attention_scores=True, **keywords)
            plain = without_talk(layer)(sequence(), return_attention_scores=True, **keywords)
            for x, y in zip(found, plain, strict=True):
                np.testing.assert_allclose(x, y, atol=1e-6)

    @pytest.mark.parametrize("use_bias", [False, True])
    def test_it_is_the_equation_of_the_paper(self, use_bias):
        layer = make_layer(use_bias=use_bias)
        x = layer.query_key_value_dense(sequence()).numpy()
        query, key, value = x.reshape(BATCH, LENGTH, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
        before, *before_bias = layer.logits_projection.get_weights()
        after, *after_bias = layer.weights_projection.get_weights()
        logits = np.einsum("bntk,bnsk->btsn", query, key) / (HIDDEN // HEADS) ** 0.5
        logits = np.exp(logits @ before + sum(before_bias))
        weights = logits / logits.sum(axis=2, keepdims=True) @ after + sum(after_bias)
        x = np.einsum("btsn,bnsk->btnk", weights, value).reshape(BATCH, LENGTH, HIDDEN)
        np.testing.assert_allclose(layer(sequence()), layer.output_dense(x), atol=1e-5)


class MaskTest:
    def test_a_key_that_is_hidden_from_a_head_changes_nothing_in_it(self):
        layer = make_layer()
        layer.output_dense.set_weights([np.eye(HIDDEN), np.zeros(HIDDEN)])
        mask = np.ones((1, HEADS, 1, LENGTH), bool)
        mask[0, 1, 0, 2] = False
        changed = layer.query_key_value_dense(sequence()).numpy()
        query, key, value = np.split(changed, 3, axis=-1)

        def attend(value):
            split = [layer._split_heads(ops.array(x), HEADS) for x in (query, key, value)]
            return layer._attend(*split, mask=ops.array(mask))[0].numpy()

        before = attend(value)
        value[:, 2] += 1
        differs = np.any(attend(value) != before, axis=(0, 2, 3))
        assert differs.tolist() == [True, False, True]

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_a_query_without_keys_gets_zeros(self, policy):
        layer = make_layer(dropout=0.3, dtype=policy)
        mask = np.ones((LENGTH, LENGTH), bool)
        mask[3] = False
        outputs, scores = layer(
            sequence(), attention_mask=mask, training=True, return_attention_scores=True
        )
        bias = ops.cast(layer.output_dense.bias, outputs.dtype)
        assert np.all(ops.convert_to_numpy(outputs[:, 3] == bias))
        assert not np.any(ops.convert_to_numpy(ops.cast(scores, "float32"))[:, :, 3])

    def test_a_future_token_cannot_change_the_past(self):
        layer, changed = make_layer(), sequence()
        changed[:, 3] += 1
        before, after = (layer(x, use_causal_mask=True).numpy() for x in (sequence(), changed))
        np.testing.assert_array_equal(after[:, :3], before[:, :3])
        assert np.all(np.any(after[:, 3:] != before[:, 3:], axis=-1))


class StepTest:
    def test_a_prompt_and_steps_equal_the_causal_pass(self):
        layer, inputs = make_layer(use_rotary=True), ops.array(sequence())
        cache, outputs = layer.init_cache(BATCH, LENGTH), []
        for start, stop in ((0, 3), (3, 4), (4, 5)):
            positions = ops.full((BATCH,), start, dtype="int32")
            step, cache = layer.step(inputs[:, start:stop], cache, positions)
            outputs.append(step)
        expected = layer(inputs, use_causal_mask=True)
        np.testing.assert_allclose(ops.concatenate(outputs, axis=1), expected, atol=1e-5)

    def test_steps_into_a_context_equal_the_whole_pass(self):
        shape = (None, None, HIDDEN)
        layer, context = make_layer(shape, shape), sequence(CONTEXT, seed=1)
        mask = np.arange(CONTEXT) != [[2], [5]]
        cache = layer.project_context(ops.array(context))
        outputs = layer.cross_step(ops.array(sequence()), cache, ops.array(mask))
        expected = layer(sequence(), context, context_mask=mask)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


class DropoutTest:
    def test_weights_are_dropped_and_scores_are_not(self):
        layer = make_layer(dropout=0.99999)
        outputs, scores = layer(sequence(), training=True, return_attention_scores=True)
        np.testing.assert_allclose(keras.ops.sum(scores, axis=-1), 1, rtol=1e-5)
        assert np.all(ops.convert_to_numpy(outputs == outputs[0, 0]))
