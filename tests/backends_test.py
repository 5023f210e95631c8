"""Searches, cached steps, losses and schedules give the same numbers on every backend.

The numbers are stored, and each backend computes them anew: TensorFlow and JAX in
`make test-integration`, torch in `make test-torch`. This file is also the program that runs on
JAX, without TensorFlow; `python -m tests.backends_test --store` stores the numbers of the backend
at hand.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from keras import ops

from kerasformer import decoding, schedules
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer
from tests import ROOT
from tests.backend import BACKEND, jax, needs_tensorflow, recording, tf, torch
from tests.layers.mixers import dot_product_test

pytestmark = pytest.mark.integration

STORED = ROOT / "tests/stored/backends.npz"

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
    if BACKEND == "jax":
        return jax.jit(jax.grad(function))(value)
    if BACKEND == "torch":
        with recording():
            value = torch.tensor(value, requires_grad=True)
            return torch.autograd.grad(function(value), value)[0]
    value = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return tape.gradient(result, value)


def results():
    """Computes all that is compared, as numpy arrays by name."""
    model, random = make_model(), np.random.default_rng(7)
    model.set_weights([random.standard_normal(w.shape) * 0.5 for w in model.weights])
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


def assert_as_stored(computed):
    with np.load(STORED) as stored:
        assert set(stored.files) == set(computed)
        for name in stored.files:
            np.testing.assert_allclose(
                computed[name], stored[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


def test_this_backend_computes_what_is_stored():
    computed = results()
    beams = computed["beam tokens"]
    assert np.any(beams[0] != beams[1]) and np.any(beams[:, 0] != beams[:, 1])
    assert_as_stored(computed)


@needs_tensorflow
def test_jax_without_tensorflow_computes_the_same():
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    if sys.argv[1:] == ["--store"]:
        np.savez_compressed(STORED, **results())
        sys.exit()
    assert BACKEND == "jax" and "tensorflow" not in sys.modules
    for draw_mask in dot_product_test.MASKS.values():
        dot_product_test.test_the_kernel_equals_the_reference(2, draw_mask, True)
    assert_as_stored(results())
    with pytest.raises(ValueError, match="Expected max_length of type int outside TensorFlow"):
        next(searches(make_model(), ops.array(LENGTH)))
    assert "tensorflow" not in sys.modules
