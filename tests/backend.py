"""What the tests of the library need to know of the backend that they run on.

`make test` runs them on TensorFlow, `make test-torch` on torch, where TensorFlow is not installed.
"""

import contextlib

import keras
import pytest

BACKEND = keras.backend.backend()
tf = torch = jax = None
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "torch":
    import torch
else:
    import jax

# A test of graphs, XLA, replicas or SavedModels, or one whose oracle is TensorFlow.
needs_tensorflow = pytest.mark.needs_tensorflow


def recording(enabled=True):
    """Returns a context in which torch records, or not, what gradients need."""
    return torch.set_grad_enabled(enabled) if torch else contextlib.nullcontext()


def gradients(function, variables):
    """Differentiates a function without arguments, whose result is a scalar, by variables."""
    if not variables:
        return []
    if BACKEND == "tensorflow":
        with tf.GradientTape() as tape:
            total = function()
        return tape.gradient(total, [v.value for v in variables])
    if BACKEND == "torch":
        with recording():
            return torch.autograd.grad(function(), [v.value for v in variables])

    def of_values(values):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function()

    return jax.grad(of_values)([v.value for v in variables])
