"""The images of a classification run, and the batches made of them."""

import contextlib
import io

import ml_collections
import tensorflow as tf

from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images.augmentation import read_recipe
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.dataset import Images, count_leaks
from pipelines.images.description import describe, read_description, require_same_images
from pipelines.images.labelled import read_images, read_splits
from pipelines.images.models import image_size
from pipelines.images.preview import preview as draw_preview
from pipelines.images.splits import is_cut
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
    if config.train.batch_size < shard.num_replicas:
        raise ValueError(
            f"Expected train.batch_size to be at least the {shard.num_replicas} replicas, "
            f"received train.batch_size={config.train.batch_size}."
        )
    # The test images are read too, because what is wrong with them had better be known now.
    data = config.data
    has_test = data.format == "digits" or data.get("test") or is_cut(data, "test")
    splits = read_splits(data, ("train", "validation", *["test"] * bool(has_test)))
    images, validation = splits["train"], splits["validation"]
    description = describe(images, workdir, config.start.workdir)
    for split, of_split in splits.items():
        require_same_images(of_split, description, split)
    counts = f"{len(images.labels)} to train, {len(validation.labels)} to validate"
    print(f"Images: {counts}, {len(images.class_names)} classes", flush=True)
    _print_leaks(splits)
    weights = class_weights(config, images.class_counts())
    if images.channels == 4 and config.augment.layers:
        raise ValueError(
            "Expected augment.layers=0 with images of 4 channels, because RandAugment knows no "
            f"transparency, received augment.layers={config.augment.layers}."
        )
    size, normalization = image_size(config), (description["mean"], description["deviation"])
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
            f"{'training' if split == 'train' else split} images": len(of_split.labels)
            for split, of_split in splits.items()
        },
    )


def _print_leaks(splits):
    """Prints how many images of validation and test are in training too."""
    for split, images in splits.items():
        found = split != "train" and _describe_leaks(split, splits["train"], images)
        if found:
            print(found, flush=True)


def _describe_leaks(split, train, images):
    count, name = count_leaks(train, images)
    if not count:
        return ""
    return (
        f"Leak: {count} of {len(images.labels)} images to "
        f"{'validate' if split == 'validation' else split} are in the training images too, "
        f"the first of them {name}: scores will be too good."
    )


def leaks(config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> str:
    """Counts the images of the test set of `own` that are among the training images of `config`."""
    # What there is to say of either is said when one trains or evaluates.
    with contextlib.redirect_stdout(io.StringIO()):
        train, test = read_images(config.data, "train"), read_images(own.data, "test")
    return _describe_leaks("test", train, test)


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
