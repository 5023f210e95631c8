"""Labelled images in memory, whatever they were read from."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.images.files import decode

# Mean and deviation of levels: those of ImageNet, and of an alpha channel that is spread evenly.
IMAGENET: tuple[tuple[float, ...], tuple[float, ...]] = (
    (123.675, 116.28, 103.53, 127.5),
    (58.395, 57.12, 57.375, 73.6),
)


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        pixels: uint8 array `(n, height, width, channels)`; or, where images are decoded as they
            are read, an array `(n,)` of str, the files, or of bytes, the encoded images.
        labels: int32 array `(n,)`; or uint8 `(n, classes)`, 1 for each class that an image has,
            where it may have several; 0 where images have no classes.
        class_names: tuple of str, one for each class; empty where images have none.
        channels: int, 1, 3 or 4.
        names: array of str, for messages and pictures; empty where images have no names.
        digests: int64 array `(n,)`, a hash of the content of each; empty where nobody read it.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    channels: int
    names: np.ndarray = np.array([], str)
    digests: np.ndarray = np.array([], np.int64)

    @property
    def are_multi(self) -> bool:
        """Returns whether an image may have any number of labels."""
        return self.labels.ndim == 2

    def classes(self, index: int) -> list[str]:
        """Returns the names of the classes of an image."""
        if not self.class_names:
            return []
        numbers = np.flatnonzero(self.labels[index]) if self.are_multi else [self.labels[index]]
        return [self.class_names[number] for number in numbers]

    def class_counts(self) -> list[int]:
        """Counts the images of each class."""
        if self.are_multi:
            return self.labels.sum(axis=0, dtype=int).tolist()
        return np.bincount(self.labels, minlength=len(self.class_names)).tolist()

    def rows(self, kept: np.ndarray) -> "Images":
        """Returns the images of some indices, or where a mask is true."""
        arrays = {key: getattr(self, key) for key in ("pixels", "labels", "names", "digests")}
        return self._replace(**{key: x[kept] if len(x) else x for key, x in arrays.items()})

    def name(self, index: int) -> str:
        """Returns the name of an image, or its number."""
        return str(self.names[index]) if len(self.names) else f"image {index}"

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


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of the levels of each channel, from 0 to 255.

    Returns:
        Tuple of the means and the deviations, a float for each channel; those of ImageNet for
        images that are not decoded.
    """
    if not images.are_decoded:
        mean, deviation = IMAGENET
        channels = slice(1, 2) if images.channels == 1 else slice(images.channels)
        return mean[channels], deviation[channels]
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


def count_leaks(train: Images, other: Images) -> tuple[int, str]:
    """Counts the images whose content is among the training images.

    Returns:
        Tuple of their number and the name of the first; 0 where nobody read the contents.
    """
    known, digests = map(digests_of, (train, other))
    found = np.flatnonzero(np.isin(digests, known))
    return len(found), other.name(found[0]) if len(found) else ""


def digests_of(images: Images) -> np.ndarray:
    """Returns the hashes of the contents; of none where neither pixels nor hashes are there."""
    if len(images.digests) or not images.are_decoded:
        return images.digests
    return np.array([digest(row.tobytes()) for row in images.pixels], np.int64)


def digest(contents: bytes) -> int:
    """Hashes the content of an image."""
    return int.from_bytes(hashlib.blake2b(contents, digest_size=8).digest()) >> 1
