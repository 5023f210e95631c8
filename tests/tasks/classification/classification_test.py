"""The classification task end to end: it learns to name the colour of a square."""

import csv
import json
import re
import shutil
import sys

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from pipelines.data.shards import Shard
from pipelines.images.description import read_description
from pipelines.images.models import make
from pipelines.runs import evaluation, export
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.config import write_config
from pipelines.runs.files import write_text
from pipelines.runs.weights import assign, load_model, model_variables
from pipelines.tasks import classification
from pipelines.training import loop
from tests.own_pictures import code_of_the_docs

COLOURS = {"blue": (30, 40, 220), "green": (40, 200, 60), "red": (210, 30, 50)}
SIZE = 8


def squares(count, seed):
    """Draws squares of random places on gray noise; returns pixels and labels."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 130, (count, SIZE, SIZE, 3)).astype(np.uint8)
    labels = np.arange(count) % len(COLOURS)
    for image, label, (row, column) in zip(
        pixels, labels, random.integers(0, SIZE - 3, (count, 2)), strict=True
    ):
        image[row : row + 3, column : column + 3] = list(COLOURS.values())[label]
    return pixels, labels


def make_config(folder, **changes):
    config = classification.default_config()
    config.data.update(format="npz", folder=str(folder))
    config.data.update({split: f"{split}.npz" for split in ("train", "validation", "test")})
    config.model.update(variant="ViT-Lite-6/4", image_size=SIZE, patch_size=2, num_layers=1)
    config.model.update(hidden_dim=12, num_heads=3, intermediate_dim=13, attention_dropout=0.0)
    config.augment.update(padding=1, flip=0.5)
    config.train.update(steps=120, batch_size=24, learning_rate=0.01, warmup_steps=10)
    config.train.update(validate_every=120, checkpoint_every=120, ema=0.9)
    config.serve.batch_size = 17
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    for split, (count, seed) in {"train": (301, 1), "validation": (41, 2), "test": (53, 3)}.items():
        pixels, labels = squares(count, seed)
        np.savez(folder / f"{split}.npz", images=pixels, labels=labels, class_names=list(COLOURS))
    return folder


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    """The folder of a run with a trained model."""
    folder = tmp_path_factory.mktemp("run")
    loop.train(classification, make_config(data), str(folder))
    return folder


def load(workdir, config, weights="last"):
    return load_model(classification.build, config, str(workdir), weights)


def short(workdir, config):
    """Trains a few steps of a run and returns its model."""
    config.train.update(steps=3, warmup_steps=1, validate_every=3, checkpoint_every=3, ema=0.0)
    loop.train(classification, config, str(workdir))
    return load(workdir, config)


class CheckTest:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("augment.flip", 2.0),
            ("teacher.kind", "strict"),
            ("teacher.alpha", -0.5),
            ("model.variant", "ViT-XXL"),
            ("train.batch_size", 0),
            ("serve.crop", 0.0),
            ("start.freeze", True),
            ("train.layer_decay", -0.5),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_is_written(self, data, tmp_path, key, value):
        config = make_config(data, **{key: value})
        with pytest.raises(ValueError, match=f"{key.split('.')[1]}.*{value}") as caught:
            loop.train(classification, config, str(tmp_path / "run"))
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()

    def test_a_key_of_the_data_that_nothing_reads_is_named(self, data, tmp_path):
        config = make_config(data)
        config.data.clases = ("red",)
        with pytest.raises(ValueError, match=r"received data.clases=\('red',\)"):
            loop.train(classification, config, str(tmp_path / "run"))

    def test_a_model_argument_that_does_not_exist_is_named(self, workdir, data):
        config = make_config(data)
        config.model.colour = "blue"
        with pytest.raises(ValueError, match="colour"):
            classification.build(config, str(workdir))


class DatasetsTest:
    def test_the_run_keeps_what_its_model_must_know_of_the_images(self, workdir, data):
        described = read_description(workdir)
        pixels = np.load(data / "train.npz")["images"].astype("float64")
        assert described["class_names"] == list(COLOURS) and described["channels"] == 3
        np.testing.assert_allclose(described["mean"], pixels.mean(axis=(0, 1, 2)))
        np.testing.assert_allclose(described["deviation"], pixels.std(axis=(0, 1, 2)))

    def test_a_stream_goes_on_in_the_middle_of_an_epoch(self, workdir, data):
        found = classification.datasets(make_config(data), str(workdir))
        assert found.batches_per_epoch == 301 / 24
        expected, later = (next(iter(x)) for x in (found.train(12).skip(5), found.train(17)))
        for name, value in expected.items():
            assert np.array_equal(later[name], value)

    def test_a_batch_must_have_an_image_for_each_replica(self, workdir, data):
        with pytest.raises(ValueError, match="at least the 25 replicas.*batch_size=24"):
            classification.datasets(make_config(data), str(workdir), Shard(num_replicas=25))

    def test_a_run_does_not_go_on_with_other_images(self, workdir, data, tmp_path):
        shutil.copytree(data, tmp_path / "data")
        shutil.copytree(workdir, tmp_path / "run")
        config = make_config(tmp_path / "data")
        loop.train(classification, config, str(tmp_path / "run"))
        pixels, labels = squares(301, seed=5)
        names = list(COLOURS)
        np.savez(tmp_path / "data/train.npz", images=pixels, labels=labels, class_names=names)
        with pytest.raises(ValueError, match="another set of training images"):
            loop.train(classification, config, str(tmp_path / "run"))

    def test_a_run_that_never_got_to_a_checkpoint_describes_its_images_anew(self, data, tmp_path):
        config = make_config(data, **{"data.classes": ("blue", "red")})
        classification.datasets(config, str(tmp_path))
        classification.datasets(make_config(data), str(tmp_path))
        assert read_description(str(tmp_path))["class_names"] == list(COLOURS)

    def test_other_classes_to_validate_are_refused(self, data, tmp_path):
        shutil.copytree(data, tmp_path / "data")
        pixels, labels = squares(41, seed=2)
        names = list(COLOURS)[::-1]
        np.savez(tmp_path / "data/validation.npz", images=pixels, labels=labels, class_names=names)
        with pytest.raises(ValueError, match=r"'green', 'red'\) and 3, in split='validation'"):
            classification.datasets(make_config(tmp_path / "data"), str(tmp_path))


class LossTest:
    def test_a_mixed_image_belongs_to_both_labels_in_its_shares(self, workdir, data):
        config, model = make_config(data), load(workdir, make_config(data))
        random = np.random.default_rng(7)
        images = random.standard_normal((5, SIZE, SIZE, 3)).astype("float32")
        own, other = np.array([0, 1, 2, 0, 1]), np.array([1, 1, 0, 2, 2])
        share = np.array([1.0, 0.25, 0.5, 0.0, 0.75], "float32")
        batch = {"images": images, "labels": own, "other_labels": other, "share": share}
        batch = {name: tf.constant(value) for name, value in batch.items()}
        total, count = classification.loss(model, batch, config)
        log_probs = np.array(tf.nn.log_softmax(model(images)))
        targets = share[:, None] * np.eye(3)[own] + (1 - share[:, None]) * np.eye(3)[other]
        targets = 0.9 * targets + 0.1 / 3
        assert float(count) == 5
        np.testing.assert_allclose(total, -np.sum(targets * log_probs), rtol=1e-4)

    def test_what_fills_up_the_last_batch_counts_for_nothing(self, workdir, data):
        config, model = make_config(data), load(workdir, make_config(data))
        images = np.random.default_rng(7).standard_normal((3, SIZE, SIZE, 3)).astype("float32")
        labels = np.array([2, 0, -1], "int32")
        found, expected = (
            classification.metrics(model, {"images": images[:n], "labels": labels[:n]}, config)
            for n in (3, 2)
        )
        assert found.keys() == {"loss", "top1", "top5", "smoothed_loss"}
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
        assert float(found["top1"][1]) == 2 and float(found["top5"][0]) == 2
        log_probs = np.array(tf.nn.log_softmax(model(images[:2])))
        expected = -0.9 * log_probs[[0, 1], labels[:2]] - 0.1 * log_probs.mean(axis=1)
        np.testing.assert_allclose(found["smoothed_loss"][0], expected.sum(), rtol=1e-4)


class LearningTest:
    def test_it_names_the_colours_of_squares_it_has_not_seen(self, workdir, data):
        scores, _ = evaluation.evaluate(
            classification, make_config(data), str(workdir), "last", "test"
        )
        assert scores["top1"] > 0.9 and scores["top5"] == 1.0 and scores["images"] == 53
        assert all(name in (workdir / "evaluation-test.md").read_text() for name in COLOURS)
        with open(workdir / "evaluation-test-predictions.tsv", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert [row["image"] for row in rows] == [str(index) for index in range(53)]
        right = np.mean([row["reference"] == row["prediction"] for row in rows])
        assert right == pytest.approx(scores["top1"])
        pictures = {path.name for path in workdir.glob("evaluation-test-*.png")}
        assert pictures == {"evaluation-test-confusion.png", "evaluation-test-mistakes.png"}

    def test_the_example_is_the_first_of_the_validation_set(self, workdir, data):
        config = make_config(data)
        module = classification.serving(load(workdir, config), config, str(workdir))
        assert "input: the first image of the validation set, blue" in classification.example(
            module, config
        )


class RuntimesTest:
    @pytest.mark.parametrize("format", ["onnx", "litert"])
    def test_another_runtime_gives_names_and_probabilities_in_float32(
        self, workdir, data, tmp_path, format, monkeypatch, capsys
    ):
        shutil.copytree(workdir, tmp_path / "run")
        config = make_config(data, **{"train.precision": "mixed_bfloat16"})
        path = export.export(classification, config, str(tmp_path / "run"), "last", format)
        assert path == tmp_path / "run" / f"export_{format}" / "1"
        images, _ = squares(7, seed=5)
        if format == "onnx":
            session = onnxruntime.InferenceSession(path / "model.onnx")
            outputs = ["class_name", "probabilities"]
            names, probabilities = session.run(outputs, {"image": images})
            Image.fromarray(images[0]).save(tmp_path / "a.png")
            arguments = ["classify.py", str(path / "model.onnx"), str(tmp_path / "a.png")]
            monkeypatch.setattr(sys, "argv", arguments)
            exec(code_of_the_docs(), {"__name__": "__main__"})
            assert capsys.readouterr().out.split() == [names[0], str(probabilities[0].max())]
        else:
            found = Interpreter(path / "model.tflite").get_signature_runner()(image=images)
            names, probabilities = found["class_name"].astype(str), found["probabilities"]
        config.train.precision = "float32"
        expected = classification.serving(load(workdir, config), config, str(workdir))
        expected = expected.predict(images)["probabilities"]
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
        classes = json.loads((path / "images.json").read_text())["class_names"]
        assert [classes[i] for i in np.argmax(expected, axis=-1)] == names.tolist()
        card = (path / "README.md").read_text()
        assert "- in `image`: uint8 (None, 8, 8, 3)" in card and "in float32, within " in card


class SameClassesTest:
    def test_other_classes_than_the_run_has_are_refused(self, workdir, data, tmp_path):
        pixels, labels = squares(53, seed=3)
        for split, names in (
            ("validation", list(COLOURS)[::-1]),
            ("test", ["red", "pink", "blue"]),
        ):
            np.savez(tmp_path / f"{split}.npz", images=pixels, labels=labels, class_names=names)
        config = make_config(data)
        module = classification.serving(load(workdir, config), config, str(workdir))
        config.data.folder = str(tmp_path)
        with pytest.raises(ValueError, match="classes and channels of the run.*'red'.*'green'"):
            classification.example(module, config)
        with pytest.raises(ValueError, match="classes and channels of the run.*'red'.*'pink'"):
            classification.evaluate(module, config, "test")

    def test_own_images_are_scored_by_the_names_of_their_classes(self, workdir, data, tmp_path):
        pixels, labels = squares(53, seed=3)
        some, folder = labels > 0, tmp_path / "own"
        for index in np.flatnonzero(some):
            path = folder / list(COLOURS)[labels[index]] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(path)
        names = list(COLOURS)[:0:-1]
        np.savez(
            tmp_path / "a.npz", images=pixels[some], labels=2 - labels[some], class_names=names
        )
        np.savez(tmp_path / "b.npz", images=pixels[some], labels=labels[some])
        config, found = make_config(data), []
        trained = config.copy_and_resolve_references()
        module = classification.serving(load(workdir, config), config, str(workdir))
        for path in (folder, tmp_path / "a.npz", tmp_path / "b.npz"):
            config.data.update(classification.own_test(config, str(path)))
            found.append(classification.evaluate(module, config, "test"))
            assert classification.leaks(trained, config) == ""
        config.data.update(classification.own_test(config, str(data / "train.npz")))
        leak = classification.leaks(trained, config)
        assert leak.startswith("Leak: 301 of 301 images to test are in the training")
        for scores, *_ in found:
            assert scores["images"] == some.sum() and scores["top1"] > 0.9
            assert scores["nll"] == pytest.approx(found[0].scores["nll"], rel=1e-5)
            assert scores["per_class"] == found[0].scores["per_class"]
        for number, colour in enumerate(COLOURS, 1):  # Names win where both would fit.
            if number > 1:
                (folder / colour).rename(folder / str(number))
        module.description = module.description | {"class_names": ["1", "2", "3"]}
        config.data.update(classification.own_test(config, str(folder)))
        named = classification.evaluate(module, config, "test").scores
        assert named["nll"] == pytest.approx(found[0].scores["nll"], rel=1e-5)
        assert named["per_class"]["1"] is None
        assert classification.own_test(config, "x.tsv")["format"] == "csv"
        with pytest.raises(ValueError, match=r"Expected a folder .*--test=a\.txt"):
            classification.own_test(config, "a.txt")


@pytest.fixture(scope="module")
def student(workdir, data, tmp_path_factory):
    """The folder and config of a run with a teacher, and a wrong label for each image."""
    folder = shutil.copytree(data, tmp_path_factory.mktemp("student"), dirs_exist_ok=True)
    pixels, labels = squares(301, seed=1)
    wrong = {"images": pixels, "labels": (labels + 1) % 3, "class_names": list(COLOURS)}
    np.savez(folder / "train.npz", **wrong)
    taught = {"teacher.model": str(workdir), "teacher.kind": "soft", "teacher.alpha": 1.0}
    config = make_config(folder, **taught)
    loop.train(classification, config, str(folder / "run"))
    return folder / "run", config


@pytest.mark.integration
class OtherRunTest:
    def test_a_run_trains_the_heads_of_another_alone_and_goes_on_without_it(
        self, workdir, data, tmp_path
    ):
        first = shutil.copytree(workdir, tmp_path / "first")
        config = make_config(data, **{"start.workdir": str(first), "start.freeze": True})
        found = short(tmp_path / "run", config)
        for new, old in zip(found.variables, load(first, make_config(data)).variables, strict=True):
            if "seed" not in new.path:
                assert np.array_equal(new, old) != ("head" in new.path), new.path
        shutil.rmtree(first)
        config.train.steps = 5
        loop.train(classification, config, str(tmp_path / "run"), allow_changes=True)
        assert Checkpoints(tmp_path / "run/checkpoints").load_newest()[1]["step"] == 5

    def test_it_normalises_images_as_the_first_did(self, workdir, data, tmp_path):
        config = make_config(
            data, **{"start.workdir": str(workdir), "data.classes": ("red", "blue")}
        )
        classification.datasets(config, str(tmp_path))
        described, first = map(read_description, (str(tmp_path), str(workdir)))
        assert described["class_names"] == ["red", "blue"]
        assert (described["mean"], described["deviation"]) == (first["mean"], first["deviation"])

    def test_a_student_learns_from_its_teacher_alone_where_alpha_is_1(self, student, data):
        workdir, config = student
        module = classification.serving(load(workdir, config), config, str(workdir))
        scores = classification.evaluate(module, make_config(data), "test")[0]
        assert scores["top1"] > 0.9  # Who learns the labels is wrong.

    def test_a_student_is_saved_and_exported_without_its_teacher(
        self, student, monkeypatch, capsys
    ):
        workdir, config = student
        arrays, _ = Checkpoints(workdir / "checkpoints").load_newest()
        model = load(workdir, config)
        assert sum(name.startswith("model/") for name in arrays) == len(model.variables)
        path = export.export(classification, config, str(workdir), "last")
        # The code of the card runs in the folder of the card.
        Image.fromarray(squares(3, seed=7)[0][2]).save(path / "picture.jpg")
        card = (path / "README.md").read_text()
        counts = "- 301 training images\n- 41 validation images\n- 53 test images\n"
        assert counts in card and "3: blue, green, red." in card
        monkeypatch.chdir(path)
        exec(re.search(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)[1], {})
        assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(COLOURS)

    def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(self, workdir, data, tmp_path):
        config = make_config(data, **{"teacher.model": str(workdir), "teacher.kind": "hard"})
        config.augment.update(cutmix=1.0, mix_probability=0.5, erase=0.5)
        config.model.update(dropout=0.2, stochastic_depth=0.2)
        config.train.update(steps=16, validate_every=16, checkpoint_every=4, schedule="constant")
        loop.train(classification, config, str(tmp_path / "whole"))
        stopped = shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
        Checkpoints(stopped / "checkpoints").clean("step-00000004")
        loop.train(classification, config, str(stopped))
        (whole, _), (found, state) = (
            Checkpoints(tmp_path / name / "checkpoints").load_newest()
            for name in ("whole", "stopped")
        )
        assert state["step"] == 16 and whole.keys() == found.keys()
        assert all(np.array_equal(whole[name], found[name]) for name in whole)

    def test_a_run_of_another_task_of_images_gives_its_encoder(self, data, tmp_path):
        first = make_config(data, **{"train.ema": 0.0})
        first.task = "without_labels"
        write_config(tmp_path, first)
        described = {"class_names": [], "channels": 3, "mean": [99, 98, 97], "deviation": [53] * 3}
        write_text(tmp_path / "images.json", json.dumps(described))
        encoder = make(first)
        encoder.build((None, SIZE, SIZE, 3))
        random = np.random.default_rng(5)
        # Behind the encoder lies what the other task has besides.
        shapes = [*(tuple(variable.shape) for variable in encoder.variables), (7, 11)]
        arrays = {
            f"model/{number:04d}": random.normal(0, 0.1, shape).astype("float32")
            for number, shape in enumerate(shapes)
        }
        Checkpoints(tmp_path / "checkpoints").save(1, arrays, {})
        assign(model_variables(encoder), arrays)
        config = make_config(data, **{"start.workdir": str(tmp_path)})
        workdir = str(tmp_path / "run")
        (tmp_path / "run").mkdir()
        classification.datasets(config, workdir)
        assert read_description(workdir)["mean"] == described["mean"]
        model = classification.build(config, workdir)
        classification.begin(model, config, workdir, is_new=True)
        images = random.normal(size=(2, SIZE, SIZE, 3)).astype("float32")
        np.testing.assert_array_equal(model.features(images), encoder.features(images))

    def test_a_run_of_another_task_is_refused(self, data, tmp_path):
        other = make_config(data)
        other.task = "translation"
        (tmp_path / "other").mkdir()
        write_config(tmp_path / "other", other)
        config = make_config(data, **{"start.workdir": str(tmp_path / "other")})
        with pytest.raises(ValueError, match="a run of images in .*received translation"):
            loop.train(classification, config, str(tmp_path / "run"))
