"""Additive and multiplicative attention against their formulas, key by key."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers import AdditiveAttention, MultiplicativeAttention
from tests.backend import gradients

B, T, S, HIDDEN, CONTEXT, INNER = 2, 3, 5, 7, 11, 13
MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]], bool)
RANDOM = np.random.default_rng(1)
INPUTS = RANDOM.normal(size=(B, T, HIDDEN)).astype("float32")
CONTEXTS = {size: RANDOM.normal(size=(B, S, size)).astype("float32") for size in (HIDDEN, CONTEXT)}
LAYERS = {
    "additive": lambda: AdditiveAttention(INNER),
    "dot": lambda: MultiplicativeAttention(HIDDEN, "dot"),
    "general": lambda: MultiplicativeAttention(HIDDEN),
    "concat": lambda: MultiplicativeAttention(INNER, "concat"),
}
each_kind = pytest.mark.parametrize("kind", LAYERS)


def made(kind):
    layer, context = LAYERS[kind](), CONTEXTS[HIDDEN if kind == "dot" else CONTEXT]
    layer.build(INPUTS.shape, context.shape)
    return layer, context


def score_of(kind, layer, query, key):
    """Computes one score from one query `(HIDDEN,)` and one position of the context."""
    if kind == "dot":
        return ops.sum(query * key)
    matrix = layer.key_dense.kernel
    if kind == "general":
        return ops.sum(query * ops.matmul(key[None], matrix)[0])
    joined = ops.concatenate([query, key])[None]
    matrix = ops.concatenate([layer.query_dense.kernel, matrix])
    return ops.sum(ops.tanh(ops.matmul(joined, matrix))[0] * layer.vector[:, 0])


def brute_force(kind, layer, context, mask):
    """Computes outputs `(B, T, D)`, with the keys that the mask leaves and no others."""
    outputs = []
    for row in range(B):
        keys = ops.convert_to_tensor(context[row][mask[row]])
        for query in ops.convert_to_tensor(INPUTS[row]):
            scores = ops.stack([score_of(kind, layer, query, key) for key in keys])
            weights = ops.exp(scores) / ops.sum(ops.exp(scores))
            outputs.append(ops.sum(weights[:, None] * keys, axis=0))
    return ops.reshape(ops.stack(outputs), (B, T, -1))


@each_kind
class FormulaTest:
    def test_values_and_gradients_are_those_of_each_key_by_itself(self, kind):
        layer, context = made(kind)
        mask = ops.convert_to_tensor(MASK)

        def of(compute):
            return lambda: ops.sum(ops.sin(compute()))

        def called():
            return layer(INPUTS, context, context_mask=mask)

        def by_hand():
            return brute_force(kind, layer, context, MASK)

        np.testing.assert_allclose(called(), by_hand(), rtol=1e-4, atol=1e-5)
        if layer.trainable_variables:
            pairs = zip(
                gradients(of(called), layer.trainable_variables),
                gradients(of(by_hand), layer.trainable_variables),
                strict=True,
            )
            for found, expected in pairs:
                found, expected = map(ops.convert_to_numpy, (found, expected))
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
                assert found.any()

    def test_a_step_with_known_keys_equals_its_row_of_the_whole(self, kind):
        layer, context = made(kind)
        mask = ops.convert_to_tensor(MASK)
        options = {"context_mask": mask, "return_attention_scores": True}
        whole = layer(INPUTS, context, **options)
        one = layer(INPUTS[:, 1], context, **options)
        keys = layer.project_context(ops.convert_to_tensor(context))
        step = layer.attend(ops.convert_to_tensor(INPUTS[:, 1:2]), keys, context, mask)
        for found, expected, again in zip(one, whole, step, strict=True):
            np.testing.assert_allclose(found, expected[:, 1], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(again[:, 0], found, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ops.sum(whole[1], axis=-1), 1, rtol=1e-5)
        assert not np.any(ops.convert_to_numpy(whole[1])[~MASK[:, None].repeat(T, 1)])

    def test_an_example_without_a_real_key_gives_zeros(self, kind):
        layer, context = made(kind)
        nothing = ops.zeros((B, S), dtype="bool")
        assert not np.any(ops.convert_to_numpy(layer(INPUTS, context, context_mask=nothing)))


class PrecisionTest:
    def test_the_softmax_runs_in_32_bits(self):
        layer = MultiplicativeAttention(1, "dot", dtype="mixed_float16")
        # Scores of 0 and -20, whose exponential 16 bits cannot hold beside 1.
        context = np.array([[[0.0], [-20.0], [-20.0]]], "float32")
        scores = layer(np.ones((1, 1, 1)), context, return_attention_scores=True)[1]
        assert keras.backend.standardize_dtype(scores.dtype) == "float16"
        exact = keras.layers.Softmax()(context[..., 0])
        np.testing.assert_allclose(scores[0], exact, rtol=1e-3, atol=1e-7)


class ErrorTest:
    def test_what_cannot_be_is_one_sentence(self):
        with pytest.raises(ValueError, match=r"one of \['dot', .*received score='cosine'"):
            MultiplicativeAttention(HIDDEN, "cosine")
        with pytest.raises(ValueError, match="context of width hidden_dim=7 .*received width=11"):
            MultiplicativeAttention(HIDDEN, "dot").build((B, T, HIDDEN), (B, S, CONTEXT))
        with pytest.raises(ValueError, match="inputs of width hidden_dim=13 .*'general'"):
            MultiplicativeAttention(INNER).build((B, T, HIDDEN), (B, S, CONTEXT))
        with pytest.raises(ValueError, match=r"context of 3 axes .*received shape=\(2, 11\)"):
            AdditiveAttention(INNER).build((B, T, HIDDEN), (B, CONTEXT))
        with pytest.raises(ValueError, match="hidden_dim=0"):
            AdditiveAttention(0)
        layer, context = made("additive")
        for inputs, other, shape in (
            (INPUTS[..., :5], context, "(2, 3, 5)"),
            (INPUTS, context[..., :5], "(2, 5, 5)"),
            (INPUTS, context[:1], "(1, 5, 11)"),
            (INPUTS[:1, 0], context, "(1, 1, 7)"),
        ):
            with pytest.raises(ValueError, match=r"a context \(B, S, 11\).*" + re.escape(shape)):
                layer(inputs, other)
        for use in (
            lambda x: x.project_context(context),
            lambda x: x.attend(INPUTS, context, context),
        ):
            with pytest.raises(ValueError, match="before its attend .*received built=False"):
                use(LAYERS["additive"]())
        with pytest.raises(ValueError, match=r"mask of shape \(B, S\) .*shape=\(2, 3\)"):
            layer(INPUTS, context, context_mask=ops.ones((B, T), dtype="bool"))
