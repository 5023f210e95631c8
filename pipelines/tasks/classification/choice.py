"""What the config `my_images` leaves to the pictures: where they lie, and what suits them.

The value `"auto"` of a key is replaced by what a look at the folder and at the headers of some
pictures says. Other values stay.
"""

import math
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from pipelines.data.sources import expanded, required
from pipelines.images import pretrained
from pipelines.images.files import size_and_mode
from pipelines.images.layout import SHARE, find_layout
from pipelines.images.listing import (
    Listing,
    class_folders,
    list_folder,
    list_table,
    require_known,
    wanted_classes,
)
from pipelines.images.models import MODELS, SMALL_SIDE, image_size
from pipelines.images.splits import SPLITS, path_and_part, shares_of
from pipelines.runs.choice import AUTO, Choice, has_auto
from pipelines.tasks.classification.config import check_numbers

SAMPLE = 200  # pictures whose headers are read
GRAY = ("1", "L", "LA", "I", "I;16")
SMALL = {
    "model.image_size": 32,
    "serve.crop": 1.0,
    "augment.padding": 4,
    "augment.min_area": 1.0,
}
PHOTOGRAPHS = {
    "model.image_size": 224,
    "serve.crop": 0.875,
    "augment.padding": 0,
    "augment.min_area": 0.25,
}
# By the size of the model: how many images a run sees, which takes two cores about half an hour,
# and at most how often each; the largest batch and the learning rate for it.
RUNS = {32: (2_000_000, 200, 128, 0.002), 224: (100_000, 100, 64, 0.001)}
LEAST_EPOCHS = 10
SLOW_AVERAGE = 3000  # steps from which on the moving average looks back a thousand steps
OF_DATA = ("data.format", "data.train", "data.validation", "data.test", "data.channels")
OF_TRAINING = ("train.epochs", "train.batch_size", "train.learning_rate", "train.ema")
CHOSEN = {*OF_DATA, *OF_TRAINING, *SMALL, "model.variant", "augment.flip"}


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Replaces the values `"auto"` by what the pictures ask for, and prints what it chose.

    Args:
        config: the config, which is changed.

    Returns:
        The same config.

    Raises:
        ValueError: when there are no pictures where `data.folder` says, or a value is no number.
    """
    if config.start.weights:
        pretrained.adopt(config)
    if not has_auto(config, CHOSEN):
        return config
    check_numbers(config)
    choice = Choice(config)
    choice.take(_layout(config))
    listing, count = _training_pictures(config)
    side, is_gray = _look(listing)
    choice.take({"data.channels": 1 if is_gray else 3, "augment.flip": 0.0 if is_gray else 0.5})
    is_small = side <= SMALL_SIDE
    choice.take(SMALL if is_small else PHOTOGRAPHS)
    family = MODELS.of(config)
    choice.take({"model.variant": family.small if is_small else family.large})
    choice.take(_training(config, count))
    choice.tell(
        f"{len(listing.paths)} pictures of {len(listing.class_names)} classes, whose shorter side "
        f"is {side:.0f} pixels"
    )
    return config


def _layout(config) -> dict[str, Any]:
    layout = dict.fromkeys(SPLITS[1:], SHARE)
    if config.data.format == AUTO:
        layout = find_layout(expanded(required(config.data, "folder")))
    if config.data.get("held_out"):  # Which says how much, in place of the usual share.
        layout |= {split: "" for split in SPLITS[1:] if layout[split] == SHARE}
    return {f"data.{key}": value for key, value in layout.items()}


def _training_pictures(config) -> tuple[Listing, int]:
    """Lists the pictures of the training split, and counts those that are left to train on."""
    data = config.data
    path, (first, last) = path_and_part(data, "train")
    if data.format == "csv":
        listing = list_table(path, is_multi=data.labels == "multi")
    else:
        wanted, known = wanted_classes(data), class_folders(path)
        require_known(wanted, known)
        listing = list_folder(path, wanted or known)
    if not listing.paths:
        raise ValueError(f"Expected pictures in {path}, received none.")
    count = len(listing.paths) * (last - first) / 100
    share = 1 - sum(shares_of(data, round(count)).values()) / 100
    return listing, max(round(count * share), 1)


def _look(listing: Listing) -> tuple[float, bool]:
    """Returns the median of the shorter sides of some pictures, and whether all are gray."""
    step = -(-len(listing.paths) // SAMPLE)
    found = [size_and_mode(Path(listing.folder, path)) for path in listing.paths[::step]]
    known = [pair for pair in found if pair]  # The others are named when all are read.
    if not known:
        return math.inf, False
    sides = [min(size) for size, _ in known]
    return float(np.median(sides)), all(mode in GRAY for _, mode in known)


def _training(config, count: int) -> dict[str, Any]:
    """Chooses how long and in which steps to train on a number of pictures."""
    size = min(image_size(config))
    views, most_epochs, largest, rate = RUNS[32 if size <= SMALL_SIDE else 224]
    batch_size = config.train.batch_size
    if batch_size == AUTO:
        batch_size = min(2 ** max(int(math.log2(count / 8)), 0), largest) if count >= 8 else 1
    epochs = min(max(views / count, LEAST_EPOCHS), most_epochs)
    given = epochs if config.train.epochs in (AUTO, None) else config.train.epochs
    steps = config.train.steps or given * count / batch_size
    return {
        "train.epochs": round(epochs),
        "train.batch_size": batch_size,
        "train.learning_rate": float(f"{rate * math.sqrt(batch_size / largest):.2g}"),
        "train.ema": 0.999 if steps >= SLOW_AVERAGE else 0.99,
    }
