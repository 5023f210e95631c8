"""Batch normalisation on several replicas: the numbers of one device, moving averages included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasformer.models import ConvMixer
from pipelines.tasks import classification
from pipelines.training.batch_statistics import synchronize
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


def train(strategy, prepare):
    """Takes two steps; returns all weights, and the moving averages of each replica."""
    config = classification.default_config()
    # Adam divides noise by noise where a gradient is 0; this epsilon lets sums be compared.
    config.train.update(schedule="constant", steps=3, warmup_steps=0, epsilon=1e-3)
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = ConvMixer((4, 6), 11, 1, kernel_size=3, patch_size=2, num_classes=7)
        model.build()
        prepare(model)
        trainer = Trainer(classification, config, model, strategy)
    batches = iter(tf.data.Dataset.from_tensors(BATCH).repeat())
    trainer.steps(batches, tf.constant(2))
    moving = [weight for weight in model.weights if weight.name.startswith("moving")]
    copies = [strategy.experimental_local_results(weight.value) for weight in moving]
    return trainer.arrays(), [[x.numpy() for x in of_weight] for of_weight in copies]


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
