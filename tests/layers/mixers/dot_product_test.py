"""The kernel of the backend against the reference, in values and gradients, on any backend.

Runs under pytest with any backend (`KERAS_BACKEND`); `backends_test.py` runs it on JAX.
"""

import numpy as np
import pytest
from keras import ops

from kerasformer.layers.masks import causal_mask, combine_masks
from kerasformer.layers.mixers.dot_product import (
    attend,
    fused_attention,
    scaled_dot_product_attention,
)
from tests.backend import BACKEND, jax, recording, tf, torch

BATCH, HEADS, LENGTH, CONTEXT, KEY_DIM = 2, 6, 5, 7, 8


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def value_and_gradients(function, arrays):
    """Computes a function of tensors and the gradients of a sum of it, as the backend does it."""
    weights = draw(BATCH, HEADS, arrays[0].shape[2], KEY_DIM)
    if BACKEND == "jax":

        def loss(*arrays):
            outputs = function(*arrays)
            return (outputs * weights).sum(), outputs

        compute = jax.jit(jax.value_and_grad(loss, range(len(arrays)), has_aux=True))
        (_, outputs), gradients = compute(*arrays)
        return [np.asarray(x) for x in (outputs, *gradients)]
    if BACKEND == "tensorflow":
        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = function(*tensors)
            loss = tf.reduce_sum(outputs * weights)
        return [x.numpy() for x in (outputs, *tape.gradient(loss, tensors))]
    with recording():
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        outputs = function(*tensors)
        gradients = torch.autograd.grad((outputs * torch.tensor(weights)).sum(), tensors)
    return [x.detach().numpy() for x in (outputs, *gradients)]


def mask_with_empty_rows(*shape):
    """Draws a mask in which the last example, and the last of several queries, see no key."""
    mask = np.random.default_rng(5).random(shape) < 0.5
    mask[-1] = mask[:, :, 1:][:, :, -1:] = False
    return mask


MASKS = {
    "none": lambda keys: None,
    "padding": lambda keys: mask_with_empty_rows(BATCH, 1, 1, keys),
    "all heads": lambda keys: mask_with_empty_rows(BATCH, 1, LENGTH, keys),
    "per head": lambda keys: mask_with_empty_rows(BATCH, HEADS, LENGTH, keys),
}


@pytest.mark.parametrize("groups", [1, 2, HEADS])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_kernel_equals_the_reference(groups, mask, is_causal):
    keys = LENGTH if is_causal else CONTEXT
    mask = mask(keys)
    query, shape = draw(BATCH, HEADS, LENGTH, KEY_DIM), (BATCH, groups, keys, KEY_DIM)
    arrays = [query, draw(*shape), draw(*shape)[..., ::-1].copy()]
    causal = causal_mask(LENGTH) if is_causal else None
    combined = combine_masks(None, mask, causal)
    fused = value_and_gradients(
        lambda *qkv: fused_attention(*qkv, mask=mask, is_causal=is_causal), arrays
    )
    reference = value_and_gradients(
        lambda *qkv: scaled_dot_product_attention(*qkv, mask=combined)[0], arrays
    )
    for actual, expected in zip(fused, reference, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    if mask is not None:
        assert not fused[0][-1].any() and fused[0][0].any()
        assert mask.shape[2] == 1 or not fused[0][:, :, -1].any()


def test_one_query_for_all_examples_equals_its_copies():
    query, keys = draw(1, HEADS, 1, KEY_DIM), draw(BATCH, HEADS, CONTEXT, KEY_DIM)
    mask = MASKS["padding"](CONTEXT)

    def run(attention, copies):
        return value_and_gradients(
            lambda query, keys: attention(ops.repeat(query, copies, axis=0), keys, keys, mask),
            [query, keys],
        )

    one = run(fused_attention, 1)
    reference = run(lambda *args: scaled_dot_product_attention(*args)[0], BATCH)
    for actual, expected in zip(one, reference, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_choice_between_them_changes_nothing_but_what_is_returned(is_causal):
    x, mask = draw(BATCH, HEADS, LENGTH, KEY_DIM), MASKS["all heads"](LENGTH)
    outputs, _ = attend(x, x, x, mask, is_causal)
    for wish in (
        {"needs_scores": True},
        {"dropout": lambda x: x},
        {"position_bias": np.zeros((LENGTH, LENGTH), "float32")},
    ):
        others, scores = attend(x, x, x, mask, is_causal, **wish)
        np.testing.assert_allclose(
            ops.convert_to_numpy(others), ops.convert_to_numpy(outputs), rtol=1e-4, atol=1e-5
        )
        assert scores.shape == (BATCH, HEADS, LENGTH, LENGTH)
