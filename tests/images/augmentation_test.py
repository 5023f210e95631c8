"""Tests of random crops, flips, erasing and mixing against their definitions."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.images import augmentation as aug
from pipelines.images.augmentation import Recipe
from pipelines.images.keyed_random import make_keys

MANY = 10007


def positions(height=11, width=13):
    """Makes an image whose pixels say where they come from: 1, 2, ... row by row."""
    return np.arange(1, height * width + 1, dtype=np.uint8).reshape(height, width, 1)


def photograph(height, width):
    y, x = np.mgrid[:height, :width] / 7
    waves = np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(3 * x)], axis=-1)
    return (127 + 120 * waves).astype(np.uint8)


def is_even(counts):
    """Returns whether counts could be those of equally likely outcomes, by chi-square."""
    expected = np.mean(counts)
    degrees = len(counts) - 1
    return np.sum((counts - expected) ** 2) / expected < degrees + 4 * (2 * degrees) ** 0.5


class RecipeTest:
    @pytest.mark.parametrize(
        "keys, words",
        [
            ({"flip": 1.5}, "flip to be at least 0 and at most 1, received flip=1.5"),
            ({"erase": -0.1}, "erase=-0.1"),
            ({"repeats": 0}, "repeats to be at least 1"),
            ({"layers": 1.5}, "layers to be a whole number"),
            ({"padding": 2.5}, "padding to be a whole number"),
            ({"magnitude": 11}, "magnitude to be at least 0 and at most 10"),
            ({"interpolations": ("nearest",)}, "interpolations=.*nearest"),
            ({"interpolations": ()}, "interpolations"),
        ],
    )
    def test_a_number_outside_its_range_is_named(self, keys, words):
        with pytest.raises(ValueError, match=words):
            Recipe(**keys)

    def test_it_mixes_where_something_is_mixed(self):
        assert not Recipe().mixes
        assert Recipe(cutmix=1.0).mixes and Recipe(mixup=0.2).mixes
        assert not Recipe(cutmix=1.0, mix_probability=0.0).mixes


class CropAndFlipTest:
    def test_every_offset_and_both_directions_are_as_likely(self):
        images = np.broadcast_to(positions(), (MANY, 11, 13, 1))
        results = aug.crop_and_flip(images, make_keys(1, tf.range(MANY)), 2, 0.5).numpy()[..., 0]
        padded = np.pad(positions()[..., 0], 2)
        found = {}
        for row in range(5):
            for column in range(5):
                crop = padded[row : row + 11, column : column + 13]
                found |= {(crop.tobytes(), 0): 0, (crop[:, ::-1].tobytes(), 1): 0}
        known = {key[0]: key for key in found}
        for result in results:  # a result that is no crop would not be known
            found[known[result.tobytes()]] += 1
        assert is_even(list(found.values()))

    @pytest.mark.parametrize("flip", [0.0, 1.0])
    def test_without_padding_only_the_direction_changes(self, flip):
        images = np.stack([photograph(11, 13), photograph(11, 13)[::-1]])
        results = aug.crop_and_flip(images, make_keys(1, tf.range(2)), 0, flip)
        np.testing.assert_array_equal(results, images[:, :, ::-1] if flip else images)


class ResizedCropTest:
    def boxes(self, height, width, min_area):
        keys = make_keys(2, tf.range(2003))
        draw = tf.function(lambda key: aug.crop_box(key, (height, width, 3), min_area))
        return tf.map_fn(draw, keys, fn_output_signature=tf.int32).numpy()

    def test_area_and_aspect_have_the_distributions_of_their_definition(self):
        top, left, height, width = self.boxes(997, 997, 0.08).T
        assert np.all((top >= 0) & (left >= 0) & (top + height <= 997) & (left + width <= 997))
        area, aspect = height * width / 997**2, np.log(width / height)
        # Large areas fit less often: up to 9 / 16, whose widest shape always fits, none is refused.
        small = area[area < 9 / 16]
        assert is_even(np.histogram(small, 7, (0.08, 9 / 16))[0])
        assert is_even(np.histogram(aspect[area < 9 / 16], 7, (-np.log(4 / 3), np.log(4 / 3)))[0])
        assert area.min() < 0.085 and area.max() > 0.97
        assert 0.28 < np.abs(aspect).max() < np.log(4 / 3) + 0.01
        free = (997 - height) > 300
        assert is_even(np.histogram((top / np.maximum(997 - height, 1))[free], 5, (0, 1))[0])

    @pytest.mark.parametrize(
        "size, box", [((11, 997), (0, 491, 11, 15)), ((997, 12), (490, 0, 16, 12))]
    )
    def test_of_a_strip_the_middle_is_taken(self, size, box):
        boxes = self.boxes(*size, min_area=1.0)
        assert np.all(boxes == box)

    def test_the_crop_is_resized_as_pillow_does(self):
        image, key = photograph(53, 71), make_keys(3, 5)
        top, left, height, width = aug.crop_box(key, image.shape, 0.2).numpy().tolist()
        box = (left, top, left + width, top + height)
        theirs = Image.fromarray(image).crop(box).resize((19, 17), Image.Resampling.BICUBIC)
        ours = aug.random_resized_crop(image, key, (17, 19), 0.2).numpy().astype(int)
        assert np.abs(ours - np.asarray(theirs)).max() <= 2


class ResizeAndCropTest:
    @pytest.mark.parametrize("size", [(53, 71), (71, 53), (9, 11)])
    def test_the_middle_is_taken(self, size):
        image = photograph(*size)
        result = aug.resize_and_crop(image, (16, 16), crop=0.8).numpy().astype(int)
        scale = 20 / min(size)
        height, width = (round(side * scale) for side in size)
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        top, left = (height - 16) // 2, (width - 16) // 2
        theirs = np.asarray(resized)[top : top + 16, left : left + 16]
        assert np.abs(result - theirs).max() <= 2

    @pytest.mark.parametrize("shape", [(1, 800_000, 3), (800_000, 1, 3)])
    def test_a_long_thin_image_is_not_enlarged_as_a_whole(self, shape, monkeypatch):
        resize, sizes = aug.resize, []
        monkeypatch.setattr(
            aug, "resize", lambda x, size, how: [sizes.append(size), resize(x, size, how)][1]
        )
        assert aug.resize_and_crop(np.zeros(shape, np.uint8), (16, 16)).shape == (16, 16, 3)
        assert np.max(sizes) <= 5 * 16

    def test_what_is_cut_off_a_long_image_first_changes_nothing(self):
        image = np.tile(photograph(23, 31), (1, 20, 1))
        middle = image[:, 310 - 60 : 310 + 60]
        results = (aug.resize_and_crop(x, (16, 16)).numpy().astype(int) for x in (image, middle))
        assert np.abs(np.subtract(*results)).max() <= 2

    def test_an_image_of_that_size_stays_as_it_is(self):
        image = photograph(17, 19)
        np.testing.assert_array_equal(aug.resize_and_crop(image, (17, 19)), image)


class NormalizeTest:
    def test_mean_and_deviation_become_0_and_1(self):
        levels = np.array([[100, 200], [110, 170], [90, 230]], np.uint8)
        normal = aug.normalize(levels, (100, 200), (10, 30))
        np.testing.assert_allclose(normal, [[0, 0], [1, -1], [-1, 1]], atol=1e-5)


class EraseTest:
    images = tf.fill((MANY, 23, 29, 1), 77.0)
    keys = make_keys(4, tf.range(MANY))

    def test_rectangles_and_noise_have_the_distributions_of_their_definition(self):
        results = aug.erase(self.images, self.keys, 0.25).numpy()[..., 0]
        changed = results != 77
        erased = np.any(changed, axis=(1, 2))
        assert abs(erased.mean() - 0.25) < 4 * (0.1875 / MANY) ** 0.5
        rows, columns = changed[erased].any(2), changed[erased].any(1)
        heights, widths = rows.sum(1), columns.sum(1)
        np.testing.assert_array_equal(heights * widths, changed[erased].sum((1, 2)))
        assert heights.max() < 23 and widths.max() < 29
        shares = heights * widths / (23 * 29)
        assert 0.012 < shares.min() < 0.03 and 0.31 < shares.max() < 0.36
        assert abs(np.median(shares) - (0.02 + 1 / 3) / 2) < 0.02
        aspects = np.log(heights / widths)
        assert abs(aspects.mean()) < 0.05  # as often high as wide
        assert 1.0 < np.abs(aspects).max() < 1.5
        tops, room = rows.argmax(1), 23 - heights
        assert abs(np.mean(tops / np.maximum(room, 1)) - 0.5) < 0.03
        noise = results[changed].astype(np.float64)
        np.testing.assert_allclose([noise.mean(), noise.var()], [0, 1], atol=0.02)

    def test_the_key_alone_decides(self):
        whole = aug.erase(self.images, self.keys, 0.5).numpy()
        some = np.random.default_rng(0).permutation(MANY)[:31]
        part = aug.erase(tf.gather(self.images, some), tf.gather(self.keys, some), 0.5).numpy()
        np.testing.assert_array_equal(part, whole[some])

    @pytest.mark.parametrize("size", [(1, 1), (2, 5), (5, 2)])
    def test_tiny_images_are_no_exception(self, size):
        images = tf.fill((31, *size, 3), 7.0)
        assert np.all(np.isfinite(aug.erase(images, self.keys[:31], 1.0)))


class MixTest:
    images = np.random.default_rng(0).normal(size=(5, 23, 29, 3)).astype(np.float32)
    labels = tf.constant([2, 3, 5, 7, 11])

    def mix(self, recipe, number):
        return aug.mix(self.images, self.labels, make_keys(6, number), recipe)

    def mixed(self, recipe, number=0):
        return [result.numpy() for result in self.mix(recipe, number)]

    def shares(self, recipe, count=1999):
        image, label = tf.zeros((2, 31, 31, 1)), tf.zeros((2,), tf.int32)
        mix = tf.function(lambda key: aug.mix(image, label, key, recipe)[2][0])
        return tf.map_fn(mix, make_keys(7, tf.range(count)), fn_output_signature=tf.float32).numpy()

    def test_mixup_adds_each_image_and_its_opposite(self):
        for number in range(5):
            images, others, share = self.mixed(Recipe(mixup=0.8), number)
            own = share[0]
            assert 0 <= own <= 1 and np.all(share == own)
            expected = own * self.images + (1 - own) * self.images[::-1]
            np.testing.assert_allclose(images, expected, atol=1e-6)
            assert others.tolist() == [11, 7, 5, 3, 2]

    def test_cutmix_puts_a_rectangle_of_the_opposite_into_each_image(self):
        for number in range(5):
            images, others, share = self.mixed(Recipe(cutmix=1.0), number)
            own = np.all(images == self.images, axis=-1)[[0, 1, 3, 4]]  # 2 is its own opposite
            opposite = np.all(images == self.images[::-1], axis=-1)[[0, 1, 3, 4]]
            assert np.all(own ^ opposite) and np.all(opposite == opposite[0])
            cut = opposite[0]
            assert cut.sum() == cut.any(0).sum() * cut.any(1).sum()
            np.testing.assert_allclose(share, 1 - cut.mean(), atol=1e-6)
            assert others.tolist() == [11, 7, 5, 3, 2]

    @pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
    def test_shares_of_mixup_are_beta_distributed(self, alpha):
        shares = self.shares(Recipe(mixup=alpha)).astype(np.float64)
        reference = np.random.default_rng(1).beta(alpha, alpha, 100003)
        points = np.linspace(0.1, 0.9, 7)
        ours, theirs = ((x[:, None] <= points).mean(0) for x in (shares, reference))
        assert np.abs(ours - theirs).max() < 1.95 / 1999**0.5  # Kolmogorov and Smirnov, 0.1 %

    def test_rectangles_of_cutmix_have_the_size_and_place_of_their_definition(self):
        shares, random = self.shares(Recipe(cutmix=1.0)), np.random.default_rng(2)
        own = random.beta(1, 1, 100003)
        half = (31 * np.sqrt(1 - own)).astype(int) // 2
        sides = [
            np.clip(center + half, 0, 31) - np.clip(center - half, 0, 31)
            for center in random.integers(0, 31, (2, 100003))
        ]
        reference = 1 - sides[0] * sides[1] / 31**2
        points = np.linspace(0.1, 0.9, 7)
        ours, theirs = ((x[:, None] <= points).mean(0) for x in (shares, reference))
        assert np.abs(ours - theirs).max() < 1.95 / 1999**0.5

    def test_batches_switch_between_both_and_nothing(self):
        recipe = Recipe(mixup=0.8, cutmix=1.0, mix_probability=0.6, switch_probability=0.3)
        kinds = {"nothing": 0, "mixup": 0, "cutmix": 0}
        mix = tf.function(lambda number: self.mix(recipe, number))
        for number in range(503):
            images, _, share = (result.numpy() for result in mix(tf.constant(number)))
            if np.array_equal(images, self.images):
                kinds["nothing"] += 1
                assert np.all(share == 1)
            else:
                kinds["cutmix" if np.any(images[0] == self.images[0]) else "mixup"] += 1
        # A cut of less than 2 pixels is none: a few more of CutMix's batches change nothing.
        expected = {"nothing": 0.4 + 0.006, "mixup": 0.42, "cutmix": 0.18 - 0.006}
        for kind, count in kinds.items():
            assert abs(count / 503 - expected[kind]) < 0.075, kinds

    def test_the_key_of_the_batch_decides(self):
        recipe = Recipe(mixup=0.8, cutmix=1.0)
        for first, second in zip(self.mixed(recipe, 3), self.mixed(recipe, 3), strict=True):
            np.testing.assert_array_equal(first, second)
        assert self.mixed(recipe, 3)[2][0] != self.mixed(recipe, 4)[2][0]
