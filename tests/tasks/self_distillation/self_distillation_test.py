"""The task of self-distillation end to end: it trains, and tells squares apart."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.weights import load_model
from pipelines.tasks import classification, self_distillation
from pipelines.training import loop

SIZE = 8


def squares(count, seed):
    """Draws squares of three colours at random places."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 130, (count, SIZE, SIZE, 3)).astype(np.uint8)
    labels = np.arange(count) % 3
    for image, label, (row, column) in zip(
        pixels, labels, random.integers(0, SIZE - 3, (count, 2)), strict=True
    ):
        image[row : row + 3, column : column + 3] = np.eye(3, dtype=np.uint8)[label] * 200
    return {"images": pixels, "labels": labels, "class_names": ["red", "green", "blue"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    for split, (count, seed) in {"train": (61, 1), "validation": (23, 2), "test": (29, 3)}.items():
        np.savez(folder / f"{split}.npz", **squares(count, seed))
    return folder


def make_config(folder, **changes):
    config = self_distillation.default_config()
    config.data.update(format="npz", folder=str(folder))
    config.data.update({split: f"{split}.npz" for split in ("train", "validation", "test")})
    config.views.update(local_count=1, local_size=4, local_area=(0.3, 0.5), jitter=0.0, gray=0.0)
    config.views.update(blur=(0.0, 0.0, 0.0), solarize=(0.0, 0.0, 0.0))  # Each would be traced.
    config.model.update(variant="ViT-Lite-6/4", image_size=SIZE, patch_size=2, num_layers=1)
    config.model.update(hidden_dim=12, num_heads=3, intermediate_dim=13, attention_dropout=0.0)
    config.head.update(output_dim=17, intermediate_dim=11, bottleneck_dim=5, num_layers=2)
    config.train.update(steps=4, batch_size=12, steps_per_call=2, log_every=2, validate_every=4)
    config.train.update(checkpoint_every=4, best_metric="knn_top1")
    config.neighbours.count, config.serve.batch_size = 3, 17
    config.update_from_flattened_dict(changes)
    return config


class CheckTest:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("views.flip", 2.0),
            ("model.variant", "ViT-XXL"),
            ("head.output_dim", 0),
            ("teacher.momentum", 1.5),
            ("teacher.temperature", 0.0),
            ("student.frozen_epochs", -1.0),
            ("neighbours.count", 0),
            ("train.batch_size", 0),
            ("train.ema", 0.5),
            ("train.weight_decay_end", "much"),
            ("model.weights", "published"),
            ("data.labels", "none"),  # With best_metric="knn_top1".
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_is_written(self, data, tmp_path, key, value):
        config = make_config(data)
        with config.ignore_type():
            config.update_from_flattened_dict({key: value})
        with pytest.raises(ValueError, match=f"{key.split('.')[1]}.*{value}") as caught:
            loop.train(self_distillation, config, str(tmp_path / "run"))
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()

    def test_local_views_that_the_model_cannot_take_are_named(self, data, tmp_path):
        config = make_config(data, **{"views.local_size": 1})
        with pytest.raises(
            ValueError, match="received views.local_size=1 with model.var"
        ) as caught:
            loop.train(self_distillation, config, str(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    """The folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("run")
    loop.train(self_distillation, make_config(data), str(folder))
    return folder


@pytest.mark.integration
class RunTest:
    def test_what_tells_of_a_collapse_is_logged(self, workdir):
        records = [
            json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()
        ]
        last = records[-1]
        names = ("loss", "entropy", "mean_entropy", "divergence", "knn_top1")
        values = [last[f"validation_{name}"] for name in names]
        assert np.isfinite(values).all()
        assert last["validation_divergence"] == pytest.approx(values[2] - values[1])

    def test_the_teacher_is_evaluated_and_answers_images(self, data, workdir):
        config = make_config(data)
        model = load_model(self_distillation.build, config, str(workdir), "last")
        arrays, _ = Checkpoints(workdir / "checkpoints").load_newest()
        for index, variable in enumerate(model.variables):  # The first ones, as other tasks read.
            np.testing.assert_array_equal(variable.numpy(), arrays[f"model/{index:04d}"])
        module = self_distillation.serving(model, config, str(workdir))
        assert {"serving_default", "serving_default_pixels", "embed"} <= module.signatures().keys()
        assert "numbers, of which the first are" in self_distillation.example(module, config)
        found = self_distillation.evaluate(module, config, "test")
        assert found.scores["knn_top1"] > 0.5  # Colours are in any features.
        assert found.scores["images"] == 29 and found.scores["known_images"] == 61
        assert re.search(r"\| green \| [\d.]+ \|", found.table)
        assert found.figures.keys() == {"neighbours", "attention"}
        assert found.predictions[1].keys() == {
            *("image", "reference", "prediction", "share", "nearest", "similarity")
        }

        own = make_config(data, **{"data.validation": "10%"})  # No share of the own data is cut.
        own.data.update(self_distillation.own_test(config, str(data / "test.npz")))
        alone = self_distillation.evaluate(module, own, "test")
        nearest = [row["nearest"] for row in alone.predictions]
        assert len(nearest) == 29 and not any(f"image {i}" == n for i, n in enumerate(nearest))

        unlabelled = make_config(data, **{"data.labels": "none"})
        answer = self_distillation.evaluate(module, unlabelled, "test")
        assert set(answer.scores) == {"images", "known_images", "nearest_similarity"}
        assert answer.predictions[0].keys() == {"image", "prediction", "similarity"}

    def test_own_folders_have_classes_though_the_run_had_none(self, data, tmp_path):
        config = make_config(data, **{"data.labels": "none"})
        (tmp_path / "cat").mkdir()
        assert self_distillation.own_test(config, str(tmp_path))["labels"] == "none"
        (tmp_path / "dog").mkdir()
        assert self_distillation.own_test(config, str(tmp_path))["labels"] == "one"
        with pytest.raises(ValueError, match="--test=a.txt"):
            self_distillation.own_test(config, "a.txt")

    def test_a_classifier_begins_with_the_encoder(self, data, workdir, tmp_path):
        config = classification.default_config()
        first = make_config(data)
        config.data.update(first.data)
        config.model.update(first.model)
        config.start.update(workdir=str(workdir), freeze=True)
        config.train.batch_size = 12
        classification.datasets(config, str(tmp_path))
        model = classification.build(config, str(tmp_path))
        model = classification.begin(model, config, str(tmp_path), is_new=True)
        arrays, _ = Checkpoints(workdir / "checkpoints").load_newest()
        encoder = [v for v in model.variables if "head" not in v.path]
        assert len(encoder) == len(model.variables) - 2
        for index, variable in enumerate(encoder):
            if variable.name != "seed_generator_state":
                np.testing.assert_array_equal(variable.numpy(), arrays[f"model/{index:04d}"])
        assert {v.path.split("/")[1] for v in model.trainable_variables} == {"head"}

    def test_a_dry_run_draws_the_views(self, data, workdir, tmp_path):
        views = np.zeros((12, 2, 8, 8, 3), "float32"), np.zeros((12, 1, 4, 4, 3), "float32")
        views = dict(zip(("global_views", "local_views"), views, strict=True))
        batches = tf.data.Dataset.from_tensors(views)
        picture = str(tmp_path / "a.png")
        said = self_distillation.show_batch(batches, make_config(data), str(workdir), picture)
        assert said == f"The views of the first 6 images, one a row, are in {picture}."
        assert (tmp_path / "a.png").stat().st_size > 1000
