"""Changes of colour against Pillow, as torchvision uses it, and blur against its definition."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from pipelines.images import photometric as ph
from pipelines.images.keyed_random import make_keys, uniform

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (7, 37, 41, 3), np.uint8)
KEYS = make_keys(1, tf.range(7))


def turned(image, shift):
    """Turns the hue of an image of Pillow."""
    hue, *others = image.convert("HSV").split()
    hue = np.array(hue) + np.int32(shift * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(hue), *others)).convert("RGB")


PILLOW = (
    lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    turned,
)


def differences(ours, theirs):
    return np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int))


class HueTest:
    def test_it_gives_what_pillow_gives(self):
        shifts = np.float32([-0.5, -0.31, -0.1, 0.0, 0.05, 0.1, 0.5])
        for ours, pixels, shift in zip(ph.hue(PIXELS, shifts), PIXELS, shifts, strict=True):
            found = differences(ours, turned(Image.fromarray(pixels), shift))
            assert np.mean(found > 0) < 0.002 and found.max() <= 6  # one step of 255 around

    def test_gray_and_black_have_none(self):
        gray = np.repeat(PIXELS[..., :1], 3, axis=-1)
        gray[0] = 0
        np.testing.assert_array_equal(ph.hue(gray, np.full(7, 0.3, np.float32)), gray)
        np.testing.assert_array_equal(ph.hue(gray[..., :1], np.ones(7)), gray[..., :1])


class ColorJitterTest:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_four_changes_follow_each_other_in_an_order_of_the_image(self, channels):
        strengths = np.array([0.4, 0.4, 0.2, 0.1])
        pixels = PIXELS[..., :channels]
        draws = uniform(KEYS, ph.JITTER, 8).numpy()
        amounts = (2 * draws[:, :4] - 1) * strengths + [1, 1, 1, 0]
        orders = np.argsort(draws[:, 4:])
        assert len({tuple(order) for order in orders}) > 4
        jittered = ph.color_jitter(tf.constant(pixels), KEYS, strengths.tolist())
        for ours, image, order, amount in zip(jittered, pixels, orders, amounts, strict=True):
            image = Image.fromarray(image.squeeze())
            for operation in order:
                if channels == 3 or operation < 2:
                    image = PILLOW[operation](image, amount[operation])
            found = differences(ours, np.asarray(image).reshape(ours.shape))
            assert np.quantile(found, 0.99) <= 4 and found.mean() < 0.6  # each rounds anew


def gaussian(pixels, sigma):
    """Averages rows, and then columns, of an image whose edges go on for a long way."""
    weights = np.exp(-0.5 * (np.arange(-12, 13) / sigma) ** 2)
    for axis in (0, 1):
        padding = [(12, 12) if axis == other else (0, 0) for other in range(3)]
        moved = np.moveaxis(np.pad(pixels, padding, "edge"), axis, 0)
        size = pixels.shape[axis]
        sums = sum(w * moved[i : i + size] for i, w in enumerate(weights))
        pixels = np.moveaxis(sums / weights.sum(), 0, axis)
    return pixels


class BlurTest:
    def test_it_is_gaussian_and_the_edges_go_on(self):
        radius = np.float32([0.1, 0.5, 0.7, 1.1, 1.3, 1.7, 2.0])
        blurred = ph.blur(tf.constant(PIXELS), radius, 2.0)
        for ours, pixels, sigma in zip(blurred, PIXELS.astype(float), radius, strict=True):
            assert np.abs(ours.numpy() - gaussian(pixels, sigma)).max() < 0.7  # 0.5 of rounding


class SometimesTest:
    def test_each_image_is_changed_as_often_as_its_probability_says(self):
        keys, probabilities = make_keys(2, tf.range(3000)), np.tile(np.float32([0, 0.3, 1]), 1000)
        images = np.zeros((3000, 1, 1, 1), np.uint8)
        results = [
            ph.sometimes(images, keys, number, probabilities, lambda x, _: x + 1).numpy().ravel()
            for number in (0, 3)
        ]
        for result in results:
            shares = result.reshape(1000, 3).mean(axis=0)
            assert shares[0] == 0 and shares[2] == 1 and abs(shares[1] - 0.3) < 0.06
        both = (results[0] & results[1]).reshape(1000, 3)[:, 1].mean()
        assert abs(both - 0.09) < 0.04  # One change does not tell of another.

    def test_nobody_may_be_chosen(self):
        images = ph.sometimes(PIXELS, KEYS, 0, np.zeros(7), lambda x, _: ph.gray(x))
        np.testing.assert_array_equal(images, PIXELS)


def test_gray_is_that_of_pillow():
    for ours, pixels in zip(ph.gray(tf.constant(PIXELS)), PIXELS, strict=True):
        gray = np.asarray(Image.fromarray(pixels).convert("L"))
        np.testing.assert_array_equal(ours, np.repeat(gray[..., None], 3, axis=-1))
