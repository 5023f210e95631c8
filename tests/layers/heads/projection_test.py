"""The projection head against its definition in numpy, and what no gradient reaches."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers import ProjectionHead
from kerasformer.layers.heads.projection import unit_vectors
from tests.backend import gradients

X = np.random.default_rng(0).standard_normal((5, 7)).astype("float32")


def make_head(**arguments):
    keras.utils.set_random_seed(1)
    head = ProjectionHead(11, intermediate_dim=13, bottleneck_dim=3, **arguments)
    head.build((None, 7))
    return head


def brute_force(head, x):
    gelu = np.vectorize(lambda a: a * (1 + math.erf(a / math.sqrt(2))) / 2)
    kernel, *denses = (w.astype("float64") for w in head.get_weights())
    for index in range(0, len(denses), 2):
        x = x @ denses[index] + denses[index + 1]
        x = gelu(x) if index + 2 < len(denses) else x
    angles = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in kernel.T] for a in x]
    return np.array(angles)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_each_output_is_the_cosine_of_bottleneck_and_prototype(num_layers):
    head = make_head(num_layers=num_layers)
    np.testing.assert_allclose(head(X), brute_force(head, X.astype("float64")), atol=1e-5)


def test_the_length_of_prototypes_means_nothing():
    head = make_head()
    before = ops.convert_to_numpy(head(X))
    head.kernel.assign(head.kernel * np.arange(1, 12, dtype="float32"))
    np.testing.assert_allclose(head(X), before, atol=1e-6)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_frozen_prototypes_get_no_gradient_and_the_others_theirs(is_frozen):
    head = make_head()
    frozen = ops.convert_to_tensor(is_frozen)
    target = ops.sin(ops.reshape(ops.arange(55.0), (5, 11)))
    found = gradients(
        lambda: ops.sum(head(X, freeze_prototypes=frozen) * target), head.trainable_variables
    )
    for variable, gradient in zip(head.trainable_variables, found, strict=True):
        is_zero = gradient is None or not np.any(ops.convert_to_numpy(gradient))
        assert is_zero == (is_frozen and variable is head.kernel), variable.path


def test_a_vector_of_zeros_has_no_direction():
    assert not np.any(ops.convert_to_numpy(unit_vectors(np.zeros((2, 3), "float32"))))


def test_a_head_without_layers_is_refused():
    with pytest.raises(ValueError, match="at least 1, received num_layers=0"):
        ProjectionHead(3, num_layers=0)
