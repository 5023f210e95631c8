"""Labelled images from a folder per class, a table, an .npz file, TFDS or scikit-learn's digits.

`read_images` decodes small datasets once into one array. Of larger ones, or where images differ in
size, it keeps the paths or the encoded bytes, which `pipelines.images.batches` decodes as it reads
them. Images that cannot be used are found here, before the training starts.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipelines.data.sources import read_tfds, required
from pipelines.images.arrays import read_arrays
from pipelines.images.dataset import Images, digest
from pipelines.images.files import CHANNELS, MAX_PIXELS, SUFFIXES, decode_usable, is_dark
from pipelines.images.listing import (
    class_folders,
    describe_stray,
    list_folder,
    list_paths,
    list_pictures,
    list_table,
    require_known,
    wanted_classes,
)
from pipelines.images.splits import (
    SPLITS,
    is_cut,
    path_and_part,
    rows_of,
    rows_of_part,
    source_of,
)

DIGITS_HINT = 'data.format="digits" needs scikit-learn: `pip install "kerasformer[pipelines]"`.'
# The keys of `config.data` that one format or another reads.
IMAGE_KEYS = {"format", "classes", "on_bad_image", "max_pixels", "folder", "channels", "examine"}
OF_CLASSES = {"class_weights", "sampling"}  # They say how a task learns classes.
IMAGE_KEYS |= {"name", "data_dir", "download", "labels", "held_out", *SPLITS, *OF_CLASSES}
SAMPLE = 8  # pictures whose levels are looked at
MAX_ENCODED = 16 * 2**30  # bytes of what TFDS holds


def read_images(data, split: str) -> Images:
    """Reads the labelled images of one split.

    Args:
        data: ConfigDict. Its `format` decides which other keys are read:
            `"digits"`: none, the 1,797 images of 8 x 8 pixels of scikit-learn.
            `"folder"`: `train`, `validation` and `test`, each a folder below `folder` with one
            folder per class; `channels`, 1, 3 or 4; and `examine`: whether every image is decoded
            once in advance, so that a bad one is found (false saves the time for a known folder).
            `"csv"`: the same, but each split is a table of paths and labels, as `list_table` says.
            `"npz"`: `train`, `validation` and `test`, each a file below `folder` with the arrays
            `images`, uint8 `(n, height, width[, channels])`, `labels`, and perhaps `class_names`.
            `"tfds"`: `name` (such as `"cifar10"`), `data_dir`, `download`, and in `train`,
            `validation` and `test` the splits of that dataset, such as `"train[:90%]"`. Data
            prepared in `data_dir` is read offline.
            The others take such splits too, and cut each class in this proportion, in the order of
            the data. There `validation` and `test` may also be a share of `train`, such as
            `"10%"`, which the hash of the content chooses (`split_by_content`); `held_out` is the
            share, or the number of images, of those of them that have no value.
            With each, `classes` names the classes that are kept, in the order of their labels (all
            when it is empty), as `wanted_classes` reads it, and `on_bad_image` is what happens when
            images are empty, corrupt, animated, or of more than `max_pixels`: `"stop"` or `"skip"`.
            With `labels="multi"` a table gives an image any number of labels. With `"none"` images
            have no classes: a folder's are all below it, a table needs no column of labels, and an
            `.npz` no array of them, nor a dataset of TFDS.
        split: str. `"train"`, `"validation"` or `"test"`.

    Returns:
        The images, in the order of the data.

    Raises:
        ValueError: if the data is missing, empty, or not what `data` says, in one sentence.
    """
    readers = {"csv": _csv, "digits": _digits, "folder": _folder, "npz": read_arrays, "tfds": _tfds}
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
    labels = data.get("labels", "one")
    if labels not in ("one", "none") and (labels, name) != ("multi", "csv"):
        raise ValueError(
            'Expected data.labels to be "one", "none", or "multi" with data.format="csv", received '
            f"data.labels={labels!r} with data.format={name!r}."
        )
    if name in ("digits", "tfds") and data.get("held_out"):
        raise ValueError(
            'Expected data.format="folder", "csv" or "npz" with data.held_out, received '
            f"data.format={name!r}."
        )
    images = readers[name](data, split)
    if labels == "none":
        return _without_classes(images, data, split)
    classes, labels = len(images.class_names), images.labels
    twice = [name for name, count in Counter(images.class_names).items() if count > 1]
    if twice:
        raise ValueError(f"Expected each class name once, received {twice[0]!r} more than once.")
    if not images.are_multi and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1} for split={split!r}, received labels from "
            f"{labels.min()} to {labels.max()}."
        )
    images = _chosen(images, wanted_classes(data))
    _require_some(images, data, split)
    if len(images.class_names) < 2 and not images.are_multi:
        raise ValueError(
            f"Expected images of at least two classes, received {images.class_names[0]!r} alone "
            f"from data.{split}={data.get(split)!r}."
        )
    return images


def _require_some(images: Images, data, split: str) -> None:
    if not len(images.labels):
        raise ValueError(
            f"Expected images for split={split!r}, received none from data.format={data.format!r} "
            f"with data.{split}={data.get(split)!r}."
        )


def _without_classes(images: Images, data, split: str) -> Images:
    """Replaces the labels by 0, and leaves out the names of classes."""
    if wanted := wanted_classes(data):
        raise ValueError(f'Expected no data.classes with data.labels="none", received {wanted}.')
    _require_some(images, data, split)
    return images._replace(labels=np.zeros(len(images.labels), np.int32), class_names=())


def read_splits(data, splits: Sequence[str]) -> dict[str, Images]:
    """Reads several splits, and tells what is wrong with all of them at once.

    Raises:
        ValueError: with a sentence for each split that cannot be read.
    """
    read, faults = {}, []
    for split in splits:
        try:
            read[split] = read_images(data, split)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError(" ".join(dict.fromkeys(faults)))
    return read


def _chosen(images: Images, class_names: Sequence[str]) -> Images:
    """Keeps the images of some classes, and numbers these from 0."""
    if not class_names:
        return images
    require_known(class_names, images.class_names)
    numbers = [images.class_names.index(name) for name in class_names]
    if images.are_multi:
        return images._replace(labels=images.labels[:, numbers], class_names=tuple(class_names))
    labels = np.full(len(images.class_names), -1, np.int32)
    labels[numbers] = range(len(class_names))
    images = images._replace(labels=labels[images.labels], class_names=tuple(class_names))
    return images.rows(images.labels >= 0)


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
    source = source_of(data, split)
    if data.get("labels", "one") == "none":
        folder, part = path_and_part(data, source)
        return _listed(data, split, list_pictures(folder), part)
    class_names = class_folders(path_and_part(data, "train")[0])
    folder, part = path_and_part(data, source)
    unknown = sorted(set(class_folders(folder)) - set(class_names))
    if unknown:
        raise ValueError(
            f"Expected {folder} to have the classes of data.train={data.train!r}, "
            f"received {unknown[0]!r} besides."
        )
    return _listed(data, split, list_folder(folder, class_names, wanted_classes(data)), part)


def _csv(data, split: str) -> Images:
    is_multi = data.get("labels", "one") == "multi"
    source = source_of(data, split)
    path, part = path_and_part(data, source)
    if data.get("labels", "one") == "none":
        return _listed(data, split, list_paths(path), part)
    class_names: tuple[str, ...] = ()
    if source != "train":
        class_names = list_table(path_and_part(data, "train")[0], is_multi=is_multi).class_names
    return _listed(data, split, list_table(path, class_names, is_multi), part)


def _listed(data, split: str, listing, part: tuple[int, int]) -> Images:
    """Reads the pictures of a list, or those of them that belong to a split."""
    if listing.stray and source_of(data, split) == split:
        print(describe_stray(listing.stray), flush=True)
    channels = data.get("channels", 3)
    if channels not in CHANNELS:
        raise ValueError(
            f"Expected data.channels to be 1, 3 or 4, received data.channels={channels}."
        )
    names = np.array(listing.paths, str)
    paths = np.array([os.path.join(listing.folder, path) for path in listing.paths], str)
    # Of several labels the first counts where each class is cut.
    owners = [
        (label or (-1,))[0] if isinstance(label, tuple) else label for label in listing.labels
    ]
    kept = rows_of_part(np.array(owners), part)
    if is_cut(data, split):
        digests = [_file_digest(path, *_version(path)) for path in paths[kept]]
        kept = kept[rows_of(data, split, digests, np.array(owners)[kept])]
    labels = np.array(owners, np.int32)
    if data.get("labels", "one") == "multi":
        labels = np.zeros((len(paths), len(listing.class_names)), np.uint8)
        for row, numbers in enumerate(listing.labels):
            labels[row, list(numbers)] = 1
    images = Images(paths, labels, listing.class_names, channels, names).rows(kept)
    if not data.get("examine", True):
        return images
    pixels, usable, digests = _decoded(images.pixels, images.pixels, _read_file, channels, data)
    if split == "train":
        _note_dark(images.pixels[usable])
    return images.rows(usable)._replace(pixels=pixels, digests=digests)


def _note_dark(paths: np.ndarray) -> None:
    """Prints that pictures of 16 bits become nearly black, judging by a few of them."""
    sample = paths[:: -(-len(paths) // SAMPLE) or 1]
    dark = [path for path in sample if is_dark(_read_file(path))]
    if dark:
        print(
            f"Nearly black: {len(dark)} of {len(sample)} pictures that were looked at have 16 bits "
            f"and levels below {2**14} alone, and the upper 8 bits are kept; stretch their levels "
            f"to 0 to 65535 ({dark[0]} is the first).",
            flush=True,
        )


def _version(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@functools.cache
def _file_digest(path: str, size: int, time: int) -> int:
    """Hashes a file, once for all splits as long as it does not change."""
    try:
        return digest(Path(path).read_bytes())
    except OSError:  # It is named where the pictures are read.
        return 0


def _read_file(path: str) -> bytes:
    if not path.lower().endswith(SUFFIXES):
        raise OSError(0, f"not one of {', '.join(SUFFIXES)}")
    return Path(path).read_bytes()


def _tfds(data, split: str) -> Images:
    def read(tfds, builder, tfds_split):
        features = dict(builder.info.features)
        image, label = builder.info.supervised_keys or ("image", "label")
        has_classes = isinstance(features.get(label), tfds.features.ClassLabel)
        needs_classes = data.get("labels", "one") != "none"
        if not isinstance(features.get(image), tfds.features.Image):
            raise ValueError("it is no dataset of images")
        if needs_classes and not has_classes:
            raise ValueError("it is no dataset of images with one class each")
        size = builder.info.splits[tfds_split].num_bytes
        if size > MAX_ENCODED:
            raise ValueError(
                f'it has {size / 2**30:.0f} GiB, which do not fit into memory; data.format="folder"'
                " reads images from a folder per class"
            )
        dataset = builder.as_dataset(
            split=tfds_split, shuffle_files=False, decoders={image: tfds.decode.SkipDecoding()}
        ).map(lambda example: (example[image], example[label] if needs_classes else 0))
        batches = list(dataset.batch(1024).as_numpy_iterator())
        encoded = np.array([contents for batch, _ in batches for contents in batch], object)
        labels = np.array([number for _, batch in batches for number in batch], np.int32)
        channels = features[image].shape[-1] or 3
        names = [f"example {number}" for number in range(len(encoded))]
        pixels, kept, digests = _decoded(encoded, names, lambda contents: contents, channels, data)
        class_names = tuple(features[label].names) if needs_classes else ()
        images = Images(encoded, labels, class_names, channels, np.array(names))
        return images.rows(kept)._replace(pixels=pixels, digests=digests)

    return read_tfds(data, split, read)


def _decoded(
    items: np.ndarray, names: Sequence[str] | np.ndarray, read: Callable, channels: int, data
):
    """Returns the pixels, or the items if there is no array of pixels; the indices; the digests."""
    limits = data.get("max_pixels", MAX_PIXELS), data.get("on_bad_image", "stop")
    digests = {}

    def read_and_hash(item):
        contents = read(item)
        digests[item] = digest(contents)
        return contents

    pixels, kept = decode_usable(items, names, read_and_hash, channels, *limits)
    hashes = np.array([digests[item] for item in items[kept]], np.int64)
    return items[kept] if pixels is None else pixels, kept, hashes
