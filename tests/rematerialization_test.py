"""Blocks that are computed again give the gradients of blocks that are not, dropout included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.rematerialization import rematerialize
from pipelines.trainer import model_variables
from tests.digits import (
    ONE_DEVICE,
    TransformedDigits,
    draw_batch,
    make_trainer,
    step,
    two_replicas,
    weights,
)

BATCHES = [draw_batch(number) for number in range(3)]


def make(is_rematerialized, strategy=ONE_DEVICE, **changes):
    trainer = make_trainer(TransformedDigits(), strategy, dropout=0.3, **changes)
    for number, variable in enumerate(trainer.model.non_trainable_variables):
        variable.assign([number + 5, 0])  # The seeds of dropout, which no seed decides.
    if is_rematerialized:
        rematerialize(trainer.model)
    return trainer


class RematerializeTest:
    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    def test_the_same_dropout_and_gradients_come_out(self, precision):
        one, other = make(False, precision=precision), make(True, precision=precision)
        assert step(other, *BATCHES) == pytest.approx(step(one, *BATCHES), rel=1e-5)
        for name, variable in model_variables(one.model).items():
            found = model_variables(other.model)[name].numpy()
            np.testing.assert_allclose(found, variable.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)

    def test_every_block_is_computed_twice_in_a_step_and_once_without_a_gradient(self):
        trainer, calls = make(True), []
        for layer in trainer.model._flatten_layers():
            if layer.name == "block_0":
                own = layer.call.own_call
                layer.call.own_call = lambda *a, own=own, **k: (calls.append(1), own(*a, **k))[1]
        trainer.task.metrics(trainer.model, BATCHES[0], trainer.config)
        assert len(calls) == 2  # of encoder and decoder
        with tf.GradientTape() as tape:
            loss, _ = trainer.task.loss(trainer.model, BATCHES[0], trainer.config)
        assert len(calls) == 4
        tape.gradient(loss, trainer.model.trainable_weights)
        assert len(calls) == 6

    def test_replicas_do_it_too(self):
        one, other = (make(r, two_replicas()) for r in (False, True))
        assert step(other, *BATCHES) == pytest.approx(step(one, *BATCHES), rel=1e-5)
        for a, b in zip(weights(one), weights(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def test_compiled_steps_do_it_too(self):
        one, other = (make(r, jit_compile=True) for r in (False, True))
        assert step(other, *BATCHES) == pytest.approx(step(one, *BATCHES), rel=1e-5)

    def test_keras_scope_is_why_this_exists(self):
        """With `keras.RematScope`, dropout drops other numbers in the backward pass."""
        with keras.RematScope(mode="full"):
            layer = keras.layers.Dropout(0.5, seed=3)
        x = tf.ones((1, 64))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        assert not np.array_equal(tape.gradient(y, x), y)
