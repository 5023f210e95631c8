"""The images of a run of masked images, and the batches made of them."""

from collections.abc import Mapping
from functools import partial

import ml_collections
import numpy as np
import tensorflow as tf

from kerasformer.explain.pictures import save_figure
from kerasformer.layers.embeddings.masking import hidden_patches, visible_count
from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images import run_images
from pipelines.images.augmentation import check_channels, read_recipe
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.dataset import Images
from pipelines.images.description import read_description, require_same_images
from pipelines.images.labelled import read_images
from pipelines.images.models import image_size
from pipelines.runs.files import write_atomically
from pipelines.tasks.masked_images import models
from pipelines.tasks.masked_images.objective import order_of
from pipelines.tasks.masked_images.pictures import draw_sheet, hide, to_levels
from pipelines.training.task import Data

SHOWN_IMAGES = 16


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE_BATCH) -> Data:
    """Reads the images, and makes batches of them.

    Args:
        config: the resolved config.
        workdir: folder of the run; the mean and deviation of the training images are written there.
        shard: part of each batch that is made here.

    Returns:
        The datasets, of the dicts that `images.batches` describes, with a random number for each
        patch.

    Raises:
        ValueError: when the data is not what `config.data` says, or a batch has
            fewer images than there are replicas.
    """
    run_images.require_batches(config.train.batch_size, shard)
    splits, description = run_images.read_run(config.data, workdir)
    size, normalization = image_size(config), (description["mean"], description["deviation"])
    num_random, images = num_patches(config), splits["train"]
    check_channels(read_recipe(config), images.channels)
    return Data(
        train=lambda batch: training_dataset(
            images,
            config.train.batch_size,
            config.seed,
            read_recipe(config),
            size,
            *normalization,
            start_batch=batch,
            shard=shard,
            num_random=num_random,
        ),
        validation=evaluation_batches(splits["validation"], config, description),
        batches_per_epoch=len(images.labels) / config.train.batch_size,
        items="images",
        fingerprint=run_images.fingerprint(splits),
        counts=run_images.counts(splits),
    )


def evaluation_batches(
    images: Images, config: ml_collections.ConfigDict, description: Mapping
) -> tf.data.Dataset:
    """Makes the batches of a split for an evaluation; each image keeps its random numbers."""
    return evaluation_dataset(
        images,
        config.serve.batch_size,
        image_size(config),
        description["mean"],
        description["deviation"],
        config.serve.crop,
        num_random=num_patches(config),
    )


def num_patches(config: ml_collections.ConfigDict) -> int:
    """Counts the patches of an image."""
    rows, columns = models.make(config).encoder.grid_size()
    return rows * columns


def leaks(config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> str:
    """Counts the images of the test set of `own` that are among the training images of `config`."""
    return run_images.find_leaks(config.data, own.data)


def read_split(config, description: dict, split: str) -> Images:
    """Reads the images of a split, of the channels that the model knows."""
    images = read_images(config.data, split)
    require_same_images(images, description, split)
    return images


def show_batch(
    batches: tf.data.Dataset, config: ml_collections.ConfigDict, workdir: str, picture: str
) -> str:
    """Draws the first images of the first training batch, and what the model sees of them."""
    description = read_description(workdir)
    batch = next(iter(batches.map(lambda b: {k: x[:SHOWN_IMAGES] for k, x in b.items()})))
    pixels = to_levels(batch["images"].numpy(), description["mean"], description["deviation"])
    rows, columns = models.make(config).encoder.grid_size()
    count = visible_count(rows * columns, config.mask.ratio)
    mask = np.reshape(hidden_patches(order_of(batch), count), (-1, rows, columns))
    figure = draw_sheet({"image": pixels, "what is seen": hide(pixels, mask)}, ())
    write_atomically(picture, partial(save_figure, figure))
    return f"The first {len(pixels)} images and what the model sees of them are in {picture}."
