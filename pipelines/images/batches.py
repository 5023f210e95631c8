"""Batches of images: for training, in random order and augmented; for evaluation, as they are.

The seed and the epoch alone decide order and augmentation, so that training can resume anywhere.

Letters: `B` batch, `h` height, `w` width, `c` channels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images.augmentation import (
    BICUBIC,
    Recipe,
    crop_and_flip,
    erase,
    mix,
    normalize,
    random_resized_crop,
    resize_and_crop,
)
from pipelines.images.dataset import Images
from pipelines.images.files import decode
from pipelines.images.keyed_random import integers, make_keys, uniform
from pipelines.images.rand_augment import rand_augment

ORDER, IMAGE, BATCH, DRAW = range(4)  # what a key is used for
NO_LABEL = -1
OF_TASK = 1000  # the stream of the random numbers that a task asks for; augmentation has others


def training_dataset(
    images: Images,
    batch_size: int,
    seed: int,
    recipe: Recipe,
    image_size: tuple[int, int],
    mean: Sequence[float],
    deviation: Sequence[float],
    *,
    start_batch: int = 0,
    shard: Shard = WHOLE_BATCH,
    is_balanced: bool = False,
    class_weights: Sequence[float] | None = None,
    num_random: int = 0,
    interpolation: str = BICUBIC,
) -> tf.data.Dataset:
    """Makes the endless dataset of training batches, from any one of them on.

    An epoch takes every image once. With repeats it has as many positions as there are images, and
    copies of fewer images fill them. A batch may hold the end of one epoch and the start of the
    next. The seed and the number of a batch decide what is in it. The seed, the epoch, the index of
    an image and, with repeats, the number of the copy decide how it is augmented. Where classes are
    balanced, the number of the draw takes the place of the index, so that an image that an epoch
    draws several times looks different each time.

    Args:
        images: `Images`.
        batch_size: int, `B`.
        seed: int, at least 0.
        recipe: `Recipe`.
        image_size: (height, width) of the batches.
        mean, deviation: a float for each channel, as `statistics` gives them.
        start_batch: int. The first batch. The batches are those that a dataset from the beginning
            would give from there on, without making the ones before.
        shard: `Shard`. The part of each batch that is made.
        is_balanced: bool. Whether each class is drawn equally often: an epoch then takes images of
            a rare class several times, and of a common one only some.
        class_weights: a float for each class, with which its share is multiplied.
        num_random: int. Random numbers between 0 and 1 that each image gets for what its task draws
            besides, such as a mask.
        interpolation: str. How images are resized, as in `augmentation.resize`.

    Returns:
        Dataset of dicts of tensors: `images`, float32 `(B, h, w, c)`, normalised; `labels`, int32
        `(B,)`; `other_labels`, int32 `(B,)`; and `share`, float32 `(B,)`: an image belongs to
        `labels` with this share and to `other_labels` with the rest, `other_share` where there are
        class weights. Without mixing, the share is 1. Labels of several classes are uint8
        `(B, classes)`. With `num_random` also `random`, float32 `(B, num_random)`, which what
        decides the augmentation of an image decides too.

    Raises:
        ValueError: if there are fewer images than `batch_size`.
    """
    load = _loader(images, image_size, recipe.min_area, interpolation=interpolation)
    rows = rows_of_shard(batch_size, shard)
    draw = _balanced_drawer(images.labels) if is_balanced else None

    def make_batch(number, order):
        indices, draws, copies, epochs = (tf.gather(part, rows) for part in order)
        keys = make_keys(seed, IMAGE, epochs, draws, copies)
        x, labels = load(indices, keys)
        x = _augment(x, keys, recipe, mean, deviation)
        other_labels, share = labels, tf.ones((len(rows),))
        if recipe.mixes:
            key = make_keys(seed, BATCH, number)
            x, other_labels, share = mix(x, labels, key, recipe)
        batch = {"images": x, "labels": labels, "other_labels": other_labels, "share": share}
        if class_weights is not None:
            weights = tf.constant(class_weights, tf.float32)
            batch["share"] = share * tf.gather(weights, labels)
            batch["other_share"] = (1 - share) * tf.gather(weights, other_labels)
        return batch | ({"random": uniform(keys, OF_TASK, num_random)} if num_random else {})

    count = len(images.labels)
    orders = shuffled_batches(count, batch_size, seed, start_batch, recipe.repeats, draw)
    batches = orders.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def shuffled_batches(
    count: int,
    batch_size: int,
    seed: int,
    start_batch: int = 0,
    repeats: int = 1,
    draw: Callable | None = None,
) -> tf.data.Dataset:
    """Makes the endless dataset of what is in each training batch, in the order of `seed`.

    Args:
        count: int. Number of images.
        batch_size, seed, start_batch: as in `training_dataset`.
        repeats: int. Copies of each image that follow each other.
        draw: function from positions in the order and keys to indices; by default each position is
            an index.

    Returns:
        Dataset of the number of a batch and a tuple of int tensors `(B,)`: the indices of the
        images, their draws, the numbers of the copies, and the epochs.

    Raises:
        ValueError: if there are fewer images than `batch_size`.
    """
    if count < batch_size:
        raise ValueError(f"Expected at least batch_size={batch_size} images, received {count}.")
    start_epoch, start_position = divmod(start_batch * batch_size, count)

    def epoch_order(epoch):
        random = tf.bitcast(make_keys(seed, ORDER, epoch, tf.range(count)), tf.int64)
        positions = tf.range(count)  # The copies of an image come one after the other.
        draws = tf.gather(tf.argsort(random), positions // repeats)
        indices = draws if draw is None else draw(draws, make_keys(seed, DRAW, epoch, draws))
        first = tf.where(epoch == start_epoch, start_position, 0)
        copies, epochs = positions % repeats, tf.fill((count,), epoch)
        return tuple(part[first:] for part in (indices, draws, copies, epochs))

    epochs = tf.data.Dataset.range(start_epoch, np.iinfo(np.int64).max)
    batches = epochs.map(epoch_order).rebatch(batch_size, drop_remainder=True)
    return batches.enumerate(start_batch)


def evaluation_dataset(
    images: Images,
    batch_size: int,
    image_size: tuple[int, int],
    mean: Sequence[float],
    deviation: Sequence[float],
    crop: float = 1.0,
    num_random: int = 0,
    interpolation: str = BICUBIC,
) -> tf.data.Dataset:
    """Makes the dataset of all images once, in order, resized to the given size.

    Args:
        images: `Images`.
        batch_size: int, `B`.
        image_size, mean, deviation: as in `training_dataset`.
        crop: float. Share of the shorter side that is kept, as in `resize_and_crop`.
        num_random: int. As in `training_dataset`; the index of an image decides the numbers.
        interpolation: str. As in `training_dataset`.

    Returns:
        Dataset of dicts of `images`, float32 `(B, h, w, c)`, and `labels`, int32 `(B,)`. The last
        batch is filled up with images of zeros whose label is -1. Where images have several labels,
        uint8 `(B, classes)`, `real`, bool `(B,)`, tells these images apart. With `num_random` also
        `random`, float32 `(B, num_random)`.
    """
    load = _loader(images, image_size, crop=crop, interpolation=interpolation)

    def make_batch(indices):
        real = indices >= 0
        keys = make_keys(indices)
        x, labels = load(tf.maximum(indices, 0), keys)
        x = normalize(x, mean, deviation) * tf.cast(real, tf.float32)[:, None, None, None]
        batch = {"images": x}
        if num_random:
            batch["random"] = uniform(keys, OF_TASK, num_random)
        if images.are_multi:
            return batch | {"labels": labels, "real": real}
        return batch | {"labels": tf.where(real, labels, NO_LABEL)}

    batches = indices_in_batches(len(images.labels), batch_size)
    return batches.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def indices_in_batches(count: int, batch_size: int) -> tf.data.Dataset:
    """Makes the dataset of all indices in order, int32 `(B,)`; the last batch is filled with -1."""
    indices = np.full((-(-count // batch_size), batch_size), -1, np.int32)
    indices.flat[:count] = np.arange(count)
    return tf.data.Dataset.from_tensor_slices(indices)


def _balanced_drawer(labels):
    """Makes a function from random numbers and keys to indices, with all classes equally often."""
    counts = np.bincount(labels)
    classes, starts = np.flatnonzero(counts), np.cumsum(counts) - counts
    starts, counts = (tf.constant(x[classes], tf.int32) for x in (starts, counts))
    by_class = tf.constant(np.argsort(labels, kind="stable"), tf.int32)

    def draw(numbers, keys):
        turn = numbers % len(classes)
        position = integers(uniform(keys, DRAW, 1)[:, 0], tf.gather(counts, turn))
        return tf.gather(by_class, tf.gather(starts, turn) + position)

    return draw


def rows_of_shard(batch_size: int, shard: Shard) -> np.ndarray:
    """Lists the rows of a shard, which holds both row `i` and row `B - 1 - i`: they are mixed."""
    rows = np.arange(batch_size)
    return rows[np.minimum(rows, rows[::-1]) % shard.count == shard.index]


def _augment(x, keys, recipe: Recipe, mean, deviation) -> tf.Tensor:
    """Augments the images of a batch, each by its key, and normalises them."""
    if recipe.padding or recipe.flip:
        x = crop_and_flip(x, keys, recipe.padding, recipe.flip)
    if recipe.layers:
        level, fill = (recipe.magnitude, recipe.magnitude_std), [round(value) for value in mean]
        x = rand_augment(x, keys, *level, recipe.layers, fill, recipe.interpolations)
    x = normalize(x, mean, deviation)
    return erase(x, keys, recipe.erase) if recipe.erase else x


def _loader(
    images: Images, image_size, min_area: float = 1.0, crop: float = 1.0, interpolation=BICUBIC
):
    """Makes a function from indices and keys to uint8 images of one size, and labels."""
    pixels, read_one = reader(images)
    labels = on_processor(images.labels)
    signature = tf.TensorSpec((*image_size, images.channels), tf.uint8)

    def load_one(index, key):
        image = read_one(index)
        if min_area < 1:
            return random_resized_crop(
                image, key, image_size, min_area, interpolation=interpolation
            )
        return resize_and_crop(image, image_size, crop, interpolation)

    def load(indices, keys):
        if images.pixels.shape[1:3] == tuple(image_size) and min_area == crop == 1:
            x = tf.gather(pixels, indices)
        else:
            pairs = (indices, keys)
            x = tf.map_fn(lambda pair: load_one(*pair), pairs, fn_output_signature=signature)
        x = tf.ensure_shape(x, (len(indices), *image_size, images.channels))
        return x, tf.gather(labels, indices)

    return load


def reader(images: Images) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Returns the pixels of images, or their files, and a function from an index to an image."""
    pixels = on_processor(images.pixels)
    are_files = images.pixels.dtype.kind == "U"

    def read_one(index):
        image = pixels[index]
        if images.are_decoded:
            return image
        return decode(tf.io.read_file(image) if are_files else image, images.channels)

    return pixels, read_one


def on_processor(array: np.ndarray) -> tf.Tensor:
    """Makes a single copy of an array, to which all graphs refer."""
    with tf.device("CPU"):
        return tf.constant(array)
