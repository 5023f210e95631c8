"""Folders of models: what is read of them, and what is refused."""

import json

import huggingface_hub.constants
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasformer.interop.files import Tensors, fetch, read_json, write_tensors


class TensorsTest:
    def test_each_half_precision_is_read_as_float32(self, tmp_path):
        values = np.array([[1.5, -2.0, 3.25]])
        kinds = {"half": "float16", "brain": ml_dtypes.bfloat16, "double": "float64"}
        save_file({k: values.astype(v) for k, v in kinds.items()}, tmp_path / "model.safetensors")
        tensors = Tensors(tmp_path)
        assert tensors.shapes() == dict.fromkeys(sorted(kinds), (1, 3))
        for name in kinds:
            assert tensors[name].dtype == "float32"
            np.testing.assert_array_equal(tensors[name], values)

    def test_several_files_are_read_by_their_index(self, tmp_path):
        write_tensors({"a": np.ones(2)}, tmp_path)
        (tmp_path / "model.safetensors").rename(tmp_path / "one.safetensors")
        write_tensors({"b": np.zeros(3)}, tmp_path)
        (tmp_path / "model.safetensors").rename(tmp_path / "two.safetensors")
        index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert Tensors(tmp_path).shapes() == {"a": (2,), "b": (3,)}

    def test_an_index_leads_to_no_other_folder(self, tmp_path):
        inside = tmp_path / "inside"
        inside.mkdir()
        write_tensors({"a": np.ones(2)}, tmp_path)
        index = {"weight_map": {"a": "../model.safetensors"}}
        (inside / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(
            ValueError, match="name of a file in .*inside.*received .../model.safetensors"
        ):
            Tensors(inside)

    def test_what_can_run_code_is_refused_with_the_way_out(self, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        with pytest.raises(ValueError, match="received pytorch_model.bin; .*save_pretrained"):
            Tensors(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"\xff" * 40])
    def test_broken_files_are_told(self, tmp_path, content):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="Cannot read .*model.safetensors"):
            Tensors(tmp_path)

    def test_a_folder_without_tensors_is_told(self, tmp_path):
        with pytest.raises(ValueError, match="which lacks it"):
            Tensors(tmp_path)


class FetchTest:
    def test_only_folders_and_repositories_are_sources(self, tmp_path):
        assert fetch(tmp_path) == tmp_path
        with pytest.raises(ValueError, match="folder of a model, received source='/nowhere'"):
            fetch("/nowhere")

    @pytest.mark.parametrize("source", ["hf://a/b", "timm://name@main", "hf://", "hf://a/b/c"])
    def test_a_repository_that_cannot_be_read_is_one_sentence(self, monkeypatch, source):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ValueError, match="Without a network, give the folder of a") as caught:
            fetch(source)
        assert str(caught.value).startswith(f"Cannot read {source}: ")
        assert "\n" not in str(caught.value)


class JsonTest:
    @pytest.mark.parametrize("content", ["{", "[1]", "\ud800".encode("utf-8", "surrogatepass")])
    def test_other_files_are_told(self, tmp_path, content):
        path = tmp_path / "config.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match="JSON"):
            read_json(path)
        with pytest.raises(ValueError, match="Expected a file .*other.json.: No such file"):
            read_json(tmp_path / "other.json")
