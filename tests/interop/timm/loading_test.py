"""Models of timm from their folders: outputs, names, preprocessing, and what is refused."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from kerasformer.interop import load, timm
from kerasformer.interop.files import Tensors, read_json
from kerasformer.interop.names import written_weights
from kerasformer.interop.timm.source import read_source

FOLDERS = pathlib.Path(__file__).parents[1] / "folders"
NAMES = [path.name for path in sorted(FOLDERS.glob("timm_*"))]


def changed(folder, name="timm_vit", **changes):
    """Copies a folder, and gives its config other values."""
    shutil.copytree(FOLDERS / name, folder, dirs_exist_ok=True)
    config = read_json(folder / "config.json")
    for key, value in changes.items():
        part = config if key in config or key == "label_names" else config["pretrained_cfg"]
        part[key] = {**part[key], **value} if key == "model_args" else value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class OutputsTest:
    @pytest.mark.parametrize("name", NAMES)
    def test_outputs_are_those_of_timm_and_names_lead_back(self, name):
        arrays = np.load(FOLDERS / name / "expected.npz")
        model, description = load(FOLDERS / name)
        images = arrays["x"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(model(images), arrays["outputs"], atol=1e-5, rtol=1e-5)
        tensors = Tensors(FOLDERS / name)
        source = read_source(description.config, tensors.shapes())
        family = next(x for x in timm.FAMILIES if x.PATTERN.fullmatch(source.architecture))
        if name not in ("timm_deit3", "timm_vit_mean"):  # They have positions that timm has not.
            for part, value in written_weights(model, family.names(source)).items():
                np.testing.assert_array_equal(value.ravel(), tensors[part].ravel(), part)


class DescriptionTest:
    def test_preprocessing_and_labels_are_those_of_the_config(self, tmp_path):
        how = load(FOLDERS / "timm_vit").description.preprocessing
        half = (0.5,) * 3
        assert how == ((8, 12), half, half, "bicubic", 8)
        labels = {"0": "ant", "10": "cat", "2": "bee"}
        changed(tmp_path, label_names=labels, crop_mode="squash", interpolation="bilinear")
        description = load(tmp_path).description
        assert description.labels == ["ant", "bee", "cat"]
        assert description.preprocessing[3:] == ("bilinear", None)


class RefusalTest:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"architecture": "resnet50"}, "received architecture='resnet50'"),
            ({"architecture": "vit_base_patch16_clip_224"}, "'vit_base_patch16_clip_224'"),
            ({"model_args": {"qk_norm": True}}, "with model_args.qk_norm=True"),
            ({"model_args": {"act_layer": "quick_gelu"}}, "model_args.act_layer='quick_gelu'"),
            ({"global_pool": "map"}, "received global_pool='map'"),
            ({"model_args": {"img_size": [8, 16]}}, "'pos_embed' to have the shape .1, 9, 6."),
            ({"architecture": "cait_s24_224"}, "'pos_embed' to have the shape .1, 6, 6."),
            ({"interpolation": "box"}, "received interpolation='box'"),
        ],
    )
    def test_what_no_model_of_ours_can_be_is_named(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            load(changed(tmp_path, **changes))
