"""The stored samples of published code, and how their weights get into our models."""

import pathlib
import re

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def read(family):
    """Reads a sample: its images, what the published model answered, and its weights by name."""
    arrays = dict(np.load(FOLDER / f"{family}.npz"))
    return arrays.pop("inputs"), arrays.pop("outputs"), arrays


def copy_weights(model, arrays, names):
    """Copies weights of PyTorch into a model; each must be used once.

    Args:
        model: built Keras model.
        arrays: dict of the weights by their names there, which is emptied.
        names: pairs of a pattern and its replacement, which make a name there of a path here, one
            after the other. Of names joined by `+` the weights are put one behind the other.
    """
    names = [*names, ("/(kernel|gamma)$", ".weight"), ("/(bias|beta)$", ".bias"), ("/", ".")]
    for weight in model.weights:
        name = weight.path.split("/", 1)[1]
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        joined = re.search(r"[^.]*\+[^.]*|$", name)[0]
        parts = [name.replace(joined, part) for part in joined.split("+")]
        value = np.concatenate([arrays.pop(part) for part in parts])
        if weight.path.endswith("kernel"):
            # (out, in, rows, columns) or (out, in): ours end with (in, out).
            value = value.transpose(*range(2, value.ndim), 1, 0)
        weight.assign(value.reshape(weight.shape))
    assert not arrays, f"not used: {sorted(arrays)}"
