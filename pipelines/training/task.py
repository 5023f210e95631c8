"""What a task offers to the loop."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf


class Data(NamedTuple):
    """What a task's `datasets` returns.

    Attributes:
        train: function of a number of batches `-> tf.data.Dataset` of what follows them, without
            end; this process's part of each batch.
        validation: `tf.data.Dataset` of batches, read once a validation; whole batches.
        batches_per_epoch: float.
        items: what a loss is summed over, in the plural: `"tokens"` or `"images"`.
        fingerprint: a hash of each part of the data by its name, such as `"training pairs"`; a run
            does not go on with other data.
        begin: what is done with a fresh model before it is trained, such as giving it the weights
            of another run: function `(model, is_new)`, which of a run that goes on is not new. The
            result is what is trained and saved.
    """

    train: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    batches_per_epoch: float
    items: str
    fingerprint: Mapping[str, str] = {}
    begin: Callable[[keras.Model, bool], keras.Model] | None = None
