"""Blocks that are computed again give the gradients of blocks that are not, dropout included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.runs.weights import model_variables
from pipelines.training.rematerialization import blocks, rematerialize
from tests.training.token_task import (
    ONE_DEVICE,
    TransformerTask,
    draw_batch,
    make_trainer,
    step,
    two_replicas,
)

BATCHES = [draw_batch(number) for number in range(3)]


def make(is_rematerialized, strategy=ONE_DEVICE, **changes):
    trainer = make_trainer(TransformerTask(), strategy, dropout=0.3, **changes)
    for number, variable in enumerate(trainer.model.non_trainable_variables):
        variable.assign([number + 5, 0])  # The seeds of dropout, which no seed decides.
    if is_rematerialized:
        rematerialize(trainer.model)
    return trainer


def gradients(trainer):
    """Computes in a graph, on each replica, gradients, loss and items of each batch."""
    compute = tf.function(lambda batch: trainer.strategy.run(trainer._gradients, (batch,)))
    found = tf.nest.flatten([compute(batch) for batch in BATCHES])
    local = trainer.strategy.experimental_local_results
    return [part.numpy() for value in found for part in local(value)]


@pytest.mark.integration
class RematerializeTest:
    def test_training_steps_lead_to_the_same_weights(self):
        one, other = make(False), make(True)
        assert step(other, *BATCHES) == pytest.approx(step(one, *BATCHES), rel=1e-5)
        for name, variable in model_variables(one.model).items():
            found = model_variables(other.model)[name].numpy()
            np.testing.assert_allclose(found, variable.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)

    @pytest.mark.parametrize(
        ("make_strategy", "changes"),
        [
            (lambda: ONE_DEVICE, {"precision": "mixed_bfloat16"}),
            (lambda: ONE_DEVICE, {"jit_compile": True}),
            (two_replicas, {}),
        ],
        ids=["bfloat16", "compiled", "replicas"],
    )
    def test_the_same_dropout_and_gradients_come_out(self, make_strategy, changes):
        one, other = (make(r, make_strategy(), **changes) for r in (False, True))
        for expected, found in zip(gradients(one), gradients(other), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_every_block_is_computed_twice_in_a_step_and_once_without_a_gradient(self):
        trainer, calls = make(True), []
        for block in blocks(trainer.model):
            call = block.call.block_call
            block.call.block_call = lambda *a, call=call, **k: (calls.append(1), call(*a, **k))[1]
        trainer.task.metrics(trainer.model, BATCHES[0], trainer.config)
        assert len(calls) == 2  # of encoder and decoder
        with tf.GradientTape() as tape:
            loss, _ = trainer.task.loss(trainer.model, BATCHES[0], trainer.config)
        assert len(calls) == 4
        tape.gradient(loss, trainer.model.trainable_weights)
        assert len(calls) == 6

    def test_keras_scope_is_why_this_exists(self):
        """With `keras.RematScope`, dropout drops other numbers in the backward pass."""
        with keras.RematScope(mode="full"):
            layer = keras.layers.Dropout(0.5, seed=3)
        x = tf.ones((1, 64))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        assert not np.array_equal(tape.gradient(y, x), y)
