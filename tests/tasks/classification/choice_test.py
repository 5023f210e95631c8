"""Own pictures, from the files to the answer of an export, by the config `my_images`."""

import json

import ml_collections
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.configs import my_images
from pipelines.images.labelled import read_splits
from pipelines.runs import evaluation, export
from pipelines.tasks import classification
from pipelines.training import loop
from tests import own_pictures


def chosen(folder, **changes):
    """Returns what the pictures of a folder decide."""
    config = ml_collections.ConfigDict(my_images.get_config().to_dict(), type_safe=False)
    config.train.precision = "float32"  # It is the machine that decides that.
    config.update_from_flattened_dict({"data.folder": str(folder), **changes})
    return classification.resolve(config)


def copies(folder, count, size=(200, 300)):
    """Writes one picture many times over; names are what is counted."""
    image = own_pictures.encoded(own_pictures.photograph(1, 1, size), "JPEG")
    names = [f"{('ant', 'bee')[i % 2]}/{i}.jpg" for i in range(count)]
    own_pictures.write(folder, dict.fromkeys(names, image))


class ResolveTest:
    def test_photographs_get_a_large_model_and_a_run_that_fits_their_number(self, tmp_path, capsys):
        copies(tmp_path, 100)
        few = chosen(tmp_path)
        copies(tmp_path, 2000)
        many = chosen(tmp_path)
        assert (few.model.image_size, few.serve.crop, few.augment.min_area) == (224, 0.875, 0.25)
        assert few.train.batch_size == 8 and many.train.batch_size == 64
        assert few.train.epochs == 100 > many.train.epochs == round(100_000 / 1600)
        for config in (few, many):
            assert '"auto"' not in config.to_json()
            classification.check(config)
        said = capsys.readouterr().out
        assert said.startswith("Chosen for 100 pictures of 2 classes, whose shorter side is 200 ")
        assert "model.image_size=224" in said and "data.validation='10%'" in said

    def test_small_ones_get_a_small_model_that_sees_every_pixel(self, tmp_path):
        own_pictures.split_folders(tmp_path)
        config = chosen(tmp_path)
        assert (config.model.image_size, config.serve.crop, config.augment.padding) == (32, 1.0, 4)
        assert (config.data.train, config.data.validation, config.data.test) == (
            *("train", "val", "test"),
        )
        assert config.train.batch_size == 1 and config.augment.flip == 0.5
        mixer = chosen(tmp_path, **{"model.name": "mixer"})
        assert (config.model.variant, mixer.model.variant) == ("CCT-4/3x3", "Lite-4/4")

    def test_gray_ones_have_one_channel_and_are_not_mirrored(self, tmp_path):
        own_pictures.spreadsheet_of_xrays(tmp_path)
        config = chosen(tmp_path)
        assert (config.data.format, config.data.channels) == ("csv", 1)
        assert config.augment.flip == 0

    def test_what_is_given_stays_and_the_rest_fits_to_it(self, tmp_path):
        copies(tmp_path, 100)
        given = {"model.image_size": 48, "train.epochs": 3, "data.validation": "40%"}
        config = chosen(tmp_path, **given)
        assert (config.model.image_size, config.train.epochs) == (48, 3)
        assert config.data.validation == "40%" and config.train.batch_size == 4
        default = classification.default_config()
        assert classification.resolve(default) is default

    def test_some_classes_may_be_chosen_by_a_text_or_numbers(self, tmp_path):
        image = own_pictures.encoded(own_pictures.photograph(1, 1, (60, 60)), "PNG")
        names = [f"{name}/{number}.png" for name in ("1", "2", "cat") for number in range(9)]
        own_pictures.write(tmp_path, dict.fromkeys(names, image))
        for value in ("1, 2", (1, 2), ["2", "1"]):
            config = chosen(tmp_path, **{"data.classes": value, "data.validation": "10.5%"})
            assert config.train.batch_size == 1  # Of 14 pictures.
            assert set(read_splits(config.data, ("train",))["train"].class_names) == {"1", "2"}

    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("data.classes", ("dog", ("cat", "cat"), 0.5)),
            ("data.train", (("a", "b"), 2024)),
            ("data.test", (10,)),
            ("data.validation", (0.1,)),
            ("train.epochs", ("abc", "5%", 0)),
            ("train.batch_size", ("abc", None, 0)),
            ("train.steps", ("abc",)),
            ("model.image_size", ("abc", None)),
        ],
    )
    def test_a_value_of_another_kind_is_one_sentence(self, tmp_path, key, values):
        own_pictures.write(tmp_path, dict.fromkeys(("cat/1.png", "ant/2.png"), b""))
        for value in values:
            with pytest.raises(ValueError, match=f"Expected {key} to be .*, received {key}="):
                read_splits(chosen(tmp_path, **{key: value}).data, ("train", "validation", "test"))

    def test_no_folder_is_one_sentence(self):
        with pytest.raises(ValueError, match="a value for data.folder, received data.folder=''"):
            chosen("")


def from_files_to_answer(folder, run, **changes):
    """Trains a tiny model for a few steps, and evaluates and exports it."""
    config = my_images.get_config()
    config.model.update(num_layers=1, hidden_dim=12, num_heads=3, intermediate_dim=13)
    config.model.update(variant="ViT-Lite-6/4", patch_size=8)
    config.train.update(batch_size=3, epochs=30, learning_rate=0.01, warmup_steps=1, ema=0.0)
    config.train.update(validate_every="100%", checkpoint_every="100%", precision="float32")
    config.data.folder = str(folder)
    config.update_from_flattened_dict(changes)
    loop.train(classification, config, str(run))
    config = ml_collections.ConfigDict(json.loads((run / "config.json").read_text()))
    scores, table = evaluation.evaluate(classification, config, str(run), "last", "test")
    path = export.export(classification, config, str(run), "last")
    return config, scores, tf.saved_model.load(str(path)).signatures


@pytest.mark.integration
class OwnPicturesTest:
    def test_camera_pictures_from_a_mac_three_to_a_class(self, tmp_path, capsys):
        own_pictures.zip_from_a_mac(tmp_path / "zip")
        changes = {"model.image_size": (24, 40)}
        config, scores, signatures = from_files_to_answer(
            tmp_path / "zip", tmp_path / "run", **changes
        )
        said = capsys.readouterr().out
        assert "Chosen for 9 pictures of 3 classes" in said and "Left out 2 files" in said
        assert "3 to train, 3 to validate, 3 classes" in said
        assert scores["images"] == 3 and set(scores["per_class"]) == set(own_pictures.CLASSES)
        assert scores["top1"] == 1.0  # The red of each is that of its class.
        image = own_pictures.photograph(2, 99, (40, 90))
        files = [own_pictures.camera(image, turn) for turn in (1, 6)]
        found = signatures["classify"](image=tf.constant(files))
        assert found["class_names"][:, 0].numpy().tolist() == [b"cat", b"cat"]
        first, second = signatures["attention"](image=tf.constant(files))["pixels"].numpy()
        assert first.shape == (24, 40, 3)
        assert np.abs(first.astype(int) - second).mean() < 5

    def test_a_spreadsheet_of_gray_pictures_of_16_bits(self, tmp_path):
        own_pictures.spreadsheet_of_xrays(tmp_path)
        config = chosen(tmp_path, **{"model.image_size": 24, "data.class_weights": "balanced"})
        config.model.update(num_layers=1, hidden_dim=12, num_heads=3, intermediate_dim=13)
        data = classification.datasets(config, str(tmp_path))
        batch = next(iter(data.train(0)))
        assert batch["images"].shape == (1, 24, 24, 1)
        model = classification.build(config, str(tmp_path))
        signatures = classification.serving(model, config, str(tmp_path)).signatures()
        image = own_pictures.xray(own_pictures.photograph(2, 77, (60, 60)))
        found = signatures["classify"](image=tf.constant([image]))
        assert set(found["class_names"][0].numpy()) == {b"healthy", b"ill"}

    def test_a_table_of_several_labels(self, tmp_path):
        rows = ["path,red,blue"]
        for number in range(20):
            red, blue = number % 2, number // 2 % 2
            pixels = np.full((8, 8, 3), (200 * red + number, 20, 200 * blue), np.uint8)
            image = own_pictures.encoded(Image.fromarray(pixels), "PNG")
            own_pictures.write(tmp_path, {f"{number}.png": image})
            rows.append(f"{number}.png,{red},{blue}")
        (tmp_path / "labels.csv").write_text("\n".join(rows))
        config = chosen(tmp_path, **{"data.labels": "multi", "model.image_size": 24})
        config.model.update(num_layers=1, hidden_dim=12, num_heads=3, intermediate_dim=13)
        config.train.label_smoothing = 0.0
        data = classification.datasets(config, str(tmp_path))
        model = classification.build(config, str(tmp_path))
        model.head.bias.assign([3.0, -2.0])  # The kernel of a new head is zero.
        batch = next(iter(data.train(0)))
        share = batch["share"][:, None]
        mixed = share * tf.cast(batch["labels"], tf.float32)
        mixed += (1 - share) * tf.cast(batch["other_labels"], tf.float32)
        logits = tf.tile([[3.0, -2.0]], [len(mixed), 1])
        expected = tf.nn.sigmoid_cross_entropy_with_logits(mixed, logits)
        total, count = classification.loss(model, batch, config)
        assert float(count) == len(mixed)
        np.testing.assert_allclose(total, tf.reduce_sum(expected), rtol=1e-5)
        sums = classification.metrics(model, next(iter(data.validation)), config)
        found = classification.finish(sums)
        validation = read_splits(config.data, ("validation",))["validation"].labels
        labelled = validation[validation.any(axis=1)]
        assert len(labelled) < len(validation) == float(sums["loss"][1])
        assert found["top1"] == labelled[:, 0].mean() and found["top5"] == 1
        assert classification.finish({"top1": (0.0, 0.0)}) == {"top1": 0}
        module = classification.serving(model, config, str(tmp_path))
        scores, table, pictures, rows = classification.evaluate(module, config, "test")
        metric = "mean_average_precision"
        validated = classification.validation_scorer(model, config, str(tmp_path))()
        expected = classification.evaluate(module, config, "validation").scores
        assert validated == {metric: expected[metric]}
        (tmp_path / "none.csv").write_text("path,red,blue\n0.png,0,0\n4.png,0,0")
        unlabelled = config.copy_and_resolve_references()
        unlabelled.data.validation = "none.csv"
        with pytest.raises(ValueError, match="with a label, .*received 2 images without any"):
            classification.validation_scorer(model, unlabelled, str(tmp_path))
        (tmp_path / "none.csv").unlink()
        assert 0 < scores[metric] <= 1 and "average precision, %" in table
        assert set(pictures) == {"mistakes"} and len(rows) == scores["images"]
        assert {row["prediction"] for row in rows} == {module.description["class_names"][0]}
        found = module.classify(tf.constant([image]))
        np.testing.assert_allclose(found["probabilities"], tf.sigmoid([[3.0, -2.0]]), rtol=1e-5)
        for key, value in (("data.sampling", "balanced"), ("data.class_weights", (1, 2))):
            changed = chosen(tmp_path, **{"data.labels": "multi", key: value})
            with pytest.raises(ValueError, match=f"no {key} with data.labels=.multi."):
                classification.check(changed)
        config.train.best_metric, config.data.labels = metric, "one"
        with pytest.raises(
            ValueError, match=f"data.labels=.multi. with train.best_metric=.{metric}"
        ):
            classification.check(config)

    def test_every_kind_is_split_and_read(self, tmp_path):
        counts = {"zip_from_a_mac": 9, "spreadsheet_of_xrays": 12, "split_folders": 18}
        for name, count in counts.items():
            getattr(own_pictures, name)(tmp_path / name)
            config = chosen(tmp_path / name)
            splits = read_splits(config.data, ("train", "validation", "test"))
            assert sum(len(images.labels) for images in splits.values()) == count
            assert {i.channels for i in splits.values()} == {1 if "xrays" in name else 3}
