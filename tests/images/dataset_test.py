"""Tests of labelled images in memory: their statistics, and images that are in two splits."""

import numpy as np
import pytest
from PIL import Image

from pipelines.images.dataset import Images, count_leaks, statistics
from pipelines.images.labelled import read_splits
from tests import own_pictures
from tests.images.samples import LABELS, PIXELS, config

RANDOM = np.random.default_rng(0)


class StatisticsTest:
    def test_they_are_those_of_the_levels(self):
        pixels = RANDOM.integers(0, 256, (2053, 2, 3, 3), np.uint8) // [1, 2, 5]
        images = Images(pixels.astype(np.uint8), np.zeros(2053, np.int32), ("a",), 3)
        mean, deviation = statistics(images)
        np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)))
        np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)))

    def test_images_of_one_colour_can_still_be_divided_by_them(self):
        images = Images(np.full((2, 3, 5, 1), 7, np.uint8), np.zeros(2, np.int32), ("a",), 1)
        assert statistics(images) == ((7.0,), (1.0,))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_files_have_those_of_imagenet(self, channels):
        images = Images(np.array(["a.png"]), np.zeros(1, np.int32), ("a",), channels)
        mean, deviation = statistics(images)
        assert len(mean) == len(deviation) == channels and mean[channels // 2] == 116.28


class LeaksTest:
    def test_images_of_a_split_that_training_has_too_are_counted_by_content(self, tmp_path):
        for number in range(10):
            image = own_pictures.encoded(Image.fromarray(PIXELS[number]), "PNG")
            name, other = ("ant", "bee")[:: 1 if number % 2 else -1]
            files = {f"train/{name}/{number}.png": image, f"test/{other}/{9 - number}.png": image}
            own_pictures.write(tmp_path, files)
        image = own_pictures.encoded(Image.fromarray(PIXELS[20]), "PNG")
        own_pictures.write(tmp_path, {"test/bee/0.png": image})
        splits = read_splits(
            config("folder", tmp_path, train="train", test="test"), ("train", "test")
        )
        assert count_leaks(splits["train"], splits["test"]) == (9, "ant/1.png")
        assert count_leaks(splits["train"], splits["train"]._replace(digests=np.array([3]))) == (
            0,
            "",
        )
        arrays = (
            Images(PIXELS[:5], LABELS[:5], tuple("abc"), 3),
            Images(PIXELS[3:], LABELS[3:], tuple("abc"), 3),
        )
        assert count_leaks(*arrays) == (2, "image 0")
