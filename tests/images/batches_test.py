"""Tests of batches of images: order, resuming, randomness by key, and the way into a batch."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from pipelines.data.shards import Shard
from pipelines.images.augmentation import Recipe, resize_and_crop
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.dataset import Images

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(1, 256, (23, 11, 13, 3), np.uint8)
LABELS = np.arange(23, dtype=np.int32)  # the label tells which image it is
NAMES = tuple(map(str, LABELS))
IMAGES = Images(PIXELS, LABELS, NAMES, 3)
PLAIN = ((11, 13), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
RICH = Recipe(padding=2, flip=0.5, layers=1, erase=0.5)
MIXED = Recipe(padding=2, flip=0.5, erase=0.5, mixup=0.8, cutmix=1.0)


def train(count, images=IMAGES, batch_size=5, seed=3, recipe=MIXED, size=PLAIN, **keys):
    dataset = training_dataset(images, batch_size, seed, recipe, *size, **keys)
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for batch, other in zip(ours, theirs, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, kind)
    return file.getvalue()


def as_files(folder, pixels):
    for number, image in enumerate(pixels):
        (folder / f"{number}.png").write_bytes(encoded(image))
    return np.array([str(folder / f"{number}.png") for number in range(len(pixels))])


class OrderTest:
    def test_every_epoch_shows_each_image_once_and_batches_go_on_over_its_end(self):
        batches = train(23, recipe=Recipe())
        assert all(len(batch["labels"]) == 5 for batch in batches)
        epochs = np.concatenate([batch["labels"] for batch in batches]).reshape(5, 23)
        assert all(sorted(epoch) == list(range(23)) for epoch in epochs)

    def test_each_epoch_and_each_seed_has_its_own_order(self):
        orders = {
            tuple(batch["labels"])
            for seed in range(2)
            for batch in train(2, batch_size=23, seed=seed, recipe=Recipe())
        }
        assert len(orders) == 4

    def test_places_are_even(self):
        shown = train(1200, batch_size=23, recipe=Recipe(), size=((1, 1), *PLAIN[1:]))
        first = np.bincount([batch["labels"][0] for batch in shown], minlength=23)
        assert abs(first - 1200 / 23).max() < 4.5 * (1200 / 23) ** 0.5

    def test_repeats_stand_together_and_are_changed_differently(self):
        recipe = Recipe(repeats=3, padding=2)
        batches = train(3, batch_size=6, recipe=recipe)
        labels = np.concatenate([batch["labels"] for batch in batches])
        assert np.all(labels.reshape(-1, 3) == labels[::3, None])
        assert len(set(labels)) == 6  # 18 places of an epoch
        copies = np.concatenate([batch["images"] for batch in batches])
        different = [np.any(a != b) for a, b in itertools.pairwise(copies)]
        assert np.mean(different) > 0.9


class ResumingTest:
    @pytest.mark.parametrize("begin", [3, 4, 5, 23])
    def test_from_any_point_the_same_batches_follow(self, begin):
        assert_equal(train(25 - begin, start_batch=begin), train(25)[begin:])

    def test_fewer_images_than_a_batch_are_refused(self):
        with pytest.raises(ValueError, match="at least batch_size=24 images, received 23"):
            train(1, batch_size=24)


class RandomnessTest:
    def by_image(self, batches, name="images"):
        return {n: x for b in batches for n, x in zip(b["labels"], b[name], strict=True)}

    def test_seed_epoch_and_image_alone_decide_what_is_done(self):
        small = train(11, batch_size=2, recipe=RICH, num_random=3)
        large = train(1, batch_size=23, recipe=RICH, num_random=3)
        for name in ("images", "random"):
            few, all_of_them = self.by_image(small, name), self.by_image(large, name)
            assert len(few) == 22  # those of the first epoch
            for number, values in few.items():
                np.testing.assert_array_equal(values, all_of_them[number])
        drawn = large[0]["random"]
        assert drawn.shape == (23, 3) and len(set(drawn.ravel())) == 69
        assert 0 < drawn.min() < 0.1 and 0.9 < drawn.max() < 1

    @pytest.mark.parametrize("keys", [{"seed": 4}, {"start_batch": 1}])
    def test_another_seed_or_epoch_does_something_else(self, keys):
        options = {"recipe": Recipe(padding=2, flip=0.5), "num_random": 3, "batch_size": 23}
        batches = train(1, **options), train(1, **options | keys)
        for name in ("images", "random"):
            first, second = (self.by_image(x, name) for x in batches)
            assert np.mean([np.any(first[n] != second[n]) for n in range(23)]) > 0.8

    def test_batches_are_mixed_each_in_its_own_way(self):
        shares = [batch["share"] for batch in train(20)]
        assert all(np.all(share == share[0]) for share in shares)
        assert len({float(share[0]) for share in shares}) > 15


class ShardTest:
    """Processes make parts of the same batches, mixtures included."""

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_the_parts_are_the_batch(self, count):
        whole = train(7, recipe=MIXED)
        parts = [train(7, recipe=MIXED, shard=Shard(i, count, count)) for i in range(count)]
        for batch, *own in zip(whole, *parts, strict=True):
            rows = {
                name: np.concatenate([part[name] for part in own]) for name in ("images", "labels")
            }
            order, expected = np.argsort(rows["labels"]), np.argsort(batch["labels"])
            assert len(order) == 5
            for name, values in rows.items():
                np.testing.assert_array_equal(values[order], batch[name][expected])
        sizes = {len(part[0]["labels"]) for part in parts}
        assert max(sizes) - min(sizes) <= 2


class ContentTest:
    def test_without_a_recipe_images_are_only_normalised(self):
        mean, deviation = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
        batch = train(1, recipe=Recipe(), size=((11, 13), mean, deviation))[0]
        expected = (PIXELS[batch["labels"]] - np.array(mean)) / deviation
        np.testing.assert_allclose(batch["images"], expected, atol=1e-5)
        np.testing.assert_array_equal(batch["other_labels"], batch["labels"])
        assert batch["share"].tolist() == [1.0] * 5
        assert batch["images"].dtype == np.float32 and batch["labels"].dtype == np.int32

    def test_shapes_are_static(self):
        spec = training_dataset(IMAGES, 5, 3, MIXED, *PLAIN).element_spec
        assert {name: tuple(value.shape) for name, value in spec.items()} == {
            "images": (5, 11, 13, 3),
            "labels": (5,),
            "other_labels": (5,),
            "share": (5,),
        }

    def test_what_geometry_leaves_empty_has_the_mean_colour(self):
        size = ((11, 13), (30.0, 60.0, 90.0), (1.0, 1.0, 1.0))
        batches = train(40, recipe=Recipe(layers=2, magnitude_std=0.0), size=size)
        corners = np.concatenate([batch["images"] for batch in batches])[:, ::10, ::12]
        assert np.mean(np.all(corners == 0, axis=-1)) > 0.1

    @pytest.mark.parametrize(
        "recipe, channels", [(Recipe(padding=2), 1), (Recipe(min_area=0.3, flip=0.5), 3)]
    )
    def test_arrays_files_and_encoded_images_give_the_same_batches(
        self, tmp_path, recipe, channels
    ):
        pixels = PIXELS[..., :channels]
        size = ((7, 5), *(values[:channels] for values in PLAIN[1:]))
        bytes_of = np.array([encoded(image) for image in pixels], object)
        forms = [
            Images(form, LABELS, NAMES, channels)
            for form in (pixels, as_files(tmp_path, pixels), bytes_of)
        ]
        first, *others = [train(3, images=form, recipe=recipe, size=size) for form in forms]
        for other in others:
            assert_equal(first, other)

    def test_images_of_several_sizes_are_brought_to_one(self):
        pixels = [image[: 4 + number % 7] for number, image in enumerate(PIXELS)]
        images = IMAGES._replace(pixels=np.array([encoded(image) for image in pixels], object))
        batch = train(1, images=images, recipe=Recipe())[0]
        for image, number in zip(batch["images"], batch["labels"], strict=True):
            np.testing.assert_array_equal(image, resize_and_crop(pixels[number], (11, 13)))


class EvaluationTest:
    def test_each_image_comes_once_in_order_and_the_last_batch_is_filled_up(self):
        size = ((11, 13), (100.0,) * 3, (50.0,) * 3)
        batches = list(evaluation_dataset(IMAGES, 5, *size).as_numpy_iterator())
        assert [batch["images"].shape for batch in batches] == [(5, 11, 13, 3)] * 5
        labels = np.concatenate([batch["labels"] for batch in batches])
        assert labels.tolist() == [*range(23), -1, -1]
        images = np.concatenate([batch["images"] for batch in batches])
        np.testing.assert_allclose(images[:23], (PIXELS - 100.0) / 50, atol=1e-5)
        assert np.all(images[23:] == 0)

    def test_images_are_resized_and_the_middle_is_kept(self, tmp_path):
        images = IMAGES._replace(pixels=as_files(tmp_path, PIXELS))
        size = ((7, 5), *PLAIN[1:])
        batch = next(evaluation_dataset(images, 3, *size, crop=0.8).as_numpy_iterator())
        for image, pixels in zip(batch["images"], PIXELS[:3], strict=True):
            np.testing.assert_array_equal(image, resize_and_crop(pixels, (7, 5), 0.8))


class BalanceTest:
    LABELS = np.array([0] * 40 + [1] * 3 + [3] * 7, np.int32)  # Nothing is of class 2.

    def batches(self, count, **options):
        pixels = np.zeros((50, 5, 7, 1), np.uint8)
        pixels[:, 0, 0, 0] = np.arange(50)
        images = Images(pixels, self.LABELS, tuple("abcd"), 1)
        dataset = training_dataset(images, 25, 3, Recipe(), (5, 7), (0.0,), (1.0,), **options)
        return list(dataset.take(count).as_numpy_iterator())

    def test_each_class_is_drawn_equally_often_and_every_image_at_some_time(self):
        found = self.batches(24, is_balanced=True)
        labels = np.concatenate([batch["labels"] for batch in found])
        counts = np.bincount(labels, minlength=4)
        assert counts[2] == 0
        assert np.abs(counts[[0, 1, 3]] - 200).max() <= 12
        numbers = np.concatenate([batch["images"][:, 0, 0, 0] for batch in found]).astype(int)
        np.testing.assert_array_equal(self.LABELS[numbers], labels)
        assert set(numbers) == set(range(50))
        (later,) = self.batches(1, is_balanced=True, start_batch=17)
        np.testing.assert_array_equal(later["images"], found[17]["images"])

    def test_an_image_that_an_epoch_draws_twice_is_changed_each_time(self):
        pixels = RANDOM.integers(0, 256, (50, 5, 7, 1), np.uint8)
        images = Images(pixels, self.LABELS, tuple("abcd"), 1)
        size = ((5, 7), (0.0,), (1.0,))
        (batch,) = train(1, images, 50, recipe=Recipe(padding=2), size=size, is_balanced=True)
        rare = batch["images"][batch["labels"] == 1]  # About 17 views of 3 images.
        assert len({image.tobytes() for image in rare}) > len(rare) * 0.7 > 3

    def test_the_share_of_an_image_has_the_weight_of_its_class(self):
        weights = [0.5, 3.0, 7.0, 2.0]
        (plain,), (found,) = self.batches(1), self.batches(1, class_weights=weights)
        np.testing.assert_array_equal(plain["labels"], found["labels"])
        np.testing.assert_allclose(found["share"], np.array(weights)[found["labels"]])
        np.testing.assert_allclose(found["other_share"], 0)
