"""The images of a classification run, and the batches made of them."""

import ml_collections
import tensorflow as tf

from pipelines.data.shards import WHOLE, Shard
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.description import describe, read_description, require_described
from pipelines.images.labelled import Images, read_images, statistics
from pipelines.images.preview import preview as draw_preview
from pipelines.tasks.classification.config import image_size, recipe
from pipelines.tasks.classification.objective import begin
from pipelines.training.task import Data


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE) -> Data:
    """Reads the images, and makes batches of them.

    Args:
        config: the resolved config.
        workdir: folder of the run; the names of the classes are written there, and the mean and
            deviation of the training images.
        shard: part of each batch that is made here.

    Returns:
        The datasets, of the dicts that `image_batches` describes.

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
    describe(images, workdir, config.start.workdir)
    described = read_description(workdir)
    require_described(images, described, "train")
    validation = read_described(config, described, "validation")
    counts = f"{len(images.labels)} to train, {len(validation.labels)} to validate"
    print(f"Images: {counts}, {len(images.class_names)} classes", flush=True)
    size, normalization = image_size(config), (described["mean"], described["deviation"])
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
        begin=lambda model, is_new: begin(model, config, described, is_new),
    )


def read_described(config, described: dict, split: str) -> Images:
    """Reads the images of a split, of the classes and channels that the model knows."""
    images = read_images(config.data, split)
    require_described(images, described, split)
    return images


def preview(config: ml_collections.ConfigDict, path: str) -> None:
    """Draws augmented training images with their labels to a picture."""
    images, columns = read_images(config.data, "train"), 8
    normalization = statistics(images)
    batches = training_dataset(
        images, columns, config.seed, recipe(config), image_size(config), *normalization
    )
    draw_preview(batches, images.class_names, *normalization, path, columns=columns)


def show_batch(batch: dict, config: ml_collections.ConfigDict, workdir: str, picture: str) -> str:
    """Draws the first images of a training batch, as the model sees them."""
    described = read_description(workdir)
    columns = 8
    rows = min(8, -(-len(batch["labels"]) // columns))
    draw_preview(
        tf.data.Dataset.from_tensors(batch),
        described["class_names"],
        described["mean"],
        described["deviation"],
        picture,
        rows,
        columns,
    )
    return f"The first {min(len(batch['labels']), rows * columns)} images are in {picture}."
