"""Labelled images, and configs of data, that several tests of images share."""

import ml_collections
import numpy as np

PIXELS = np.random.default_rng(0).integers(0, 256, (31, 11, 13, 3), np.uint8)
LABELS = np.arange(31) % 3


def config(format, folder=None, **keys):
    return ml_collections.ConfigDict({"format": format, "folder": str(folder), **keys})
