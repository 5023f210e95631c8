"""Labelled images, image files, and configs of data, that several tests of images share."""

import io

import ml_collections
import numpy as np
from PIL import Image

from pipelines.images.augmentation import resize_and_crop
from pipelines.images.files import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (31, 11, 13, 3), np.uint8)
LABELS = np.arange(31) % 3
SIZE, CROP = (6, 10), 0.75  # of a model
MEAN, DEVIATION = (101.0, 103.0, 107.0), (53.0, 59.0, 61.0)
RANDOM = np.random.default_rng(0)


def config(format, folder=None, **keys):
    return ml_collections.ConfigDict({"format": format, "folder": str(folder), **keys})


def encode(size, kind="PNG", **options):
    pixels = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


FILES = [encode((17, 29)), encode((31, 11), "JPEG"), encode((13, 19), "BMP"), encode((7, 5), "GIF")]


def read_files(files):
    return np.stack([resize_and_crop(decode(file), SIZE, CROP).numpy() for file in files])
