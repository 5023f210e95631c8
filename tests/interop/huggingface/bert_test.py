"""BERT and DistilBERT answer as transformers does, and are written as it writes them."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasformer.interop import huggingface, load
from kerasformer.interop.files import write_tensors
from kerasformer.models import BERT
from tests import ROOT

FOLDERS = ROOT / "tests" / "interop" / "folders"
IDS = np.array([[5, 7, 3, 0], [9, 2, 4, 6]], "int32")


def tiny(**options):
    sizes = {"num_layers": 1, "hidden_dim": 6, "num_heads": 2, "intermediate_dim": 10}
    model = BERT(13, **(sizes | {"max_length": 11} | options))
    model.build()
    return model


def changed(name, folder, tensors=None, **config):
    """Copies a stored folder with other tensors or keys of its config."""
    shutil.copytree(FOLDERS / name, folder)
    old = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**old, **config}))
    if tensors is not None:
        write_tensors(tensors, folder)
    return folder


@pytest.mark.parametrize(
    "name",
    "bert bert_classifier bert_words distilbert distilbert_classifier distilbert_tagger".split(),
)
class ParityTest:
    def test_answers_are_those_of_transformers(self, name):
        expected = np.load(FOLDERS / name / "expected.npz")
        model, description = load(FOLDERS / name)
        ids, types = expected["input_ids"], expected.get("token_type_ids")
        outputs = np.array(model(ids, token_types=types))
        if model.num_classes:
            assert description.labels == ["ant", "bee", "cat"]
        else:
            assert description.labels is None
            if model.pool:
                np.testing.assert_allclose(outputs, expected["pooled"], atol=1e-5)
            outputs = model.encode(ids, types)
        np.testing.assert_allclose(outputs, expected["outputs"], atol=1e-5)

    def test_a_folder_that_was_read_is_written_as_it_was(self, name, tmp_path):
        model, description = load(FOLDERS / name)
        huggingface.save(model, tmp_path, description)
        before = load_file(FOLDERS / name / "model.safetensors")
        after = load_file(tmp_path / "model.safetensors")
        if name in ("bert", "distilbert"):  # An encoder alone has no prefix there.
            after = {key.removeprefix(f"{name}."): value for key, value in after.items()}
        assert after.keys() == {key for key in before if not key.startswith("cls.")}
        for key, value in after.items():
            np.testing.assert_array_equal(before[key], value)
        before = json.loads((FOLDERS / name / "config.json").read_text())
        after = json.loads((tmp_path / "config.json").read_text())
        if name == "bert_words":  # It comes back as the encoder that it is now.
            assert after.pop("architectures") == ["BertModel"]
        after.pop("label2id", None)  # transformers left it out.
        assert {key: before.get(key, value) for key, value in after.items()} == after


class OwnModelTest:
    @pytest.mark.parametrize(
        ("options", "architecture"),
        [
            ({}, "BertModel"),
            ({"pool": "class", "pooler_activation": "tanh"}, "BertModel"),
            ({"pool": "class", "normalize": True, "activation_dropout": 0.1}, "BertModel"),
            ({"pool": "mean", "num_token_types": None}, "DistilBertModel"),
            (
                {"num_classes": 3, "activation": "gelu_tanh", "pad_id": 4},
                "BertForTokenClassification",
            ),
            (
                {"num_classes": 3, "pool": "class", "pooler_activation": "tanh", "epsilon": 1e-5},
                "BertForSequenceClassification",
            ),
        ],
    )
    def test_a_model_comes_back_as_it_was(self, tmp_path, options, architecture):
        model = tiny(**options)
        huggingface.save(model, tmp_path)
        again, description = load(tmp_path)
        assert description.config["architectures"] == [architecture]
        np.testing.assert_array_equal(again(IDS), model(IDS))

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"pool": "mean", "num_classes": 3}, "pool='mean' .* num_classes=3"),
            ({"pool": "mean", "pooler_activation": "tanh"}, "pooler_activation='tanh'"),
            ({"num_token_types": None, "epsilon": 1e-5}, "has epsilon=1e-05, but epsilon=1e-12"),
            ({"use_rotary": True}, "has use_rotary=True, but use_rotary=False"),
            ({"activation": "selu"}, "received activation='selu'"),
        ],
    )
    def test_what_transformers_lacks_is_refused_and_nothing_written(
        self, tmp_path, options, reason
    ):
        with pytest.raises(ValueError, match=reason):
            huggingface.save(tiny(**options), tmp_path / "model")
        assert not (tmp_path / "model").exists()


class FolderTest:
    def test_names_and_tensors_of_old_versions_are_read(self, tmp_path):
        tensors = load_file(FOLDERS / "bert_words" / "model.safetensors")
        tensors = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for key, value in tensors.items()
        }
        tensors["bert.embeddings.position_ids"] = np.arange(11)[np.newaxis]
        model, _ = load(changed("bert_words", tmp_path / "old", tensors))
        np.testing.assert_array_equal(model(IDS), load(FOLDERS / "bert_words").model(IDS))

    def test_a_sentence_model_says_how_its_vectors_are_made(self, tmp_path):
        model, description = load(FOLDERS / "bert")
        folder = changed("bert", tmp_path / "sentences")
        (folder / "1_Pooling").mkdir()
        pooling = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        modules = [{"type": f"a.models.{kind}", "path": path} for kind, path in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
        sentences, description = load(folder)
        vectors = np.array(model.encode(IDS))
        mean = np.stack([vectors[0, :3].mean(axis=0), vectors[1].mean(axis=0)])
        expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        np.testing.assert_allclose(sentences(IDS), expected, atol=1e-6)
        huggingface.save(sentences, tmp_path / "again", description)
        np.testing.assert_array_equal(load(tmp_path / "again").model(IDS), sentences(IDS))
        assert "9" in (tmp_path / "again" / "sentence_bert_config.json").read_text()

        modules[2]["type"] = "a.models.Dense"
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ValueError, match="received .*'Dense'"):
            load(folder)
        (folder / "modules.json").write_text(json.dumps(modules[:2]))
        (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
        with pytest.raises(ValueError, match="received pooling_mode=.'max'"):
            load(folder)

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"position_embedding_type": "relative_key"}, "received position_embedding_type="),
            ({"is_decoder": True}, "received is_decoder=True"),
            ({"hidden_act": "mish"}, "received 'mish'"),
            ({"architectures": ["BertForQuestionAnswering"]}, "'BertForQuestionAnswering'"),
            ({"vocab_size": 10**12}, r"the shape \(1000000000000, 6\), as the config says"),
            ({"num_hidden_layers": 1}, "layer.1.* are left over"),
            ({"num_attention_heads": 4}, "num_heads=4"),
        ],
    )
    def test_what_no_model_can_be_is_told(self, tmp_path, config, reason):
        with pytest.raises(ValueError, match=reason):
            load(changed("bert", tmp_path / "folder", **config))
