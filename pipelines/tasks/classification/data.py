"""The images of a classification run, and the batches made of them."""

import ml_collections
import tensorflow as tf

from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images import run_images
from pipelines.images.augmentation import check_channels, read_recipe
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.description import interpolation_of, read_description
from pipelines.images.models import image_size
from pipelines.images.preview import preview as draw_preview
from pipelines.tasks.classification.config import class_weights
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
    run_images.require_batches(config.train.batch_size, shard)
    splits, description = run_images.read_run(config.data, workdir, config.start.workdir)
    images = splits["train"]
    weights = class_weights(config, images.class_counts())
    check_channels(read_recipe(config), images.channels)
    size, normalization = image_size(config), (description["mean"], description["deviation"])
    interpolation = interpolation_of(description)
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
            is_balanced=config.data.sampling == "balanced",
            class_weights=weights,
            interpolation=interpolation,
        ),
        validation=evaluation_dataset(
            splits["validation"],
            config.serve.batch_size,
            size,
            *normalization,
            config.serve.crop,
            interpolation=interpolation,
        ),
        batches_per_epoch=len(images.labels) / config.train.batch_size,
        items="images",
        fingerprint=run_images.fingerprint(splits),
        counts=run_images.counts(splits),
    )


def show_batch(
    batches: tf.data.Dataset, config: ml_collections.ConfigDict, workdir: str, picture: str
) -> str:
    """Draws the first images of the first training batches, as the model sees them."""
    description = read_description(workdir)
    # One batch a row, because the images of a batch are mixed alike.
    shown = batches.take(SHOWN_BATCHES).map(
        lambda batch: {k: x[:SHOWN_IMAGES] for k, x in batch.items()}
    )
    turned = draw_preview(
        shown,
        description["class_names"],
        description["mean"],
        description["deviation"],
        picture,
        SHOWN_BATCHES,
        min(SHOWN_IMAGES, config.train.batch_size),
    )
    line = "column" if turned else "row"
    return f"The first images of the first {SHOWN_BATCHES} batches, one a {line}, are in {picture}."
