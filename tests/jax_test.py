"""Searches, cached steps, losses and schedules give the same numbers on JAX as on TensorFlow.

This file is also the program that the test runs on JAX, without TensorFlow.
"""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer import decoding, schedules
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer
from tests import ROOT
from tests.layers.mixers import dot_product_test

if keras.backend.backend() == "jax":
    import jax
else:
    import tensorflow as tf

VOCABULARY, LENGTH = 23, 7
SOURCE = np.array([[5, 11, 17, 2, 0], [19, 2, 0, 0, 0], [7, 13, 4, 8, 2]])
LABELS = np.array([[5, 11, 2], [7, 2, 0]])
RULES = {"min_length": 2, "no_repeat_ngram": 2}


def make_model():
    model = Seq2SeqTransformer(VOCABULARY, 2, 12, 3, 13)
    model.build()
    return model


def searches(model, length=LENGTH):
    """Runs each search over the cached steps of the model; yields names and arrays."""
    begin = (*model.start_decoding(SOURCE, length), np.ones(len(SOURCE), "int32"), length)
    yield "greedy", decoding.greedy_search(*begin, **RULES)
    yield "beam", decoding.beam_search(*begin, beam_size=3, num_hypotheses=2, **RULES)
    # A single token is left to draw from, since the samples of the backends differ.
    yield "sampled", decoding.sample(*begin, seed=3, top_k=1)


def gradient(function, value):
    """Differentiates a function to a scalar, as the backend at hand does it."""
    if keras.backend.backend() == "jax":
        return jax.jit(jax.grad(function))(value)
    value = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return tape.gradient(result, value)


def results(weights):
    """Computes all that is compared, as numpy arrays by name."""
    model = make_model()
    model.set_weights(weights)
    found = {}
    for name, hypotheses in searches(model):
        found[f"{name} tokens"], found[f"{name} scores"] = hypotheses[:2]
    logits = np.random.default_rng(5).standard_normal((*LABELS.shape, VOCABULARY))
    logits = logits.astype("float32")
    found["losses"] = smoothed_cross_entropy(LABELS, logits, 0.1)
    found["gradient"] = gradient(lambda x: ops.sum(smoothed_cross_entropy(LABELS, x, 0.1)), logits)
    for schedule in (
        schedules.InverseSquareRoot(0.1, 5),
        schedules.Noam(16, 5),
        schedules.WarmUpLinear(0.1, 11, 5),
        schedules.WarmUpCosine(0.1, 11, 5),
    ):
        rates = [float(schedule(step)) for step in range(13)]
        found[type(schedule).__name__] = np.array(rates)
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


def test_jax_without_tensorflow_computes_the_same(tmp_path):
    random = np.random.default_rng(7)
    weights = [random.standard_normal(w.shape) * 0.5 for w in make_model().weights]
    np.savez(tmp_path / "weights.npz", *weights)
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = results(weights)
    beams = expected["beam tokens"]
    assert np.any(beams[0] != beams[1]) and np.any(beams[:, 0] != beams[:, 1])
    with np.load(tmp_path / "results.npz") as found:
        assert set(found.files) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for draw_mask in dot_product_test.MASKS.values():
        dot_product_test.test_the_kernel_equals_the_reference(2, draw_mask, True)
    with np.load(folder / "weights.npz") as arrays:
        computed = results([arrays[name] for name in arrays.files])
    with pytest.raises(ValueError, match="Expected max_length of type int outside TensorFlow"):
        next(searches(make_model(), ops.array(LENGTH)))
    np.savez(folder / "results.npz", **computed)
    assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
