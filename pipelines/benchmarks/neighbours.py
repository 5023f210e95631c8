"""How many images of CIFAR-10 the nearest neighbours name right: of pixels, and of exported models.

An exported model is one with the signature `embed_pixels`, whatever its task was.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.images.batches import evaluation_dataset
from pipelines.images.dataset import Images
from pipelines.images.labelled import read_images
from pipelines.images.neighbours import features_of, find_neighbours, votes

COUNT, TEMPERATURE = 20, 0.07  # of the neighbours that vote, and of their votes
BATCH_SIZE = 256


def measured(data: Any, folders: Sequence[str]) -> Iterator[dict]:
    """Scores pixels, and the features of exported models.

    Args:
        data: ConfigDict, the `data` of a config of images.
        folders: paths of SavedModels.

    Yields:
        Dict of `work`, `peer`, `value` and `unit`.

    Raises:
        ValueError: for a folder without a model that describes images.
    """
    functions = {folder: _embedding(folder) for folder in folders}  # Before the images are read.
    train, test = (read_images(data, split) for split in ("train", "test"))
    features = {"pixels": _pixels} | {f: _features(function) for f, function in functions.items()}
    for peer, describe in features.items():
        found = find_neighbours(describe(test), describe(train), COUNT)
        shares = votes(found, train.labels, len(train.class_names), TEMPERATURE)
        top1 = float(np.mean(shares.argmax(axis=1) == test.labels))
        yield {"work": "neighbours", "peer": peer, "value": top1, "unit": "share of right"}


def _embedding(folder: str) -> Any:
    """Loads the signature of a SavedModel that describes images."""
    try:
        model = tf.saved_model.load(folder) if Path(folder, "saved_model.pb").is_file() else None
        function = model and model.signatures["embed_pixels"]
    except KeyError:
        function = None
    if function is None:
        raise ValueError(
            "Expected --export to name SavedModels with the signature embed_pixels, such as "
            f"runs/x/export/1, received {folder}."
        )
    function.owner = model  # Its variables would be gone with it.
    return function


def _pixels(images: Images) -> np.ndarray:
    """Describes images by their levels, whose mean over all images says nothing of one."""
    levels = images.pixels.reshape(len(images.pixels), -1).astype(np.float32)
    return levels - 127.5


def _features(function: Any) -> Callable[[Images], np.ndarray]:
    """Returns a function from images to their features."""
    _, height, width, channels = function.structured_input_signature[1]["pixels"].shape

    def describe(images):
        normalization = (0.0,) * channels, (1.0,) * channels
        batches = evaluation_dataset(images, BATCH_SIZE, (height, width), *normalization)
        return features_of(embed, batches, len(images.labels))

    def embed(levels):
        return function(pixels=tf.cast(levels, tf.uint8))["features"]

    return describe
