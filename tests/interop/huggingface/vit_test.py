"""ViT and DeiT answer as transformers does, and are written as it writes them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasformer.interop import huggingface, load
from kerasformer.models import VisionTransformer
from tests import ROOT

FOLDERS = ROOT / "tests" / "interop" / "folders"


def tiny(**options):
    sizes = {"num_layers": 1, "hidden_dim": 6, "num_heads": 2, "intermediate_dim": 10}
    model = VisionTransformer((8, 12), **(sizes | {"patch_size": 4, "num_classes": 3} | options))
    model.build()
    return model


@pytest.mark.parametrize("name", ["vit", "deit"])
class ParityTest:
    def test_answers_are_those_of_transformers(self, name):
        expected = np.load(FOLDERS / name / "expected.npz")
        model, description = load(FOLDERS / name)
        outputs = model(expected["pixel_values"].transpose(0, 2, 3, 1))
        np.testing.assert_allclose(outputs, expected["outputs"], atol=1e-5)
        assert description.labels == ["ant", "bee", "cat"]

    def test_a_folder_that_was_read_is_written_as_it_was(self, name, tmp_path):
        model, description = load(FOLDERS / name)
        huggingface.save(model, tmp_path, description)
        before = load_file(FOLDERS / name / "model.safetensors")
        after = load_file(tmp_path / "model.safetensors")
        assert after.keys() == before.keys()
        for key, value in before.items():
            np.testing.assert_array_equal(after[key], value)
        before = json.loads((FOLDERS / name / "config.json").read_text())
        before["label2id"] = {"ant": 0, "bee": 1, "cat": 2}  # transformers left it out.
        after = json.loads((tmp_path / "config.json").read_text())
        assert {key: before.get(key, value) for key, value in after.items()} == after

    def test_labels_of_another_number_are_refused(self, name, tmp_path):
        model, description = load(FOLDERS / name)
        with pytest.raises(ValueError, match="a label for each of 3 outputs, received 2 labels"):
            huggingface.save(model, tmp_path / "model", description._replace(labels=["a", "b"]))
        assert not (tmp_path / "model").exists()


class OwnModelTest:
    @pytest.mark.parametrize(
        ("options", "architecture"),
        [
            ({}, "ViTForImageClassification"),
            ({"num_classes": None, "stochastic_depth": 0.1}, "ViTModel"),
            ({"num_prefix_tokens": 2}, "DeiTForImageClassification"),
            ({"distillation": True}, "DeiTForImageClassificationWithTeacher"),
            ({"activation": "gelu_tanh", "epsilon": 1e-5}, "ViTForImageClassification"),
        ],
    )
    def test_a_model_comes_back_as_it_was(self, tmp_path, options, architecture):
        model = tiny(**options)
        huggingface.save(model, tmp_path)
        again, description = load(tmp_path)
        assert description.config["architectures"] == [architecture]
        images = np.random.rand(2, 8, 12, 3).astype("float32")
        np.testing.assert_array_equal(again(images), model(images))

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"layer_scale": 0.1}, "has layer_scale=0.1, but layer_scale=None"),
            ({"pool": "mean"}, "has num_prefix_tokens=0, but num_prefix_tokens=1"),
            ({"num_prefix_tokens": 5}, "has num_prefix_tokens=5"),
            ({"activation": "selu"}, "received activation='selu'"),
            ({"use_gate": True}, "has use_gate=True, but use_gate=None"),
            ({"patch_size": (4, 2)}, r"has patch_size=\(4, 2\), but patch_size=4"),
        ],
    )
    def test_what_transformers_lacks_is_refused_and_nothing_written(
        self, tmp_path, options, reason
    ):
        with pytest.raises(ValueError, match=reason):
            huggingface.save(tiny(**options), tmp_path / "model")
        assert not (tmp_path / "model").exists()
