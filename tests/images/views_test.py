"""Views of images: what they are, that keys decide them, and where streams begin and end."""

import dataclasses
import io

import ml_collections
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.data.shards import Shard
from pipelines.images import views
from pipelines.images.augmentation import crop_box, random_resized_crop
from pipelines.images.batches import rows_of_shard
from pipelines.images.dataset import Images
from pipelines.images.keyed_random import make_keys
from pipelines.images.views import MultiCrop

PIXELS = np.random.default_rng(0).integers(1, 256, (11, 13, 17, 3), np.uint8)
IMAGES = Images(PIXELS, np.zeros(11, np.int32), (), 3)
NORMALIZATION = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
SIZE = (13, 11)
RECIPE = MultiCrop(local_count=3, local_size=7)
NOTHING = {"flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": (0, 0, 0), "solarize": (0, 0, 0)}


def train(images=IMAGES, **keys):
    return views.views_for_training(images, 5, 3, RECIPE, SIZE, *NORMALIZATION, **keys)


def assert_equal(ours, theirs):
    for name in ("global_views", "local_views"):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.fixture(scope="module")
def batches():
    dataset = train()
    shapes = {name: tuple(spec.shape) for name, spec in dataset.element_spec.items()}
    assert shapes == {"global_views": (5, 2, 13, 11, 3), "local_views": (5, 3, 7, 7, 3)}
    return list(dataset.take(5).as_numpy_iterator())


class RecipeTest:
    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"flip": 1.5}, "config.views is wrong: .*flip=1.5"),
            ({"hue": 0.6}, "hue to be at least 0 and at most 0.5"),
            ({"blur": (1.0, 0.5)}, "blur to be 3 numbers"),
            ({"blur": (1.0, 0.5, "x")}, "blur to be 3 numbers"),
            ({"solarize": (0.0, 0.2, 2.0)}, r"solarize\[2\]=2.0"),
            ({"local_area": (0.4, 0.1)}, r"a smaller and a larger number, .*local_area=\(0.4, 0.1"),
            ({"local_area": (0.0, 0.1)}, r"local_area\[0\] to be at least 0.001"),
            ({"local_size": 0}, "local_size to be at least 1"),
        ],
    )
    def test_a_number_outside_its_range_is_named(self, keys, words):
        config = ml_collections.ConfigDict({"views": {**dataclasses.asdict(RECIPE), **keys}})
        with pytest.raises(ValueError, match=words):
            views.read_multi_crop(config)


class CropsTest:
    def test_a_batch_of_them_is_what_each_is_alone(self):
        keys = make_keys(2, tf.range(11))
        crops = views.random_crops(tf.constant(PIXELS), keys, SIZE, 0.05, 0.4)
        for pixels, key, crop in zip(PIXELS, keys, crops, strict=True):
            alone = random_resized_crop(tf.constant(pixels), key, SIZE, 0.05, 0.4)
            assert np.abs(crop.numpy().astype(int) - alone.numpy()).max() <= 1

    def test_areas_lie_between_their_ends(self):
        boxes = crop_box(make_keys(2, tf.range(2003)), (997, 997), 0.05, 0.4).numpy()
        areas = np.prod(boxes[:, 2:] / 997, axis=1)
        counts = np.histogram(areas, 7, (0.05, 0.4))[0]
        assert areas.min() > 0.049 and areas.max() < 0.401
        assert np.abs(counts - 2003 / 7).max() < 4 * (2003 / 7) ** 0.5


class ChangeTest:
    def change(self, **keys):
        recipe = MultiCrop(**NOTHING | keys)
        kinds = (views.FIRST, views.SECOND, views.LOCAL)
        keys = make_keys(1, tf.range(11)[:, None], tf.range(3))
        copies = np.repeat(PIXELS[:, None], 3, axis=1)
        return copies, views.change(tf.constant(copies), keys, recipe, kinds).numpy()

    def test_without_changes_nothing_changes(self):
        np.testing.assert_array_equal(*self.change())

    def test_solarisation_and_blur_have_a_probability_for_each_kind(self):
        before, after = self.change(solarize=(0.0, 1.0, 0.0), blur=(0.0, 0.0, 1.0))
        expected = np.where(before < 128, before, 255 - before)
        np.testing.assert_array_equal(after[:, 0], before[:, 0])
        np.testing.assert_array_equal(after[:, 1], expected[:, 1])
        spread = [x[:, 2].std(axis=(1, 2)).mean() for x in (before, after)]
        assert spread[1] < 0.8 * spread[0]

    def test_mirroring_and_gray_are_for_all(self):
        before, after = self.change(flip=1.0, gray=1.0)
        assert np.all(after == after[..., :1])
        levels = before.astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(after[..., 0] - levels[..., ::-1]).max() < 1


class TrainingTest:
    def test_views_are_normalised_levels(self, batches):
        levels = batches[0]["global_views"] * NORMALIZATION[1] + NORMALIZATION[0]
        assert np.abs(levels - np.round(levels)).max() < 1e-3
        assert levels.min() > -0.01 and 200 < levels.max() < 255.01

    def test_all_views_differ(self, batches):
        for name in ("global_views", "local_views"):
            flat = np.concatenate(
                [batch[name].reshape(-1, *batch[name].shape[2:]) for batch in batches]
            )
            assert len({view.tobytes() for view in flat}) == len(flat)

    def test_from_any_batch_the_same_follow_and_a_process_makes_its_rows_alone(self, batches):
        later = train(start_batch=3, shard=Shard(1, 2, 2)).take(2).as_numpy_iterator()
        for ours, whole in zip(later, batches[3:], strict=True):
            assert_equal(
                ours, {name: x[rows_of_shard(5, Shard(1, 2))] for name, x in whole.items()}
            )

    def test_encoded_images_give_the_same_views(self, batches):
        files = []
        for pixels in PIXELS:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            files.append(file.getvalue())
        images = IMAGES._replace(pixels=np.array(files, object))
        batch = next(train(images).as_numpy_iterator())
        for name, expected in batches[0].items():
            assert np.mean(np.abs(batch[name] - expected) > 0.05) < 0.01


class ValidationTest:
    def test_each_image_comes_once_with_the_same_views(self):
        dataset = views.views_for_validation(IMAGES, 7, RECIPE, SIZE, *NORMALIZATION)
        first, second = (list(dataset.as_numpy_iterator()) for _ in range(2))
        assert [batch["real"].sum() for batch in first] == [7, 4]
        for ours, theirs in zip(first, second, strict=True):
            assert_equal(ours, theirs)
