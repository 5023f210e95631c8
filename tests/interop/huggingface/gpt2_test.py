"""GPT-2 answers as transformers does, and is written as it writes it."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasformer.interop import huggingface, load
from kerasformer.interop.files import write_tensors
from kerasformer.models import LanguageModel
from tests import ROOT

FOLDER = ROOT / "tests" / "interop" / "folders" / "gpt2"
IDS = np.array([[5, 7, 3, 0], [9, 2, 4, 6]], "int32")


def tiny(**options):
    sizes = {"num_layers": 1, "hidden_dim": 6, "num_heads": 2, "intermediate_dim": 10}
    model = LanguageModel(13, **(sizes | {"max_length": 11} | options))
    model.build()
    return model


class ParityTest:
    def test_answers_are_those_of_transformers(self):
        expected = np.load(FOLDER / "expected.npz")
        model = load(FOLDER).model
        # What stands behind a text may be predicted in any way.
        is_token = expected["attention_mask"].astype(bool)
        outputs = np.array(model(expected["input_ids"]))[is_token]
        np.testing.assert_allclose(outputs, expected["outputs"][is_token], atol=1e-5)
        assert model.special_ids == {"start_id": 30, "end_id": 30, "pad_id": 30}

    def test_a_folder_that_was_read_is_written_as_it_was(self, tmp_path):
        model, description = load(FOLDER)
        huggingface.save(model, tmp_path, description)
        before = load_file(FOLDER / "model.safetensors")
        after = load_file(tmp_path / "model.safetensors")
        assert after.keys() == before.keys()
        for key, value in before.items():
            np.testing.assert_array_equal(after[key], value)
        before = json.loads((FOLDER / "config.json").read_text())
        after = json.loads((tmp_path / "config.json").read_text())
        assert after.pop("pad_token_id") == 30  # Which transformers leaves to its users.
        assert {key: before.get(key, value) for key, value in after.items()} == after

    def test_names_and_masks_of_old_versions_are_read(self, tmp_path):
        tensors = load_file(FOLDER / "model.safetensors")
        tensors = {key.removeprefix("transformer."): value for key, value in tensors.items()}
        tensors["h.0.attn.bias"] = np.ones((1, 1, 11, 11), "float32")
        tensors["h.0.attn.masked_bias"] = np.float32(-1e4).reshape(1)
        shutil.copytree(FOLDER, tmp_path / "old")
        write_tensors(tensors, tmp_path / "old")
        model = load(tmp_path / "old").model
        np.testing.assert_array_equal(model(IDS), load(FOLDER).model(IDS))


class OwnModelTest:
    @pytest.mark.parametrize(
        "options", [{}, {"tie_output": False, "activation": "relu", "intermediate_dim": 24}]
    )
    def test_a_model_comes_back_as_it_was(self, tmp_path, options):
        model = tiny(**options)
        huggingface.save(model, tmp_path)
        again = load(tmp_path).model
        np.testing.assert_array_equal(again(IDS), model(IDS))
        assert again.special_ids == model.special_ids

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"max_length": None, "use_rotary": True}, "received max_length=None"),
            ({"norm_first": False}, "has norm_first=False, but norm_first=True"),
            ({"num_key_value_heads": 1}, "has num_key_value_heads=1"),
        ],
    )
    def test_what_transformers_lacks_is_refused_and_nothing_written(
        self, tmp_path, options, reason
    ):
        with pytest.raises(ValueError, match=reason):
            huggingface.save(tiny(**options), tmp_path / "model")
        assert not (tmp_path / "model").exists()

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
            ({"add_cross_attention": True}, "received add_cross_attention=True"),
            ({"architectures": ["GPT2ForSequenceClassification"]}, "'GPT2ForSequence"),
            ({"eos_token_id": [30, 5]}, r"one eos_token_id, received \[30, 5\]"),
            ({"n_inner": None}, r"the shape \(6, 24\), as the config says"),
        ],
    )
    def test_what_no_model_can_be_is_told(self, tmp_path, config, reason):
        folder = tmp_path / "folder"
        shutil.copytree(FOLDER, folder)
        old = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**old, **config}))
        with pytest.raises(ValueError, match=reason):
            load(folder)
