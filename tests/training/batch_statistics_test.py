"""Batch normalisation: the numbers of one device on several, and what moves its averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasformer.models import ConvMixer
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.weights import model_variables
from pipelines.tasks import classification
from pipelines.training.batch_statistics import moving_averages, synchronize
from pipelines.training.trainer import Trainer
from tests.training.token_task import ONE_DEVICE, two_replicas

RANDOM = np.random.default_rng(0)
ROWS = 5  # which two replicas cannot share equally
BATCH = {
    "images": RANDOM.normal(size=(ROWS, 4, 6, 3)).astype("float32"),
    "labels": RANDOM.integers(0, 7, ROWS).astype("int32"),
    "other_labels": RANDOM.integers(0, 7, ROWS).astype("int32"),
    "share": RANDOM.random(ROWS).astype("float32"),
}


def make_trainer(strategy, prepare=lambda model: None, **options):
    config = classification.default_config()
    # Adam divides noise by noise where a gradient is 0; this epsilon lets sums be compared.
    config.train.update(schedule="constant", steps=3, warmup_steps=0, epsilon=1e-3, **options)
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = ConvMixer((4, 6), 11, 1, kernel_size=3, patch_size=2, num_classes=7)
        model.build()
        prepare(model)
        return Trainer(classification, config, model, strategy)


def copies_of(trainer):
    """Reads the moving averages of each replica."""
    local = trainer.strategy.experimental_local_results
    return [[x.numpy() for x in local(v.value)] for v in moving_averages(trainer.model)]


def train(strategy, prepare):
    """Takes two steps; returns all weights, and the moving averages of each replica."""
    trainer = make_trainer(strategy, prepare)
    batches = iter(tf.data.Dataset.from_tensors(BATCH).repeat())
    trainer.steps(batches, tf.constant(2))
    return trainer.arrays(), copies_of(trainer)


@pytest.mark.integration
class SynchronizeTest:
    def test_two_replicas_compute_what_one_device_does(self):
        (expected, _), (found, copies) = (
            train(ONE_DEVICE, lambda model: None),
            train(two_replicas(), synchronize),
        )
        for name, array in found.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
        for first, second in copies:
            np.testing.assert_array_equal(first, second)


@pytest.mark.integration
class MovingAveragesTest:
    @pytest.mark.parametrize("make_strategy", [lambda: ONE_DEVICE, two_replicas])
    def test_a_step_that_is_not_finite_leaves_them_as_they_were(self, make_strategy):
        trainer = make_trainer(make_strategy(), synchronize)
        images = BATCH["images"].copy()
        images[1, 2, 3, 0] = np.inf
        batches = [BATCH, {**BATCH, "images": images}]
        spec = tf.data.Dataset.from_tensors(BATCH).element_spec
        iterator = iter(tf.data.Dataset.from_generator(lambda: batches, output_signature=spec))
        assert np.isfinite(trainer.steps(iterator, tf.constant(1)).loss)
        before, copies = trainer.arrays(), copies_of(trainer)
        assert np.isnan(trainer.steps(iterator, tf.constant(1)).loss)
        for name, array in trainer.arrays().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
        np.testing.assert_equal(copies_of(trainer), copies)
        assert copies and all(np.isfinite(x).all() for of_one in copies for x in of_one)

    def test_they_are_averaged_as_the_weights_are(self):
        trainer, seen = make_trainer(two_replicas(), synchronize, ema=0.7), []
        batches = iter(tf.data.Dataset.from_tensors(BATCH).repeat())
        for _ in range(2):
            trainer.steps(batches, tf.constant(1))
            seen.append(copies_of(trainer))
        with trainer.averaged_weights():
            found = copies_of(trainer)
        for copies, first, second in zip(found, *seen, strict=True):
            expected = (0.7 * np.array(first) + second) / 1.7
            np.testing.assert_allclose(copies, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_equal(copies_of(trainer), seen[1])

    def test_a_checkpoint_without_their_averages_has_them_instead(self, tmp_path):
        trainer, checkpoints = make_trainer(ONE_DEVICE, ema=0.7), Checkpoints(tmp_path, keep=2)
        today = trainer.arrays()
        moving = [x.path for x in moving_averages(trainer.model)]
        names = [name for name, x in model_variables(trainer.model).items() if x.path in moving]
        assert names and all(f"ema/{name}" in today for name in names)
        yesterday = {name: x for name, x in today.items() if name[4:] not in names}
        for name in names:
            yesterday[name] = yesterday[name] + 3
        trainer.restore(yesterday)
        for name in names:
            np.testing.assert_array_equal(trainer.arrays()[f"ema/{name}"], yesterday[name])
        for step, arrays in enumerate((yesterday, today)):
            checkpoints.save(step, arrays, {})
        assert checkpoints.average(2)[0].keys() == {n for n in yesterday if n[:4] != "opti"}
