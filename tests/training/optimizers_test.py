"""Weight decay and layer-wise rates, against the update written out."""

import keras
import numpy as np
import pytest

from pipelines.training.optimizers import SGD, AdamW, rate_factors

PATHS = [
    "vit/patch_embedding/dense/kernel",
    "vit/patch_embedding/dense/bias",
    "vit/encoder/block_0/norm/gamma",
    "vit/encoder/block_1/dense/kernel",
    "vit/encoder/block_10/dense/kernel",
    "vit/encoder/final_norm/gamma",
    "vit/head/kernel",
]


def make_variables():
    """Makes a front door, two blocks and a head, with a matrix and a bias each."""
    inputs = keras.Input((3,))
    x = inputs
    for name in ("front", "block_0", "block_1", "head"):
        x = keras.layers.Dense(3, name=name)(x)
    return keras.Model(inputs, x).trainable_variables


def step(variables, rate=0.01, **options):
    """Returns what one step with unit gradients takes from each variable."""
    for variable in variables:
        variable.assign(np.full(variable.shape, 2.0))
    optimizer = AdamW(rate, variables, epsilon=1e-12, **options)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    return {v.path: 2.0 - float(np.unique(v.numpy()).item()) for v in variables}


class RateFactorsTest:
    def test_a_block_learns_slower_than_the_one_above(self):
        found = list(rate_factors(PATHS, 0.5).values())
        assert found == [0.5**12, 0.5**12, 0.5**11, 0.5**10, 0.5, 1.0, 1.0]

    def test_without_decay_or_blocks_all_learn_alike(self):
        assert set(rate_factors(PATHS, 1.0).values()) == {1.0}
        assert set(rate_factors(["dense/kernel", "dense/bias"], 1.0).values()) == {1.0}


class AdamWTest:
    def test_matrices_decay_and_biases_do_not(self):
        for path, taken in step(make_variables(), weight_decay=0.3).items():
            decay = 0.01 * 0.3 * 2.0 if path.endswith("kernel") else 0.0
            assert taken == pytest.approx(0.01 + decay, rel=1e-4), path

    def test_without_decay_it_is_adam(self):
        variables = make_variables()
        ours = step(variables)
        for variable in variables:
            variable.assign(np.full(variable.shape, 2.0))
        adam = keras.optimizers.Adam(0.01, epsilon=1e-12)
        adam.apply([keras.ops.ones(v.shape) for v in variables], variables)
        theirs = {v.path: 2.0 - float(np.unique(v.numpy()).item()) for v in variables}
        assert ours == theirs

    def test_decay_and_step_follow_the_factor_of_the_layer(self):
        found = step(make_variables(), weight_decay=0.3, layer_decay=0.5)
        for path, factor in rate_factors(list(found), 0.5).items():
            decay = 0.3 * 2.0 if path.endswith("kernel") else 0.0
            assert found[path] == pytest.approx(0.01 * factor * (1 + decay), rel=1e-3), path
        assert {"front", "block_0", "block_1", "head"} == {path.split("/")[0] for path in found}

    def test_a_schedule_of_the_decay_counts_the_updates(self):
        variables = make_variables()
        optimizer = AdamW(0.01, variables, epsilon=1e-12, weight_decay=lambda step: 0.1 * step)
        for step in range(3):  # Without a gradient the decay alone moves a matrix.
            for variable in variables:
                variable.assign(np.full(variable.shape, 2.0))
            optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
            for variable in variables:
                decay = 0.01 * 0.1 * step if variable.name == "kernel" else 0.0
                expected = np.full(variable.shape, 2.0 * (1 - decay), "float32")
                np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


class SGDTest:
    def test_momentum_rates_and_decay_are_those_written_out(self):
        variables = make_variables()
        for variable in variables:
            variable.assign(np.full(variable.shape, 2.0))
        optimizer = SGD(0.1, variables, weight_decay=0.3, layer_decay=0.5, momentum=0.9)
        for _ in range(2):
            optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
        for variable in variables:
            rate = 0.1 * rate_factors([v.path for v in variables], 0.5)[variable.path]
            value, velocity = 2.0, 0.0
            for _ in range(2):
                value -= value * rate * (0.3 if variable.name == "kernel" else 0.0)
                velocity = 0.9 * velocity - rate
                value += velocity
            np.testing.assert_allclose(variable, np.full(variable.shape, value), rtol=1e-5)
