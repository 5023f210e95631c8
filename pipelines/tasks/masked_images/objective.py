"""The model of a run of masked images, its loss and its metric.

The random numbers of an image, which come with the batch, decide which of its patches are hidden:
any number of replicas hides the same ones, and so does a run that resumes.
"""

import keras
import ml_collections
import tensorflow as tf
from keras import ops

from kerasformer.models import MaskedAutoencoder
from pipelines.images.description import read_description
from pipelines.images.models import image_size
from pipelines.tasks.masked_images.models import make


def build(config: ml_collections.ConfigDict, workdir: str) -> MaskedAutoencoder:
    """Builds the model with fresh weights; those of the encoder are its first variables.

    Raises:
        ValueError: when `config.model` has a key that the encoder does not take.
    """
    channels = read_description(workdir)["channels"]
    model = make(config, channels)
    model.build((None, *image_size(config), channels))
    return model


def order_of(batch: dict) -> tf.Tensor:
    """Returns the order of the patches of each image, of which the first ones are seen."""
    return tf.argsort(batch["random"], axis=1)


def loss(model: keras.Model, batch: dict, config: ml_collections.ConfigDict):
    """Computes the error of the hidden patches of a training batch.

    Returns:
        Tuple of its sum over the images and their number, float32 scalars.
    """
    losses = model.image_losses(batch["images"], order=order_of(batch), training=True)
    return ops.sum(losses), ops.cast(ops.shape(losses)[0], "float32")


def metrics(model: keras.Model, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes the same of the real images of a validation batch, whose masks never change.

    Returns:
        Dict with `loss`, a pair (sum, count).
    """
    real = ops.cast(is_real(batch), "float32")
    losses = model.image_losses(batch["images"], order=order_of(batch), training=False)
    return {"loss": (ops.sum(losses * real), ops.sum(real))}


def is_real(batch: dict) -> tf.Tensor:
    """Tells images from what fills up the last batch of an evaluation."""
    return batch["labels"] >= 0
