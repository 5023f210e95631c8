"""PerformerViT: a Vision Transformer of the same weights, nearly, with another mixer."""

import numpy as np
import pytest
from keras import ops

from kerasformer.layers import LinearAttention
from kerasformer.models import PerformerViT, VisionTransformer

SIZES = {"num_layers": 2, "hidden_dim": 12, "intermediate_dim": 13, "patch_size": 2}


class PerformerTest:
    def test_with_many_features_it_computes_what_the_vision_transformer_does(self):
        model = PerformerViT.from_variant(
            "S/16", (6, 10), 5, **SIZES, num_heads=3, num_features=16384, seed=1
        )
        twin = VisionTransformer((6, 10), **SIZES, num_heads=3, num_classes=5, pool="mean")
        for x in (model, twin):
            x.build()
        twin.set_weights([w for w in model.weights if w.name != "features"])
        images = np.random.default_rng(0).standard_normal((2, 6, 10, 3)).astype("float32")
        np.testing.assert_allclose(model.features(images), twin.features(images), atol=0.02)
        assert np.abs(model.features(images)).max() > 0.2

    def test_overrides_reach_the_mixer(self):
        options = {"num_features": 7, "kernel": "relu", "attention_dropout": 0.2}
        model = PerformerViT.from_variant("Lite-4/2", 8, 10, **options)
        mixer = model.encoder.blocks[0].self_attention.sublayer
        assert isinstance(mixer, LinearAttention)
        assert (mixer.num_features, mixer.kernel, mixer.dropout) == (7, "relu", 0.2)
        assert not model.has_attention_scores
        with pytest.raises(ValueError, match="return_attention_scores, received mixer=LinearAtt"):
            model(ops.ones((1, 8, 8, 3)), return_attention_scores=True)

    @pytest.mark.parametrize("variant", ["Ti/16", "B/8"])
    def test_it_has_the_sizes_of_the_vision_transformer(self, variant):
        sizes = PerformerViT.VARIANTS[variant]
        size = variant.split("/")[0]
        expected = VisionTransformer.VARIANTS[f"{size}/16"]
        assert {k: sizes[k] for k in expected if k != "patch_size"} == {
            k: v for k, v in expected.items() if k != "patch_size"
        }
