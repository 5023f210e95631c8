"""Images as an exported module sees them: from files, or from a split of the data.

Letters: `n` images, `h` height, `w` width, `c` channels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipelines.error_sentence import sentence
from pipelines.images.batches import evaluation_dataset
from pipelines.images.files import read_image
from pipelines.images.labelled import read_images
from pipelines.images.module import ImageModule

BATCH = 32


def read_files(
    module: ImageModule, paths: Sequence[str], report: Callable[[str], None]
) -> tuple[np.ndarray, list[str]]:
    """Reads image files.

    Args:
        module: what decodes and crops them.
        paths: the files.
        report: takes a sentence on each that cannot be used, and the others go on.

    Returns:
        Tuple of uint8 images `(n, h, w, c)` and their names.
    """
    pixels = [np.zeros((0, *module.image_size, module.channels), np.uint8)]
    names = []
    for path in paths:
        try:
            pixels.append(module.read(tf.constant([read_image(path)])).numpy())
            names.append(path)
        except ValueError as error:
            report(str(error))
        except tf.errors.InvalidArgumentError as error:
            report(f"{path} cannot be used: {sentence(error)}")
    return np.concatenate(pixels), names


def read_split(
    module: ImageModule, data: Any, split: str, count: int
) -> tuple[np.ndarray, list[str]]:
    """Reads images of a split, evenly spaced in its order.

    Args:
        module: whose size and crop they get.
        data: `config.data`, as `labelled.read_images` takes it.
        split: `"train"`, `"validation"` or `"test"`.
        count: int. How many; all, where there are fewer.

    Returns:
        Tuple of uint8 images `(n, h, w, c)` and their names, or numbers in the split.

    Raises:
        ValueError: when there is no such split, or its images have other channels.
    """
    images = read_images(data, split)
    if images.channels != module.channels:
        raise ValueError(
            f"Expected images of {module.channels} channels, as those of the run have, in "
            f"split={split!r}, received {images.channels}."
        )
    kept = evenly_spaced(len(images.labels), count)
    as_they_are = [0.0] * module.channels, [1.0] * module.channels
    size = min(BATCH, len(kept)), module.image_size
    batches = evaluation_dataset(
        images.rows(kept),
        *size,
        *as_they_are,
        module.crop,
        interpolation=module.interpolation,
    )
    pixels = np.concatenate([batch["images"].numpy() for batch in batches])
    return pixels[: len(kept)].astype(np.uint8), [images.name(index) for index in kept]


def inputs(module: ImageModule, config: Any, split: str, count: int) -> list[dict[str, np.ndarray]]:
    """Reads batches of images of a split, for functions of other runtimes; see `Task.inputs`."""
    pixels, _ = read_split(module, config.data, split, count)
    return [{"image": pixels[start : start + BATCH]} for start in range(0, len(pixels), BATCH)]


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Chooses numbers from 0 on, the first and the last included.

    Args:
        total: int. The numbers to choose from.
        count: int. How many; all, where there are fewer.

    Example:

    >>> evenly_spaced(9, 3).tolist()
    [0, 4, 8]
    """
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


def batches(module: ImageModule, pixels: np.ndarray, what: str) -> Iterator[tf.Tensor]:
    """Yields uint8 images `(n, h, w, c)` in normalised batches, with a bar on a terminal."""
    starts = range(0, len(pixels), BATCH)
    for start in tqdm(starts, what, disable=None, leave=False, unit="batch"):
        yield module.normalize(pixels[start : start + BATCH])
