"""Marian of transformers: the stored model answers as it did there, and is written as it was."""

import json
import shutil

import numpy as np
import pytest

from kerasformer import interop
from kerasformer.interop import huggingface
from kerasformer.interop.files import Tensors
from kerasformer.interop.huggingface import marian
from kerasformer.models import Seq2SeqTransformer
from tests import ROOT

FOLDER = ROOT / "tests" / "interop" / "folders" / "marian"


@pytest.fixture(scope="module")
def loaded():
    return interop.load(FOLDER)


class MarianTest:
    def test_logits_are_those_of_transformers(self, loaded):
        stored = np.load(FOLDER / "expected.npz")
        assert (stored["input_ids"] == loaded.model.pad_id).any()
        inputs = {"source": stored["input_ids"], "target": stored["decoder_input_ids"]}
        np.testing.assert_allclose(loaded.model(inputs), stored["outputs"], rtol=0, atol=1e-5)

    def test_what_is_saved_is_what_was_read_bit_by_bit(self, loaded, tmp_path):
        huggingface.save(loaded.model, tmp_path, loaded.description)
        stored, saved = Tensors(FOLDER), Tensors(tmp_path)
        assert saved.shapes() == stored.shapes()
        for name, tensor in saved.items():
            np.testing.assert_array_equal(tensor, stored[name])
        config = json.loads((tmp_path / "config.json").read_text())
        assert (
            config.items()
            >= {
                "decoder_start_token_id": 44,
                "eos_token_id": 0,
                "pad_token_id": 44,
                "scale_embedding": True,
            }.items()
        )
        for name in ("source.spm", "target.spm", "vocab.json"):
            assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"decoder_layers": 3}, "encoder_layers=2 and decoder_layers=3"),
            ({"scale_embedding": False}, "scale_embedding=True, received scale_embedding=False"),
            ({"vocab_size": 46}, r"final_logits_bias' to have the shape \(1, 46\)"),
        ],
    )
    def test_a_config_that_no_model_of_ours_can_be_is_refused(self, tmp_path, change, message):
        shutil.copy(FOLDER / "model.safetensors", tmp_path)
        config = json.loads((FOLDER / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            interop.load(tmp_path)

    def test_a_model_that_no_marian_can_be_is_refused(self, tmp_path):
        model = Seq2SeqTransformer(7, 1, 4, 2, 3, use_logits_bias=True, epsilon=1e-5)
        with pytest.raises(ValueError, match="a model that is built, received Seq2SeqTransformer"):
            huggingface.save(model, tmp_path / "new")
        model.build()
        with pytest.raises(ValueError, match="position_layout='interleaved', but .*'concatenated'"):
            huggingface.save(model, tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_the_variant_is_what_opus_mt_has(self):
        model = Seq2SeqTransformer.from_variant(
            "opus-mt", 58101, start_id=58100, end_id=0, pad_id=58100
        )
        config = marian.config_of(model)
        assert (config["d_model"], config["activation_function"]) == (512, "silu")
        arguments = marian.arguments(config)
        assert arguments.items() >= Seq2SeqTransformer.VARIANTS["opus-mt"].items()
