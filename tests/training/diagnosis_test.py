"""Where numbers stop being finite: each place is broken in turn and must be named."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.training.diagnosis import first_not_finite
from pipelines.training.rematerialization import rematerialize
from tests.training.token_task import (
    TokenTask,
    TransformerTask,
    as_dataset,
    draw_batch,
    make_trainer,
    two_replicas,
)

BATCHES = [draw_batch(number) for number in range(2)]


def diagnose(trainer, batches=BATCHES):
    return first_not_finite(trainer, as_dataset(batches))


def find(trainer, *parts):
    """Returns the one variable whose path holds all of some parts."""
    (found,) = (v for v in trainer.model.variables if all(part in v.path for part in parts))
    return found


def overflow(trainer, *parts):
    """Makes a matrix so large that what it multiplies overflows, though it is finite."""
    kernel = find(trainer, *parts, "kernel")
    kernel.assign(np.full(kernel.shape, 3e38, np.float32) * np.sign(kernel.numpy()))
    return kernel.path.removesuffix("/kernel")


class NotFiniteLoss(TokenTask):
    """A task whose loss divides by 0."""

    @staticmethod
    def loss(model, batch, config):
        total, items = TokenTask.loss(model, batch, config)
        return total / (items - items), items


class NotFiniteGradient(TokenTask):
    """A task whose loss takes the root of 0, which has no slope."""

    @staticmethod
    def loss(model, batch, config):
        total, items = TokenTask.loss(model, batch, config)
        nothing = model.trainable_variables[-1] * 0.0  # The bias.
        return total + tf.reduce_sum(tf.sqrt(nothing)), items


class FirstNotFiniteTest:
    def test_weights_are_named(self):
        trainer = make_trainer()
        bias = find(trainer, "bias")
        bias.assign(np.where(np.arange(len(bias.numpy())) == 5, np.nan, bias.numpy()))
        assert diagnose(trainer) == f"the weights {bias.path} are not finite before it"

    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    @pytest.mark.parametrize("stack", ["encoder", "decoder"])
    def test_the_innermost_layer_that_overflows_is_named(self, stack, dropout):
        trainer = make_trainer(TransformerTask(), dropout=dropout)
        path = overflow(trainer, stack, "inner_dense")
        assert f"{stack}/block_0/feed_forward" in path
        assert diagnose(trainer) == f"the first layer with outputs that are not finite is {path}"

    def test_of_several_layers_the_first_one_is_named(self):
        trainer = make_trainer(TransformerTask())
        path, *_ = (overflow(trainer, stack, "inner_dense") for stack in ("encoder", "decoder"))
        assert diagnose(trainer).endswith(path)

    def test_each_batch_of_the_step_is_looked_at(self):
        trainer = make_trainer()
        embeddings = find(trainer, "embeddings")
        rows = embeddings.numpy()
        rows[7] = 3e38  # Twice that is too much; no other token id overflows.
        embeddings.assign(rows)
        good, bad = (
            {name: np.where(ids == 7, 8, ids) for name, ids in BATCHES[0].items()} for _ in range(2)
        )
        bad["source"][0, :2] = 7
        assert diagnose(trainer, [good, good]).startswith("everything is finite")
        assert "not finite" in diagnose(trainer, [good, bad])

    def test_a_loss_is_named_that_is_not_finite_though_all_layers_are(self):
        found = diagnose(make_trainer(NotFiniteLoss()))
        assert found == "the outputs of all layers are finite, and the loss is not"

    def test_a_gradient_is_named_that_is_not_finite_though_the_loss_is(self):
        trainer = make_trainer(NotFiniteGradient())
        path = find(trainer, "bias").path
        assert diagnose(trainer) == f"the loss is finite, and the gradient of {path} is not"

    def test_nothing_is_named_where_everything_is_finite(self):
        found = diagnose(make_trainer(TransformerTask()))
        assert found.startswith("everything is finite when it is computed again")

    def test_several_replicas_are_looked_at_too(self):
        trainer = make_trainer(TransformerTask(), two_replicas(), dropout=0.3)
        assert diagnose(trainer).startswith("everything is finite")
        path = overflow(trainer, "decoder", "inner_dense")
        assert diagnose(trainer).endswith(path)


class WatchTest:
    """Looking at a model changes nothing about it."""

    @pytest.mark.parametrize("task", [TransformerTask(), NotFiniteLoss()])
    def test_keras_calls_its_layers_as_before(self, task):
        before = keras.layers.Layer.__call__
        diagnose(make_trainer(task))
        assert keras.layers.Layer.__call__ is before

    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    def test_a_rematerialized_model_names_the_innermost_layer_too(self, precision):
        trainer = make_trainer(TransformerTask(), precision=precision)
        rematerialize(trainer.model)
        path = overflow(trainer, "encoder", "inner_dense")
        assert diagnose(trainer).endswith(path)
