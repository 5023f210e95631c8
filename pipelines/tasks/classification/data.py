"""The images of a classification run, and the batches made of them."""

import ml_collections
import tensorflow as tf

from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.description import describe, read_description, require_same_images
from pipelines.images.labelled import Images, read_images
from pipelines.images.preview import preview as draw_preview
from pipelines.tasks.classification.config import image_size, recipe
from pipelines.training.task import Data

SHOWN_BATCHES = SHOWN_IMAGES = 8  # rows and columns of the picture of a dry run


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE_BATCH) -> Data:
    """Reads the images, and makes batches of them.

    Args:
        config: the resolved config.
        workdir: folder of the run; the names of the classes are written there, and the mean and
            deviation of the training images.
        shard: part of each batch that is made here.

    Returns:
        The datasets, of the dicts that `images.batches` describes.

    Raises:
        ValueError: when the data is not what `config.data` says, or a batch has
            fewer images than there are replicas.
    """
    if config.train.batch_size < shard.num_replicas:
        raise ValueError(
            f"Expected train.batch_size to be at least the {shard.num_replicas} replicas, "
            f"received train.batch_size={config.train.batch_size}."
        )
    images = read_images(config.data, "train")
    description = describe(images, workdir, config.start.workdir)
    require_same_images(images, description, "train")
    validation = read_split(config, description, "validation")
    counts = f"{len(images.labels)} to train, {len(validation.labels)} to validate"
    print(f"Images: {counts}, {len(images.class_names)} classes", flush=True)
    size, normalization = image_size(config), (description["mean"], description["deviation"])
    return Data(
        train=lambda batch: training_dataset(
            images,
            config.train.batch_size,
            config.seed,
            recipe(config),
            size,
            *normalization,
            start_batch=batch,
            shard=shard,
        ),
        validation=evaluation_dataset(
            validation, config.serve.batch_size, size, *normalization, config.serve.crop
        ),
        batches_per_epoch=len(images.labels) / config.train.batch_size,
        items="images",
        fingerprint={
            "set of training images": images.fingerprint(),
            "set of validation images": validation.fingerprint(),
        },
        counts={
            "training images": len(images.labels),
            "validation images": len(validation.labels),
        },
    )


def read_split(config, description: dict, split: str) -> Images:
    """Reads the images of a split, of the classes and channels that the model knows."""
    images = read_images(config.data, split)
    require_same_images(images, description, split)
    return images


def show_batch(
    batches: tf.data.Dataset, config: ml_collections.ConfigDict, workdir: str, picture: str
) -> str:
    """Draws the first images of the first training batches, as the model sees them."""
    description = read_description(workdir)
    # One batch a row, because the images of a batch are mixed alike.
    shown = batches.take(SHOWN_BATCHES).map(
        lambda batch: {k: x[:SHOWN_IMAGES] for k, x in batch.items()}
    )
    draw_preview(
        shown,
        description["class_names"],
        description["mean"],
        description["deviation"],
        picture,
        SHOWN_BATCHES,
        min(SHOWN_IMAGES, config.train.batch_size),
    )
    return f"The first images of the first {SHOWN_BATCHES} batches, one a row, are in {picture}."
