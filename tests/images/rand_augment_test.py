"""Tests of RandAugment: each operation against Pillow, the draws against timm's definition."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from pipelines.images import rand_augment as ra
from pipelines.images.keyed_random import make_keys

FILL = (11, 131, 197)
RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture(seed=0, size=(13, 17), channels=3):
    """Makes an image of a ramp, a bright spot and noise, without the lowest and highest levels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    y, x = 120 * y[..., None] / size[0], 60 * x[..., None] / size[1]
    ramp = 20 + y + x * np.arange(1, channels + 1) / channels
    pixels = ramp + random.normal(0, 20, (*size, channels))
    pixels[3:6, 5:9] += 60
    return np.clip(pixels, 5, 249).astype(np.uint8)


def affine(image, matrix, interpolation):
    fill = FILL if image.mode == "RGB" else FILL[:1]
    kind = Image.Transform.AFFINE
    return image.transform(image.size, kind, matrix, RESAMPLE[interpolation], fillcolor=fill)


def solarize_add(image, addend):
    return image.point(
        [min(i + addend, 255) if i < 128 else i for i in range(256)] * len(image.mode)
    )


ORACLES = {
    "auto_contrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": ImageOps.posterize,
    "solarize": ImageOps.solarize,
    "solarize_add": solarize_add,
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
}
GEOMETRIC_ORACLES = {
    "rotate": lambda image, x, how: image.rotate(
        x, RESAMPLE[how], fillcolor=FILL if image.mode == "RGB" else FILL[0]
    ),
    "shear_x": lambda image, x, how: affine(image, (1, x, 0, 0, 1, 0), how),
    "shear_y": lambda image, x, how: affine(image, (1, 0, 0, x, 1, 0), how),
    "translate_x": lambda image, x, how: affine(image, (1, 0, x * image.width, 0, 1, 0), how),
    "translate_y": lambda image, x, how: affine(image, (1, 0, 0, 0, 1, x * image.height), how),
}
ARGUMENTS = {
    "posterize": [1, 2, 3, 4, 8],
    "solarize": [0, 26, 53, 128, 256],
    "solarize_add": [0, 1, 55, 99, 110],
    **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), [0.1, 0.19, 1.0, 1.81, 1.9]),
    "rotate": [-30.0, -27.0, 0.0, 4.7, 30.0],
    **dict.fromkeys(("shear_x", "shear_y"), [-0.3, -0.27, 0.0, 0.1, 0.3]),
    **dict.fromkeys(("translate_x", "translate_y"), [-0.45, -0.405, 0.0, 0.1, 0.45]),
}


def to_pillow(pixels):
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def run_oracle(name, pixels, argument, interpolation="bilinear"):
    image = to_pillow(pixels)
    if name in ORACLES:
        result = ORACLES[name](image, argument)
    else:
        result = GEOMETRIC_ORACLES[name](image, argument, interpolation)
    return np.asarray(result).reshape(pixels.shape)


def operate(name, images, arguments, interpolation="bilinear"):
    images = tf.constant(images)
    if name in ra.GEOMETRIC:
        matrices = ra.GEOMETRIC[name][0](tf.constant(arguments), *images.shape[1:3])
        return ra.warp(images, matrices, FILL[: images.shape[-1]], interpolation).numpy()
    function, argument = ra.POINTWISE[name]
    return function(images, *([tf.constant(arguments)] if argument else [])).numpy()


def assert_close(ours, theirs):
    assert ours.dtype == theirs.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert np.mean(ours != theirs) < 0.1  # where a product of floats falls just short of a level


class OperationsTest:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", ra.POINTWISE)
    def test_they_give_what_pillow_gives(self, name, channels):
        images = np.stack([picture(seed, channels=channels) for seed in range(5)])
        arguments = ARGUMENTS.get(name, [None] * 5)
        for ours, image, argument in zip(
            operate(name, images, arguments), images, arguments, strict=True
        ):
            assert_close(ours, run_oracle(name, image, argument))

    @pytest.mark.parametrize("interpolation", RESAMPLE)
    @pytest.mark.parametrize("name", ra.GEOMETRIC)
    def test_geometric_ones_move_pixels_as_pillow_does(self, name, interpolation):
        for channels in (1, 3):
            images = np.stack([picture(seed, channels=channels) for seed in range(5)])
            results = operate(name, images, ARGUMENTS[name], interpolation)
            for ours, image, argument in zip(results, images, ARGUMENTS[name], strict=True):
                assert_close(ours, run_oracle(name, image, argument, interpolation))

    @pytest.mark.parametrize("name", ["auto_contrast", "equalize", "contrast", "sharpness"])
    @pytest.mark.parametrize("kind", ["black", "one colour", "two levels", "few pixels", "large"])
    def test_odd_images_are_no_exception(self, name, kind):
        image = {
            "black": np.zeros((13, 17, 3), np.uint8),
            "one colour": np.full((13, 17, 3), (255, 7, 130), np.uint8),
            "two levels": np.where(picture() > 90, 91, 90).astype(np.uint8),
            "few pixels": picture(size=(3, 5)),
            "large": picture(size=(113, 127)),
        }[kind]
        assert_close(operate(name, image[None], [1.9])[0], run_oracle(name, image, 1.9))

    @pytest.mark.parametrize("name", ra.OPERATIONS)
    def test_they_work_on_no_image_at_all(self, name):
        arguments = tf.zeros((0,), tf.int32 if name in ("posterize", "solarize") else tf.float32)
        arguments = tf.cast(arguments, tf.int32) if name == "solarize_add" else arguments
        images = np.zeros((0, 13, 17, 3), np.uint8)
        assert operate(name, images, arguments).shape == images.shape


class ArgumentsTest:
    @pytest.mark.parametrize(
        "name, at_0, at_9, at_10",
        [
            ("rotate", 0, 27, 30),
            ("posterize", 4, 1, 1),
            ("solarize", 256, 26, 0),
            ("solarize_add", 0, 99, 110),
            ("color", 1, 1.81, 1.9),
            ("contrast", 1, 1.81, 1.9),
            ("brightness", 1, 1.81, 1.9),
            ("sharpness", 1, 1.81, 1.9),
            ("shear_x", 0, 0.27, 0.3),
            ("shear_y", 0, 0.27, 0.3),
            ("translate_x", 0, 0.405, 0.45),
            ("translate_y", 0, 0.405, 0.45),
        ],
    )
    def test_they_increase_with_the_level_as_defined(self, name, at_0, at_9, at_10):
        argument = (ra.POINTWISE | ra.GEOMETRIC)[name][1]
        levels, ones = tf.constant([0.0, 9.0, 10.0]), tf.ones(3)
        np.testing.assert_allclose(argument(levels, ones), [at_0, at_9, at_10], rtol=1e-6)
        mirrored = argument(levels, -ones).numpy()
        if at_0 == 1:
            np.testing.assert_allclose(mirrored, [1, 0.19, 0.1], rtol=1e-6)
        elif name in ra.GEOMETRIC:
            np.testing.assert_allclose(mirrored, [-at_0, -at_9, -at_10], rtol=1e-6)

    def test_three_have_none(self):
        without = [name for name in ra.OPERATIONS if not (ra.POINTWISE | ra.GEOMETRIC)[name][1]]
        assert without == ["auto_contrast", "equalize", "invert"]
        assert len(ra.OPERATIONS) == 15


class DrawTest:
    keys = make_keys(3, tf.range(30011))

    def test_each_operation_is_as_likely_and_half_the_images_are_left_alone(self):
        counts = np.bincount(ra.draw(self.keys, 0).operations, minlength=16)
        assert abs(counts[ra.NOTHING] / 30011 - 0.5) < 4 * (0.25 / 30011) ** 0.5
        expected = 30011 / 2 / 15
        assert np.abs(counts[:15] - expected).max() < 4 * expected**0.5

    def test_levels_are_normal_and_cut_off_at_10(self):
        levels = ra.draw(self.keys, 0, magnitude=9.0, magnitude_std=0.5).levels.numpy()
        assert levels.max() == 10
        assert abs(np.mean(levels == 10) - 0.02275) < 0.004  # two deviations above the mean
        assert abs(np.median(levels) - 9) < 0.02
        assert abs(np.mean(levels < 8.5) - 0.15866) < 0.01
        assert ra.draw(self.keys, 0, magnitude=0.0).levels.numpy().min() == 0

    def test_signs_and_interpolations_are_even(self):
        drawn = ra.draw(self.keys, 0, num_interpolations=2)
        assert set(drawn.signs.numpy()) == {-1, 1}
        assert abs(np.mean(drawn.signs)) < 4 / 30011**0.5
        assert abs(np.mean(drawn.interpolations) - 0.5) < 2 / 30011**0.5

    def test_layers_draw_independently(self):
        first, second = (ra.draw(self.keys, layer) for layer in (0, 1))
        both = (first.operations < ra.NOTHING) & (second.operations < ra.NOTHING)
        assert abs(np.mean(both) - 0.25) < 0.01
        same = first.operations == second.operations
        assert abs(np.mean(same.numpy()[both.numpy()]) - 1 / 15) < 0.012
        assert abs(np.corrcoef(first.levels, second.levels)[0, 1]) < 0.03


class RandAugmentTest:
    images = np.stack([picture(seed) for seed in range(32)])

    @pytest.mark.parametrize("sign", [-1.0, 1.0])
    def test_each_image_gets_the_operation_that_was_drawn_for_it(self, sign):
        operations = np.random.default_rng(0).permutation(32) // 2
        levels = np.linspace(0, 9.9, 32).astype(np.float32)
        drawn = ra.Draw(
            tf.constant(operations, tf.int32),
            tf.constant(levels),
            tf.fill((32,), sign),
            tf.range(32) % 2,
        )
        results = ra.apply(self.images, drawn, FILL, ("bilinear", "bicubic")).numpy()
        for row, number in enumerate(operations):
            if number == ra.NOTHING:
                np.testing.assert_array_equal(results[row], self.images[row])
                continue
            name = ra.OPERATIONS[number]
            argument = (ra.POINTWISE | ra.GEOMETRIC)[name][1]
            argument = argument and np.array(argument(tf.constant(levels[row]), sign)).item()
            how = ("bilinear", "bicubic")[row % 2]
            assert_close(results[row], run_oracle(name, self.images[row], argument, how))

    def test_the_key_alone_decides(self):
        keys = make_keys(5, tf.range(32))
        whole = ra.rand_augment(self.images, keys).numpy()
        assert 0.6 < np.mean(np.any(whole != self.images, axis=(1, 2, 3))) < 0.95
        order = np.random.default_rng(1).permutation(32)[:7]
        part = ra.rand_augment(self.images[order], tf.gather(keys, order)).numpy()
        np.testing.assert_array_equal(part, whole[order])
        other = ra.rand_augment(self.images, make_keys(6, tf.range(32))).numpy()
        assert np.any(other != whole, axis=(1, 2, 3)).mean() > 0.5

    def test_no_layer_changes_nothing(self):
        keys = make_keys(5, tf.range(32))
        np.testing.assert_array_equal(ra.rand_augment(self.images, keys, num_layers=0), self.images)

    def test_it_runs_in_a_graph_that_does_not_know_the_batch(self):
        signature = [tf.TensorSpec((None, 13, 17, 3), tf.uint8), tf.TensorSpec((None,), tf.uint64)]
        graph = tf.function(ra.rand_augment, input_signature=signature)
        keys = make_keys(5, tf.range(32))
        np.testing.assert_array_equal(graph(self.images, keys), ra.rand_augment(self.images, keys))
        assert graph(self.images[:0], keys[:0]).shape == (0, 13, 17, 3)
        assert "PyFunc" not in str(graph.get_concrete_function().graph.as_graph_def())
