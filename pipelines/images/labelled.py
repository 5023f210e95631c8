"""Labelled images from a folder per class, an .npz file, TFDS or scikit-learn's digits.

`read_images` decodes small datasets once into one array. Of larger ones, or where images differ in
size, it keeps the paths or the encoded bytes, which `pipelines.images.batches` decodes as it reads
them. Images that cannot be used are found here, before the training starts.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.data.sources import below_folder, read_tfds, required
from pipelines.images.files import MAX_PIXELS, SUFFIXES, decode, decode_usable

DIGITS_HINT = 'data.format="digits" needs scikit-learn: `pip install "kerasformer[pipelines]"`.'
SPLITS = ("train", "validation", "test")
# The keys of `config.data` that one format or another reads.
KEYS = {"format", "classes", "on_bad_image", "max_pixels", "folder", "channels", "examine"}
KEYS |= {"name", "data_dir", "download", *SPLITS}
MAX_ENCODED = 16 * 2**30  # bytes of what TFDS holds
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean and deviation of levels


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        pixels: uint8 array `(n, height, width, channels)`; or, where images are decoded as they
            are read, an array `(n,)` of str, the files, or of bytes, the encoded images.
        labels: int32 array `(n,)`.
        class_names: tuple of str, one for each label.
        channels: int, 1 or 3.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    channels: int

    @property
    def are_decoded(self) -> bool:
        """Returns whether `pixels` holds pixels."""
        return self.pixels.ndim == 4

    def fingerprint(self) -> str:
        """Returns a hash of the labels and the pixels, or of the names and sizes of files."""
        digest = hashlib.sha256(repr(self.class_names).encode() + self.labels.tobytes())
        if self.are_decoded:
            digest.update(self.pixels.data)
            return digest.hexdigest()
        for item in self.pixels:
            if isinstance(item, str):
                item = f"{Path(item).name} {Path(item).stat().st_size}".encode()
            digest.update(item)
        return digest.hexdigest()

    def image(self, index: int) -> np.ndarray:
        """Returns one image, uint8 `(height, width, channels)`, and decodes it if necessary."""
        item = self.pixels[index]
        if self.are_decoded:
            return item
        contents = Path(item).read_bytes() if isinstance(item, str) else item
        return decode(contents, self.channels).numpy()


def read_images(data, split: str) -> Images:
    """Reads the labelled images of one split.

    Args:
        data: ConfigDict. Its `format` decides which other keys are read:
            `"digits"`: none, the 1,797 images of 8 x 8 pixels of scikit-learn.
            `"folder"`: `train`, `validation` and `test`, each a folder below `folder` with one
            folder per class; `channels`, 1 or 3; and `examine`: whether every image is decoded
            once in advance, so that a bad one is found (false saves the time for a known folder).
            `"npz"`: `train`, `validation` and `test`, each a file below `folder` with the arrays
            `images`, uint8 `(n, height, width[, channels])`, `labels`, and perhaps `class_names`.
            `"tfds"`: `name` (such as `"cifar10"`), `data_dir`, `download`, and in `train`,
            `validation` and `test` the splits of that dataset, such as `"train[:90%]"`. Data
            prepared in `data_dir` is read offline.
            `"folder"` and `"npz"` take such splits too, and cut each class in this proportion.
            With each, `classes` lists the classes that are kept, in the order of their labels (all
            when it is empty), and `on_bad_image` is what happens when images are empty, corrupt,
            animated, CMYK, of 16 bits, or of more than `max_pixels`: `"stop"` or `"skip"`.
        split: str. `"train"`, `"validation"` or `"test"`.

    Returns:
        The images, in the order of the data.

    Raises:
        ValueError: if the data is missing, empty, or not what `data` says, in one sentence.
    """
    readers = {"digits": _digits, "folder": _folder, "npz": _npz, "tfds": _tfds}
    name = required(data, "format")
    if name not in readers:
        raise ValueError(f"Expected data.format to be one of {tuple(readers)}, received {name!r}.")
    if split not in SPLITS:
        raise ValueError(f"Expected split to be one of {SPLITS}, received split={split!r}.")
    if data.get("on_bad_image", "stop") not in ("stop", "skip"):
        raise ValueError(
            'Expected data.on_bad_image to be "stop" or "skip", '
            f"received data.on_bad_image={data.on_bad_image!r}."
        )
    images = readers[name](data, split)
    classes, labels = len(images.class_names), images.labels
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1} for split={split!r}, received labels from "
            f"{labels.min()} to {labels.max()}."
        )
    images = _chosen(images, data.get("classes", ()))
    if not len(images.labels):
        raise ValueError(
            f"Expected images for split={split!r}, received none from data.format={name!r} "
            f"with data.{split}={data.get(split)!r}."
        )
    return images


def _chosen(images: Images, class_names: Sequence[str]) -> Images:
    """Keeps the images of some classes, and numbers these from 0."""
    if not class_names:
        return images
    unknown = [name for name in class_names if name not in images.class_names]
    if unknown or len(set(class_names)) < len(class_names):
        raise ValueError(
            f"Expected data.classes to be some of {images.class_names}, each once, "
            f"received data.classes={tuple(class_names)}."
        )
    labels = np.full(len(images.class_names), -1, np.int32)
    labels[[images.class_names.index(name) for name in class_names]] = range(len(class_names))
    labels = labels[images.labels]
    kept = labels >= 0
    return images._replace(
        pixels=images.pixels[kept], labels=labels[kept], class_names=tuple(class_names)
    )


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of the levels of each channel, from 0 to 255.

    Returns:
        Tuple of the means and the deviations, a float for each channel; those of ImageNet for
        images that are not decoded.
    """
    if not images.are_decoded:
        mean, deviation = IMAGENET
        return (mean, deviation) if images.channels == 3 else (mean[1:2], deviation[1:2])
    levels, moments = np.arange(256.0), []
    for channel in range(images.channels):
        counts = np.zeros(256)
        for start in range(0, len(images.pixels), 1024):
            part = images.pixels[start : start + 1024, ..., channel]
            counts += np.bincount(part.ravel(), minlength=256)
        mean = np.average(levels, weights=counts)
        moments.append((mean, np.average((levels - mean) ** 2, weights=counts) ** 0.5))
    means, deviations = zip(*moments, strict=True)
    return tuple(map(float, means)), tuple(max(float(value), 1.0) for value in deviations)


def _digits(data, split: str) -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(DIGITS_HINT) from error
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    # In each class seven images to train, one to validate and two to test take turns.
    turns = np.zeros(len(labels), int)
    for label in range(10):
        turns[labels == label] = np.arange(np.sum(labels == label)) % 10
    chosen = {"train": turns < 7, "validation": turns == 7, "test": turns > 7}[split]
    return Images(pixels[chosen], labels[chosen], tuple("0123456789"), 1)


def _folder(data, split: str) -> Images:
    class_names = _class_folders(_part(data, "train")[0])
    folder, part = _part(data, split)
    unknown = sorted(set(_class_folders(folder)) - set(class_names))
    if unknown:
        raise ValueError(
            f"Expected {folder} to have the classes of data.train={data.train!r}, "
            f"received {unknown[0]!r} besides."
        )
    files: list[str] = []
    numbers: list[int] = []
    for label, name in enumerate(class_names):
        entries = (path for path in Path(folder, name).rglob("*") if path.is_file())
        of_class = sorted(str(path) for path in entries if not path.name.startswith("."))
        files += of_class[_share(len(of_class), part)]
        numbers += [label] * (len(files) - len(numbers))
    channels = data.get("channels", 3)
    if channels not in (1, 3):
        raise ValueError(f"Expected data.channels to be 1 or 3, received data.channels={channels}.")
    paths, labels = np.array(files, str), np.array(numbers, np.int32)
    if not data.get("examine", True):
        return Images(paths, labels, class_names, channels)

    pixels, kept = _decoded(paths, paths, _read_file, channels, data)
    return Images(pixels, labels[kept], class_names, channels)


def _read_file(path: str) -> bytes:
    if not path.lower().endswith(SUFFIXES):
        raise OSError(0, f"not one of {', '.join(SUFFIXES)}")
    return Path(path).read_bytes()


def _npz(data, split: str) -> Images:
    path, part = _part(data, split)
    arrays = _load(path)
    pixels, labels = arrays["images"], arrays["labels"]
    if (
        pixels.dtype != np.uint8
        or pixels.ndim not in (3, 4)
        or pixels.shape[3:] not in ((), (1,), (3,))
    ):
        raise ValueError(
            f"Expected images of uint8 (n, height, width), or with 1 or 3 channels behind it, in "
            f"{path}, received {pixels.dtype} {pixels.shape}."
        )
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected {len(pixels)} whole numbers as labels in {path}, "
            f"received {labels.dtype} {labels.shape}."
        )
    if "class_names" in arrays:
        class_names = tuple(map(str, np.atleast_1d(arrays["class_names"])))
    else:
        known = _load(_part(data, "train")[0])["labels"] if split != "train" else labels
        class_names = tuple(str(label) for label in range(max(known.tolist(), default=-1) + 1))
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept = np.sort(np.concatenate([[], *(r[_share(len(r), part)] for r in rows)]).astype(int))
    pixels = pixels.reshape(*pixels.shape[:3], -1) if pixels.ndim == 3 else pixels
    return Images(pixels[kept], labels[kept].astype(np.int32), class_names, pixels.shape[3])


def _load(path: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            arrays = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise ValueError(f"Cannot read {path!r}: {error.strerror or 'not an .npz file'}.") from None
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile):
        raise ValueError(f"Cannot read {path!r}: not an .npz file of plain arrays.") from None
    missing = {"images", "labels"} - set(arrays)
    if missing:
        raise ValueError(
            f"Expected the arrays images and labels in {path}, received {sorted(arrays)}."
        )
    return arrays


def _tfds(data, split: str) -> Images:
    def read(tfds, builder, tfds_split):
        features = dict(builder.info.features)
        image, label = builder.info.supervised_keys or ("image", "label")
        if not isinstance(features.get(image), tfds.features.Image) or not isinstance(
            features.get(label), tfds.features.ClassLabel
        ):
            raise ValueError("it is no dataset of images with one class each")
        size = builder.info.splits[tfds_split].num_bytes
        if size > MAX_ENCODED:
            raise ValueError(
                f'it has {size / 2**30:.0f} GiB, which do not fit into memory; data.format="folder"'
                " reads images from a folder per class"
            )
        dataset = builder.as_dataset(
            split=tfds_split, shuffle_files=False, decoders={image: tfds.decode.SkipDecoding()}
        ).map(lambda example: (example[image], example[label]))
        batches = list(dataset.batch(1024).as_numpy_iterator())
        encoded = np.array([contents for batch, _ in batches for contents in batch], object)
        labels = np.array([number for _, batch in batches for number in batch], np.int32)
        channels = features[image].shape[-1] or 3
        names = [f"example {number}" for number in range(len(encoded))]
        pixels, kept = _decoded(encoded, names, lambda contents: contents, channels, data)
        return Images(pixels, labels[kept], tuple(features[label].names), channels)

    return read_tfds(data, split, read)


def _decoded(
    items: np.ndarray, names: Sequence[str] | np.ndarray, read: Callable, channels: int, data
):
    """Returns the pixels, or the items if there is no array of pixels, and the indices kept."""
    limits = data.get("max_pixels", MAX_PIXELS), data.get("on_bad_image", "stop")
    pixels, kept = decode_usable(items, names, read, channels, *limits)
    return items[kept] if pixels is None else pixels, kept


def _part(data, split: str) -> tuple[str, tuple[int, int]]:
    """Splits a value such as "train[:90%]" into a path and percentages from and to."""
    value = required(data, split)
    match = re.fullmatch(r"(.+?)(?:\[(\d+%)?:(\d+%)?\])?", value)
    refusal = ValueError(
        f'Expected data.{split} to be a name, or one like "name[:90%]", received {value!r}.'
    )
    if match is None:  # It has more than one line.
        raise refusal
    first, last = (int(number[:-1]) if number else None for number in match.groups()[1:])
    part = (first or 0, 100 if last is None else last)
    if not 0 <= part[0] < part[1] <= 100 or match[1].endswith("]"):
        raise refusal
    return below_folder(data, match[1]), part


def _share(count: int, part: tuple[int, int]) -> slice:
    return slice(*(count * percent // 100 for percent in part))


def _class_folders(folder: str) -> tuple[str, ...]:
    try:
        entries = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    except OSError as error:
        raise ValueError(f"Cannot read {folder!r}: {error.strerror}.") from None
    names = tuple(path.name for path in entries if not path.name.startswith("."))
    if not names:
        raise ValueError(f"Expected one folder per class in {folder}, received none.")
    return names
