"""A third task, over the data room of images: the average colour, with a teacher for validation.

`python -m tests.training.colour_task PROGRAM` is a program of `apps` that knows this task.
"""

import itertools
import json
import runpy
import sys
from pathlib import Path

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from apps import tasks
from pipelines.images.labelled import read_images
from pipelines.runs.files import write_text
from pipelines.training import settings
from pipelines.training.task import (
    Data,
    Evaluation,
    begin,
    card,
    leaks,
    own_test,
    settle,
    validation_scorer,
)

METRICS = ("loss", "red_loss", "green_loss", "blue_loss")
DEFAULTS = {
    "task": "colour",
    "seed": 3,
    "weights": "last",
    "data": {"format": "npz", "classes": (), "on_bad_image": "stop", "max_pixels": 10**6},
    "train": {**settings.DEFAULTS, "batch_size": 5},
}
PREPARED, FIXED_KEYS, FREE_KEYS, LOCAL_KEYS = ("shape.json",), ("data",), (), ("data.folder",)
FOLLOW = 0.25  # share of the student in the teacher, after each step


def default_config():
    config = ml_collections.ConfigDict(DEFAULTS)
    config.data.unlock()
    return config


def resolve(config):
    if config.train.learning_rate == "auto":
        config.train.learning_rate = 0.01 * len(config.data.folder)
        config.data.size = [8, 8]
    return config


def check(config):
    pass


def datasets(config, workdir, shard):
    train, validation = (read_images(config.data, split) for split in ("train", "validation"))
    write_text(Path(workdir, "shape.json"), json.dumps(train.pixels.shape[1:]))
    spec = {"images": tf.TensorSpec((None, *train.pixels.shape[1:]), tf.float32)}

    def batches(first):
        for number in itertools.count(first):
            random = np.random.default_rng([config.seed, number])
            rows = random.integers(len(train.pixels), size=config.train.batch_size)
            yield {"images": (train.pixels[rows] / np.float32(255))[shard.index :: shard.count]}

    return Data(
        lambda first: tf.data.Dataset.from_generator(lambda: batches(first), output_signature=spec),
        tf.data.Dataset.from_tensor_slices({"images": validation.pixels / np.float32(255)}).batch(
            7
        ),
        len(train.pixels) / config.train.batch_size,
        "images",
        {"images": train.fingerprint()},
    )


def build(config, workdir):
    image = keras.Input(json.loads(Path(workdir, "shape.json").read_text()))
    x = keras.layers.Dropout(0.2, name="dropout")(keras.layers.Flatten()(image))
    layers = [keras.layers.Dense(3, name="student"), keras.layers.Dense(3, name="teacher")]
    layers[1].trainable = False
    return keras.Model(image, [layer(x) for layer in layers])


def squares(images, colours):
    """Squares the error of each channel of each image."""
    return (tf.reduce_mean(images, axis=(1, 2)) - colours) ** 2


def loss(model, batch, config):
    images = batch["images"]
    student, _ = model(images, training=True)
    return tf.reduce_sum(squares(images, student)), tf.cast(tf.shape(images)[0], tf.float32)


def metrics(model, batch, config):
    images = batch["images"]
    _, teacher = model(images, training=False)
    return {
        "squares": tf.reduce_sum(squares(images, teacher), axis=0),  # of each channel
        "count": tf.cast(tf.shape(images)[0], tf.float32),
    }


def finish(sums):
    means = sums["squares"] / sums["count"]
    return {"loss": means.sum(), **dict(zip(METRICS[1:], means**0.5, strict=True))}


def after_step(model, config):
    student, teacher = (model.get_layer(name).weights for name in ("student", "teacher"))
    for leader, follower in zip(student, teacher, strict=True):
        follower.assign(follower + FOLLOW * (leader - follower))


class Colours(tf.Module):
    """Predicts the average colour of images by the weights of the teacher."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8, name="image")])
    def predict(self, image):
        return {"colour": 255.0 * self.model(tf.cast(image, tf.float32) / 255.0)[1]}

    def signatures(self):
        return {"serving_default": self.predict}


def serving(model, config, workdir):
    return Colours(model)


def evaluate(module, config, split):
    pixels = read_images(config.data, split).pixels
    error = squares(tf.cast(pixels, tf.float32), module.predict(pixels)["colour"])
    return Evaluation({"error": float(tf.reduce_mean(error) ** 0.5)}, "| a table |")


def example(module, config):
    return f"- output: {module.predict(np.zeros((1, 8, 8, 3), np.uint8))['colour'][0]}"


def show_batch(batches, config, workdir, picture):
    return f"Colours: {next(iter(batches))['images'].numpy().mean(axis=(1, 2))}"


__all__ = [
    "begin",
    "card",
    "leaks",
    "own_test",
    "settle",
    "validation_scorer",
]  # These are the defaults of the contract.


if __name__ == "__main__":
    from tests.training import colour_task

    tasks.TASKS["colour"] = colour_task
    del sys.argv[0]
    runpy.run_module(f"apps.{sys.argv[0]}", run_name="__main__", alter_sys=True)
