"""A model of images as those who look into it need it: what it sees, and what it answers.

Letters: `n` images, `h` height, `w` width, `c` channels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerasformer.layers.sizes import pair
from pipelines.error_sentence import sentence
from pipelines.images.augmentation import normalize, resize_and_crop
from pipelines.images.batches import evaluation_dataset
from pipelines.images.files import decode, read_image
from pipelines.images.labelled import read_images

BATCH = 32


class Looker:
    """Gives a model of images what it sees.

    Args:
        module: what `serving` of the run's task returned, of which `model`, `normalization` and
            `description` are read. The model is one of those that classify images, with a head or
            without; the description has `channels` and, with a head, `class_names`.
        config: the resolved config of the run, of which `model.image_size` and `serve.crop` count.

    Attributes:
        model: the model.
        class_names: list of str; none of a model without a head.
        size: pair of int, height and width of its images.
        channels: int.
        has_attention: bool. Whether all its blocks have attention scores.

    Raises:
        ValueError: when the run's model does not see images.
    """

    def __init__(self, module: Any, config: Any):
        if not hasattr(module, "normalization"):
            raise ValueError(
                f"Expected a run whose model sees images, received one of {config.task}."
            )
        self.model: keras.Model = module.model
        self.channels: int = module.description["channels"]
        self._is_multi = module.description.get("labels") == "multi"
        classes = getattr(self.model, "num_classes", None)
        self.class_names = list(module.description["class_names"]) if classes else []
        self.size = pair("model.image_size", config.model.image_size)
        self.crop: float = config.serve.crop
        self.has_attention = getattr(self.model, "has_attention_scores", False)
        self._normalization = module.normalization

    def batches(self, pixels: np.ndarray, what: str) -> Iterator[tf.Tensor]:
        """Yields normalised batches of images, with a bar on a terminal."""
        starts = range(0, len(pixels), BATCH)
        for start in tqdm(starts, what, disable=None, leave=False, unit="batch"):
            yield self.normalized(pixels[start : start + BATCH])

    def normalized(self, pixels: np.ndarray) -> tf.Tensor:
        """Turns uint8 images `(n, h, w, c)` into what the model was trained on."""
        return normalize(tf.constant(pixels), *self._normalization)

    def read_files(
        self, paths: Sequence[str], report: Callable[[str], None]
    ) -> tuple[np.ndarray, list[str]]:
        """Reads image files as the model sees them.

        Args:
            paths: the files.
            report: takes a sentence on each that cannot be used.

        Returns:
            Tuple of uint8 images `(n, h, w, c)` and their names.
        """
        pixels, names = [np.zeros((0, *self.size, self.channels), np.uint8)], []
        for path in paths:
            try:
                image = decode(tf.constant(read_image(path)), self.channels)
            except ValueError as error:
                report(str(error))
            except tf.errors.InvalidArgumentError as error:
                report(f"{path} cannot be used: {sentence(error)}")
            else:
                pixels.append(resize_and_crop(image, self.size, self.crop).numpy()[None])
                names.append(path)
        return np.concatenate(pixels), names

    def read_split(self, data: Any, split: str, count: int) -> tuple[np.ndarray, list[str]]:
        """Reads images of a split, evenly spaced in its order, and returns them as `read_files`."""
        images = read_images(data, split)
        total = len(images.pixels)
        images = images.rows(np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)))
        as_they_are = [0.0] * self.channels, [1.0] * self.channels
        batches = evaluation_dataset(images, BATCH, self.size, *as_they_are, self.crop)
        pixels = np.concatenate([batch["images"].numpy() for batch in batches])
        total = len(images.pixels)
        return pixels[:total].astype(np.uint8), [images.name(index) for index in range(total)]

    def answer(self, image: np.ndarray) -> tuple[int, float]:
        """Returns the number of the most probable class of an image, and its probability."""
        logits = self.model(self.normalized(image[None]), training=False)
        shares = (tf.nn.sigmoid if self._is_multi else tf.nn.softmax)(logits)[0].numpy()
        return int(shares.argmax()), float(shares.max())
