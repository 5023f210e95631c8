"""ViT presets of keras-hub: outputs equal those of keras-hub itself, and what is refused."""

import json

import keras
import keras_hub
import numpy as np
import pytest

from kerasformer.interop import load

IMAGES = np.random.default_rng(0).random((2, 8, 12, 3)).astype("float32")


def preset(folder, shard_size=None, task=True, **options):
    """Saves a preset whose weights are drawn at random, and returns what keras-hub answers."""
    sizes = {"image_shape": (8, 12, 3), "patch_size": 4, "num_layers": 2, "num_heads": 2}
    backbone_options = {k: options.pop(k) for k in list(options) if k.startswith("use_")}
    model = backbone = keras_hub.models.ViTBackbone(
        **sizes, hidden_dim=6, mlp_dim=10, **backbone_options
    )
    if task:
        converter = keras_hub.layers.ViTImageConverter(
            image_size=(8, 12), scale=1 / 127.5, offset=-1.0
        )
        model = keras_hub.models.ViTImageClassifier(
            backbone=backbone,
            num_classes=5,
            preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(converter),
            **options,
        )
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) * 0.4 for w in model.get_weights()])
    model.save_to_preset(str(folder))
    if shard_size:
        (folder / "model.weights.h5").unlink()
        backbone.save_weights(folder / "model.weights.json", max_shard_size=shard_size)
    return keras.ops.convert_to_numpy(model(IMAGES))


class OutputsTest:
    def test_outputs_and_preprocessing_are_those_of_keras_hub(self, tmp_path):
        outputs = preset(tmp_path, shard_size=1)
        model, description = load(tmp_path)
        np.testing.assert_allclose(model(IMAGES), outputs, atol=1e-5)
        how = description.preprocessing
        np.testing.assert_allclose((*how.mean, *how.std), 0.5, atol=1e-6)
        assert (how.image_size, how.interpolation, how.resized) == ((8, 12), "bilinear", 8)

    def test_a_head_may_read_the_mean_and_there_may_be_none(self, tmp_path):
        outputs = preset(tmp_path / "mean", pooling="gap")
        np.testing.assert_allclose(load(tmp_path / "mean").model(IMAGES), outputs, atol=1e-5)
        outputs = preset(tmp_path / "none", task=False, use_class_token=False)
        model, description = load(tmp_path / "none")
        np.testing.assert_allclose(model(IMAGES), outputs.mean(axis=1), atol=1e-5)
        assert description.preprocessing is None


class RefusalTest:
    def test_what_no_model_of_ours_can_be_is_named(self, tmp_path):
        preset(tmp_path, task=False, use_mha_bias=False)
        with pytest.raises(ValueError, match="received use_mha_bias=False"):
            load(tmp_path)
        path = tmp_path / "config.json"
        config = json.loads(path.read_text())
        config["config"] |= {"use_mha_bias": True, "hidden_dim": 10**9}
        path.write_text(json.dumps(config))
        with pytest.raises(ValueError, match="'position_embedding' to have the shape"):
            load(tmp_path)
        path.write_text(json.dumps(config | {"class_name": "BertBackbone"}))
        with pytest.raises(ValueError, match="received class_name='BertBackbone'"):
            load(tmp_path)
        path.write_text(json.dumps(config))
        (tmp_path / "model.weights.h5").write_bytes(b"none")
        with pytest.raises(ValueError, match="Expected weights in .*model.weights.h5"):
            load(tmp_path)
