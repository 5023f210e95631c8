"""One door: folders that cannot be a model are refused in one sentence, before memory is taken."""

import json
import shutil

import pytest

from kerasformer.interop import load
from tests import ROOT

FOLDERS = ROOT / "tests" / "interop" / "folders"


@pytest.fixture
def changed(tmp_path):
    """Copies the stored ViT with other keys in its config, of which `None` is left out."""

    def make(**keys):
        folder = tmp_path / "model"
        shutil.copytree(FOLDERS / "vit", folder)
        config = json.loads((folder / "config.json").read_text()) | keys
        config = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


class LoadTest:
    @pytest.mark.parametrize(
        ("keys", "reason"),
        [
            ({"model_type": "mamba"}, "model_type of .*'vit'.*, received model_type='mamba'"),
            ({"hidden_size": None}, "lacks the key 'hidden_size'"),
            ({"hidden_size": 7}, r"'vit.embeddings.cls_token' to have the shape \(1, 1, 7\)"),
            ({"hidden_size": "huge"}, "as the config says"),
            ({"intermediate_size": 10**12}, "'vit.encoder.layer.1.intermediate.dense.weight' to"),
            ({"num_hidden_layers": 10**9}, "named 'layer.999999999.intermediate.dense.weight'"),
            ({"num_hidden_layers": 1}, r"'vit.encoder.layer.1.* are left over"),
            ({"image_size": 10**6}, "'vit.embeddings.position_embeddings' to have the shape"),
            ({"num_hidden_layers": "two"}, "a value in its config is wrong"),
            ({"architectures": []}, "a value in its config is wrong"),
            ({"hidden_act": "snake"}, "an activation of .*'gelu'.*, received 'snake'"),
            ({"qkv_bias": False}, "qkv_bias=False"),
            ({"id2label": {"0": "ant"}}, "classifier.weight to fit .*/head/kernel"),
        ],
    )
    def test_what_no_model_can_be_is_one_sentence(self, changed, keys, reason):
        with pytest.raises(ValueError, match=reason) as caught:
            load(changed(**keys))
        assert "\n" not in str(caught.value)

    def test_a_folder_without_a_config_is_told(self, tmp_path):
        with pytest.raises(ValueError, match="Expected a file .*config.json"):
            load(tmp_path)
