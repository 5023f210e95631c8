"""Tests of the picture of augmented images."""

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.images.preview import preview

NAMES = ("ant", "bee", "a name that is much too long for its place")


def batches(share=1.0, channels=3, size=(7, 7)):
    colour = np.array([1.0, -1.0, -1.0])[:channels]
    example = {
        "images": np.broadcast_to(colour, (5, *size, channels)).astype(np.float32),
        "labels": np.array([0, 1, 2, 0, 1], np.int32),
        "other_labels": np.array([1, 0, 2, 0, 1], np.int32),
        "share": np.full(5, share, np.float32),
    }
    return tf.data.Dataset.from_tensors(example).repeat()


def draw(path, channels=3, share=1.0, size=(7, 7), **keys):
    moments = ((100.0,) * channels, (100.0,) * channels)
    preview(batches(share, channels, size), NAMES, *moments, path, **keys)
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


class PreviewTest:
    def test_images_have_the_colours_they_had_before_they_were_normalised(self, tmp_path):
        pixels = draw(tmp_path / "a.png", rows=2, columns=3)
        assert np.mean(np.all(pixels == (200, 0, 0), axis=-1)) > 0.4
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]

    def test_gray_images_are_gray(self, tmp_path):
        pixels = draw(tmp_path / "a.png", channels=1, rows=1, columns=1)
        assert np.mean(np.all(pixels == 200, axis=-1)) > 0.4

    def test_mixed_images_name_both_classes_where_there_are_two(self, tmp_path):
        path = tmp_path / "a.svg"
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            moments = ((100.0,) * 3, (100.0,) * 3)
            preview(batches(0.63), NAMES, *moments, path, rows=1, columns=5)
        words = path.read_text(encoding="utf-8")
        assert words.count("ant 63 %") == 1 and words.count("bee 37 %") == 1
        assert words.count("a name that is much too long") == 1  # mixed with its own class
        assert NAMES[2] not in words

    def test_images_of_several_classes_name_them_all_and_weights_change_no_share(self, tmp_path):
        example = {
            "images": np.zeros((3, 7, 7, 4), np.float32),
            "labels": np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.uint8),
            "other_labels": np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0]], np.uint8),
            "share": np.full(3, 0.25 * 8, np.float32),
            "other_share": np.full(3, 0.75 * 8, np.float32),
        }
        path, moments = tmp_path / "a.svg", ((100.0,) * 4, (100.0,) * 4)
        names = ("ant", "bee", "cat")
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            preview(tf.data.Dataset.from_tensors(example), names, *moments, path, 1, 3)
        words = path.read_text(encoding="utf-8")
        for text in (">ant<", ">cat<", ">ant 75 %<", ">bee 25 %<", ">none<"):
            assert words.count(text) == 1, text

    @pytest.mark.parametrize(("rows", "columns"), [(8, 1), (8, 2), (1, 1)])
    def test_small_batches_and_long_images_make_no_strip(self, rows, columns, tmp_path):
        for size in ((7, 7), (3, 61), (61, 3)):
            draw(tmp_path / "a.png", rows=rows, columns=columns, size=size)
            height, width = matplotlib.image.imread(tmp_path / "a.png").shape[:2]
            assert width >= 100 and max(width, height) <= 9 * min(width, height) and height < 1000

    @pytest.mark.parametrize("name", ["a.txt", "a", "absent/a.png"])
    def test_a_path_that_cannot_be_written_is_refused(self, tmp_path, name):
        with pytest.raises(ValueError, match=f"received path=.*{name}"):
            draw(tmp_path / name)
        assert not list(tmp_path.iterdir())
