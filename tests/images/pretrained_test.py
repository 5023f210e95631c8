"""Runs that begin with weights of another library: what they take over, keep and refuse."""

import json
import pathlib
import shutil

import ml_collections
import numpy as np
import pytest
from PIL import Image

from kerasformer import interop
from kerasformer.interop.files import read_json
from pipelines.images import pretrained
from pipelines.images.fine_tuning import copy_weights
from pipelines.images.models import make
from pipelines.runs.config import fill_chosen
from pipelines.tasks import classification
from tests import programs

FOLDERS = pathlib.Path(__file__).parents[1] / "interop" / "folders"


def source(folder, **changes):
    """Copies a ViT of timm for images of 8 x 12 pixels, and names its classes."""
    shutil.copytree(FOLDERS / "timm_vit", folder)
    config = read_json(folder / "config.json")
    config["label_names"] = ["Red", "blue, azure", "dark_green"]
    config["pretrained_cfg"] |= {"crop_pct": 0.8, "interpolation": "bilinear", **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def chosen(weights, **changes):
    """Returns the config of a new run, as it is written and read again."""
    config = ml_collections.ConfigDict(classification.default_config().to_dict(), type_safe=False)
    config.start.weights = str(weights)
    config.update_from_flattened_dict(changes)
    classification.settle(config)
    asked = config.copy_and_resolve_references()
    resolved = classification.resolve(config)
    stored = ml_collections.ConfigDict(json.loads(resolved.to_json()), type_safe=False)
    return fill_chosen(asked, stored)


class AdoptTest:
    def test_preprocessing_and_size_are_those_of_the_source_unless_given(self, tmp_path):
        config = chosen(source(tmp_path / "a", mean=[0.1, 0.2, 0.3]))
        classification.check(config)
        assert config.data.mean == [25.5, 51.0, 76.5]
        assert config.data.deviation == [127.5] * 3
        assert (config.data.interpolation, config.serve.crop) == ("bilinear", 0.8)
        assert config.model.image_size == [8, 12]
        config = chosen(tmp_path / "a", **{"model.image_size": 16, "data.interpolation": "nearest"})
        assert (config.model.image_size, config.data.interpolation) == (16, "nearest")

    @pytest.mark.parametrize(
        "name", ["timm_vit_mean", "timm_deit", "timm_cait", "timm_conv_mixer", "timm_gcvit"]
    )
    def test_the_config_alone_makes_the_model_again(self, name):
        config, first = chosen(FOLDERS / name), interop.load(FOLDERS / name).model
        model = make(config, num_classes=3)
        images = np.load(FOLDERS / name / "expected.npz")["x"].transpose(0, 2, 3, 1)
        model.build((None, *images.shape[1:]))
        copy_weights(first, model)
        np.testing.assert_allclose(model(images), first(images), atol=1e-6)

    def test_what_contradicts_the_source_is_named(self):
        for key, value in (("variant", "B/16"), ("hidden_dim", 7), ("colour", "red")):
            with pytest.raises(ValueError, match=f"received model.{key}={value!r}"):
                chosen(FOLDERS / "timm_vit", **{f"model.{key}": value})
        for key, value in (("start.workdir", "runs/1"), ("data.mean", None)):
            config = chosen(FOLDERS / "timm_vit")
            config.update_from_flattened_dict({key: value})
            if key == "data.mean":
                config.model.variant = "B/16"
            with pytest.raises(ValueError, match="start.workdir='runs/1'|variant='B/16'"):
                classification.check(config)
        with pytest.raises(ValueError, match="Expected the folder of a model, received source='n"):
            chosen("nowhere")


class BeginTest:
    def test_classes_of_the_same_name_keep_their_rows_and_positions_are_resized(
        self, tmp_path, capsys
    ):
        weights = source(tmp_path / "a")
        config, first = chosen(weights, **{"model.image_size": 16}), interop.load(weights).model
        model = make(config, num_classes=4)
        model.build((None, 16, 16, 3))
        pretrained.begin(model, str(weights), ["blue", "Dark Green", "grey", "red"])
        assert "the weights of 3 of 4 classes" in capsys.readouterr().out
        kernel, bias = first.head.get_weights()
        images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
        features = first.features(images)
        np.testing.assert_allclose(model.features(images), features, atol=1e-5)
        logits = np.array(model(images))
        expected = np.array(features) @ kernel + bias
        np.testing.assert_allclose(logits[:, [3, 0, 1]], expected, atol=1e-5)
        np.testing.assert_array_equal(logits[:, 2], 0)


@pytest.mark.integration
def test_a_run_resumes_and_is_used_without_its_source(tmp_path):
    random = np.random.default_rng(0)
    for name, color in (("red", (200, 50, 50)), ("grey", (99, 99, 99))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(20):
            pixels = np.clip(color + random.normal(0, 40, (20, 30, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    weights = source(tmp_path / "source")
    flags = ["--config=pretrained_images", "--workdir=run", f"--config.start.weights={weights}"]
    keys = ("data.folder=data", "model.image_size=16", "train.batch_size=7", "train.accumulate=1")
    flags += [f"--config.{key}" for key in (*keys, "train.precision=float32")]
    train = ["train", *flags, "--allow_changes"]
    (done,) = programs.run([*train, "--config.train.steps=2"], folder=tmp_path)
    assert done.returncode == 0 and "of 1 of 2 classes" in done.stdout, done.stderr[-3000:]
    weights.rename(tmp_path / "elsewhere")
    found = programs.run(
        [*train, "--config.train.steps=3"],
        ["evaluate", "--workdir=run"],
        ["export", "--workdir=run"],
        ["predict", "--model=run/export", "data/red/1.png"],
        folder=tmp_path,
    )
    for done in found:
        assert done.returncode == 0, (done.args, done.stderr[-3000:])
    assert "interpolation=bilinear" in (tmp_path / "run/export/1/README.md").read_text()
