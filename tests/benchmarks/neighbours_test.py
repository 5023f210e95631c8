"""The benchmark of nearest neighbours, of pixels and of a SavedModel."""

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from pipelines.benchmarks import neighbours

BRIGHT = {0: 40, 1: 200}


class Brightness(tf.Module):
    """Describes images by whether they are bright, as an exported model would."""

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 1), tf.uint8, name="pixels")])
    def embed_pixels(self, pixels):
        levels = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=(1, 2, 3))
        return {"features": tf.stack([levels - 120, tf.ones_like(levels)], axis=1)}


def make_data(folder):
    random, labels = np.random.default_rng(0), np.arange(40) % 2
    pixels = random.integers(0, 40, (40, 8, 8)) + np.array([*BRIGHT.values()])[labels, None, None]
    for name, part in {"train": slice(30), "test": slice(30, None)}.items():
        images = pixels[part].astype(np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=labels[part])
    keys = {"format": "npz", "folder": str(folder), "train": "train.npz", "test": "test.npz"}
    return ml_collections.ConfigDict(keys)


def test_pixels_and_exported_models_are_scored(tmp_path):
    module, folder = Brightness(), str(tmp_path / "1")
    tf.saved_model.save(module, folder, signatures={"embed_pixels": module.embed_pixels})
    records = list(neighbours.measured(make_data(tmp_path), [folder]))
    assert [(record["peer"], record["value"]) for record in records] == [
        ("pixels", 1.0),
        (folder, 1.0),
    ]


def test_a_folder_without_such_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match="the signature embed_pixels, .*received .*nothing"):
        next(neighbours.measured(make_data(tmp_path), [str(tmp_path / "nothing")]))
