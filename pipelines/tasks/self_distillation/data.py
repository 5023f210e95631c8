"""The images of a run of self-distillation, and the views made of them."""

import math
from collections.abc import Iterable
from functools import partial

import ml_collections
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure  # Unlike pyplot it opens no window system.

from kerasformer.explain.pictures import save_figure
from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images import run_images
from pipelines.images.dataset import Images
from pipelines.images.description import read_description, require_same_images
from pipelines.images.labelled import read_images
from pipelines.images.models import image_size
from pipelines.images.views import read_multi_crop, views_for_training, views_for_validation
from pipelines.runs.files import write_atomically
from pipelines.training.task import Data

SHOWN_IMAGES = 6  # rows of the picture of a dry run
CELL = 1.3  # inches


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE_BATCH) -> Data:
    """Reads the images, and makes batches of their views.

    Args:
        config: the resolved config.
        workdir: folder of the run; the names of the classes are written there, and the mean and
            deviation of the training images.
        shard: part of each batch that is made here.

    Returns:
        The datasets, of the dicts that `images.views` describes.

    Raises:
        ValueError: when the data is not what `config.data` says, or a batch has
            fewer images than there are replicas.
    """
    run_images.require_batches(config.train.batch_size, shard)
    splits, description = run_images.read_run(config.data, workdir)
    train = splits["train"]
    if train.channels == 4:
        raise ValueError(
            "Expected data.channels=1 or 3, because the changes of colours know no transparency, "
            "received images with 4 channels."
        )
    views = read_multi_crop(config), image_size(config)
    normalization = description["mean"], description["deviation"]
    return Data(
        train=lambda batch: views_for_training(
            train,
            config.train.batch_size,
            config.seed,
            *views,
            *normalization,
            start_batch=batch,
            shard=shard,
        ),
        validation=views_for_validation(
            splits["validation"], config.train.batch_size, *views, *normalization
        ),
        batches_per_epoch=len(train.labels) / config.train.batch_size,
        items="images",
        fingerprint=run_images.fingerprint(splits),
        counts=run_images.counts(splits),
    )


def read_split(config, description: dict, split: str) -> Images:
    """Reads the images of a split, of the classes and channels that the run knows."""
    images = read_images(config.data, split)
    require_same_images(images, description, split)
    return images


def leaks(config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> str:
    """Counts the images of the test set of `own` that are among the training images of `config`."""
    return run_images.find_leaks(config.data, own.data)


def show_batch(
    batches: tf.data.Dataset, config: ml_collections.ConfigDict, workdir: str, picture: str
) -> str:
    """Draws the views of the first images, as the model sees them, an image a row."""
    description, batch = read_description(workdir), next(iter(batches))
    rows = []
    for index in range(min(SHOWN_IMAGES, config.train.batch_size)):
        views = [*batch["global_views"][index], *batch.get("local_views", {index: ()})[index]]
        levels = (
            np.asarray(view) * description["deviation"] + description["mean"] for view in views
        )
        rows.append([np.clip(np.round(x), 0, 255).astype(np.uint8) for x in levels])
    write_atomically(picture, partial(save_figure, _draw(rows), format="png", dpi=120))
    return f"The views of the first {len(rows)} images, one a row, are in {picture}."


def _draw(rows: Iterable[list[np.ndarray]]) -> Figure:
    """Draws rows of views; the global ones come first, and the local ones have their size."""
    rows = list(rows)
    largest = max(rows[0][0].shape[:2])
    sizes = [max(view.shape[1] / largest, 0.3) for view in rows[0]]
    figure = Figure(figsize=(CELL * math.fsum(sizes), CELL * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(sizes), squeeze=False, width_ratios=sizes)
    for axes, view in zip(grid.ravel(), (view for row in rows for view in row), strict=True):
        axes.imshow(view, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
    for column, axes in enumerate(grid[0]):
        axes.set_title("global" if column < 2 else "local", fontsize=7, pad=2)
    return figure
