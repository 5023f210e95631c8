"""Speed of vision: a Vision Transformer here, with keras-hub and with timm; and the input pipeline.

All sides get the same sizes, random images, optimizer and loss, without dropout. The fixed works
are ViT 9 x 192 on images of 32 x 32 pixels and ViT-Ti/16.
"""

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import IO, NamedTuple, cast

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from kerasformer.layers.embeddings.masking import visible_count
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import VisionTransformer
from pipelines.benchmarks.turns import Side, Work
from pipelines.configs import cifar10_cpu
from pipelines.images.augmentation import Recipe
from pipelines.images.batches import training_dataset
from pipelines.images.dataset import Images

LEARNING_RATE = 1e-3
TIMM_HINT = '--peers=timm needs timm: `pip install "kerasformer[timm]"`.'


class Sizes(NamedTuple):
    """The sizes of a model and of its batch.

    Attributes:
        image_size, patch_size: ints. Pixels along a side.
        num_layers, hidden_dim, num_heads, intermediate_dim, num_classes: ints, the model.
        batch_size: int. Number of images.
    """

    image_size: int
    patch_size: int
    num_layers: int
    hidden_dim: int
    num_heads: int
    intermediate_dim: int
    num_classes: int
    batch_size: int


def make_work(title: str, sizes: Sizes, is_training: bool) -> Work:
    """Makes a piece of work, a step forward or a training step, of its sizes."""
    makers = {"kerasformer": ours, "keras-hub": keras_hub, "timm": timm}
    sides = [
        Side(
            name,
            sizes.batch_size,
            functools.partial(make, sizes, is_training),
            False if name == "timm" else None,
        )
        for name, make in makers.items()
    ]
    return Work(title, "img", sides)


def random_batch(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Draws images, float32 `(B, side, side, 3)`, and labels, int32 `(B,)`."""
    random = np.random.default_rng(0)
    shape = (sizes.batch_size, sizes.image_size, sizes.image_size, 3)
    labels = random.integers(0, sizes.num_classes, sizes.batch_size, dtype="int32")
    return random.random(shape, "float32"), labels


def transformer(sizes: Sizes, precision: str) -> keras.Model:
    """Builds this project's model."""
    arguments = sizes._asdict()
    del arguments["batch_size"]
    model = VisionTransformer(**arguments, dtype=precision)
    model.build((None, sizes.image_size, sizes.image_size, 3))
    return model


def ours(sizes: Sizes, is_training: bool, jit_compile: bool, precision: str) -> Callable:
    """Makes a step of this project's model that returns the loss or the logits."""
    images, labels = random_batch(sizes)
    return make_step(transformer(sizes, precision), images, labels, is_training, jit_compile)


def make_step(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    is_training: bool,
    jit_compile: bool = False,
) -> Callable:
    """Makes a call that trains a model on a batch and returns the loss, or returns its logits."""
    optimizer = keras.optimizers.AdamW(LEARNING_RATE)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def forward(images):
        return model(images, training=False)

    @tf.function(jit_compile=jit_compile)
    def train(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(smoothed_cross_entropy(labels, model(images, training=True)))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    if is_training:
        return lambda: train(tf.constant(images), tf.constant(labels)).numpy()
    images = tf.constant(images)
    return lambda: forward(images).numpy()


def keras_hub_transformer(sizes: Sizes, precision: str) -> keras.Model:
    """Builds the same model out of keras-hub's backbone."""
    shape = (sizes.image_size, sizes.image_size, 3)
    backbone = keras_nlp.models.ViTBackbone(
        image_shape=shape,
        patch_size=sizes.patch_size,
        num_layers=sizes.num_layers,
        num_heads=sizes.num_heads,
        hidden_dim=sizes.hidden_dim,
        mlp_dim=sizes.intermediate_dim,
        dtype=precision,
    )
    inputs = keras.Input(shape)
    head = keras.layers.Dense(sizes.num_classes, dtype="float32")
    return keras.Model(inputs, head(backbone(inputs)[:, 0]))


def keras_hub(sizes: Sizes, is_training: bool, jit_compile: bool, precision: str) -> Callable:
    """Makes the same step of keras-hub's model."""
    images, labels = random_batch(sizes)
    model = keras_hub_transformer(sizes, precision)
    if not is_training:
        forward = tf.function(lambda x: model(x, training=False), jit_compile=jit_compile)
        images = tf.constant(images)
        return lambda: forward(images).numpy()
    model.compile(
        keras.optimizers.AdamW(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    return lambda: model.train_on_batch(images, labels)


def timm(sizes: Sizes, is_training: bool, jit_compile: bool, precision: str) -> Callable:
    """Makes the same step of timm's model, always in PyTorch's eager mode.

    Raises:
        ImportError: where timm is missing.
    """
    work = {"sizes": sizes._asdict(), "is_training": is_training, "precision": precision}
    command = [sys.executable, "-m", "pipelines.benchmarks.timm_peer", json.dumps(work)]
    errors = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
    )
    requests, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)

    def answer():
        if not answers.readline():
            process.communicate()
            with errors:
                errors.seek(0)
                reason = errors.read().strip().rpartition("\n")[2]
            if "ModuleNotFoundError" in reason:
                raise ImportError(f"{TIMM_HINT} Python said: {reason}")
            raise RuntimeError(f"The process of timm ended: {reason}")

    def step():
        with contextlib.suppress(BrokenPipeError):  # There is no answer either, then.
            requests.write("\n")
            requests.flush()
        answer()

    answer()
    weakref.finalize(step, process.kill)
    return step


def make_input_work(num_images: int = 50_000) -> Work:
    """Makes the work of reading and augmenting an epoch of images, and of training on them.

    Both follow the config `cifar10_cpu`.
    """
    config = cifar10_cpu.get_config()
    batch_size = config.train.batch_size

    def read(jit_compile, precision):
        images = Images(
            np.zeros((num_images, 32, 32, 3), np.uint8), np.zeros(num_images, np.int32), ("0",), 3
        )
        recipe, level = Recipe(**config.augment.to_dict()), ((100.0,) * 3, (50.0,) * 3)
        batches = training_dataset(images, batch_size, 1, recipe, (32, 32), *level)
        epoch = batches.take(num_images // batch_size)
        return lambda: [batch["images"].shape for batch in epoch]

    def train(jit_compile, precision):
        random = np.random.default_rng(0)
        images = random.random((batch_size, 32, 32, 3), "float32")
        labels = random.integers(0, 10, batch_size, dtype="int32")
        model = VisionTransformer.from_variant(
            **config.model.to_dict(), num_classes=10, dtype=precision
        )
        model.build((None, 32, 32, 3))
        return make_step(model, images, labels, True, jit_compile)

    items = num_images // batch_size * batch_size
    sides = [Side("input", items, read), Side("training", batch_size, train)]
    return Work("cct cifar", "img", sides)


def make_masked_work(sizes: Sizes, mask_ratio: float = 0.75) -> Work:
    """Makes the work of an encoder, forward and back, on visible patches alone, and on all.

    The class token is read too.
    """
    num_patches = (sizes.image_size // sizes.patch_size) ** 2
    lengths = {"visible": visible_count(num_patches, mask_ratio), "all": num_patches}

    def encode(length, jit_compile, precision):
        encoder = transformer(sizes, precision).encoder
        shape = (sizes.batch_size, 1 + length, sizes.hidden_dim)
        sequence = tf.constant(np.random.default_rng(0).standard_normal(shape, "float32"))

        @tf.function(jit_compile=jit_compile)
        def step(x):
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(tf.sin(tf.cast(encoder(x, training=True), tf.float32)))
            return tape.gradient(total, [v.value for v in encoder.trainable_variables])

        return lambda: step(sequence)[0].numpy()

    sides = [
        Side(name, sizes.batch_size, functools.partial(encode, length))
        for name, length in lengths.items()
    ]
    return Work("mae encoder", "img", sides)


CIFAR = Sizes(32, 4, 9, 192, 3, 384, 10, 64)
TI224 = Sizes(224, 16, 12, 192, 3, 768, 1000, 16)
MAE = Sizes(32, 4, 6, 256, 4, 512, 10, 256)  # of the config `cifar10_mae`
WORKS = {
    "cifar_forward": make_work("vit cifar forward", CIFAR, is_training=False),
    "cifar_train": make_work("vit cifar train", CIFAR, is_training=True),
    "ti224_forward": make_work("vit ti224 forward", TI224, is_training=False),
    "ti224_train": make_work("vit ti224 train", TI224, is_training=True),
    "cifar_input": make_input_work(),
    "mae_encoder": make_masked_work(MAE),
}
