"""GC ViT against timm and the published numbers of its parameters, and what it refuses."""

import re

import keras
import numpy as np
import pytest

from kerasformer.models.gcvit import GCViT
from tests.peers.samples import copy_weights, read

# From paths here to names there.
NAMES = [
    ("downsampling/", "down/"),
    ("^stem/convolution", "stem/conv1"),
    ("^downsampling_(.)/", r"stages/\1/downsample/"),
    ("output_norm", "norm2"),
    ("^(.*down|.*downsample)/norm/", r"\1/norm1/"),
    ("global_queries/mixing_0", "global_block/blocks/conv1"),
    ("mixing", "conv_block"),
    ("depthwise", "conv_dw"),
    ("pointwise", "conv_pw"),
    ("squeeze", "se/fc1"),
    ("excite", "se/fc2"),
    ("stage_", "stages/"),
    ("block_", "blocks/"),
    ("self_attention/norm", "norm1"),
    ("self_attention/scale", "ls1.gamma"),
    ("self_attention/mixer/.*value_dense", "attn/qkv"),
    ("self_attention/mixer/output_dense", "attn/proj"),
    ("self_attention/mixer/position_biases", "attn/rel_pos/relative_position_bias_table"),
    ("feed_forward/norm", "norm2"),
    ("feed_forward/scale", "ls2.gamma"),
    ("feed_forward/feed_forward/inner_dense", "mlp/fc1"),
    ("feed_forward/feed_forward/output_dense", "mlp/fc2"),
    ("final_norm", "stages/1/norm"),
    ("^head", "head/fc"),
]


class PublishedTest:
    @pytest.mark.parametrize(
        ("variant", "published"),
        [
            ("xx-tiny", 11_995_428),
            ("x-tiny", 19_981_294),
            ("tiny", 28_221_974),
            ("small", 51_092_173),
            ("base", 90_320_836),
        ],
    )
    def test_parameters_are_as_many_as_in_timm(self, variant, published, monkeypatch):
        zeros = keras.initializers.Zeros.__call__
        monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
        # A local block and a global one in each stage; the arithmetic adds the others.
        model = GCViT.from_variant(variant, 224, 1000, num_layers=2)
        model.build()
        count = model.count_params()
        for stage, layers in zip(model.stages, GCViT.VARIANTS[variant]["num_layers"], strict=True):
            count += sum(stage.blocks[index % 2].count_params() for index in range(2, layers))
        assert count == published
        windows = [stage.blocks[0].self_attention.sublayer.window_size for stage in model.stages]
        assert windows == [(7, 7), (7, 7), (14, 14), (7, 7)]

    def test_outputs_are_those_of_timm(self):
        images, outputs, arrays = read("gcvit")
        sizes = {"intermediate_ratio": 2.0, "window_size": [(2, 3)] * 2, "layer_scale": 1.0}
        model = GCViT((16, 24), (2, 2), 8, 2, outputs.shape[1], **sizes)
        model.build()
        copy_weights(model, arrays, NAMES)
        np.testing.assert_allclose(model(images), outputs, atol=1e-4)
        answers, scores = model(images, return_attention_scores=True)
        np.testing.assert_allclose(answers, outputs, atol=1e-4)
        assert [x.shape for x in scores] == [(2, 2, 24, 24)] * 2 + [(2, 4, 6, 6)] * 2


class VariantTest:
    def test_the_small_one_is_for_small_images(self):
        model = GCViT.from_variant("Lite", 32, num_classes=None, stochastic_depth=0.1)
        assert model.grid_size() == (4, 4)
        assert model.compute_output_shape((2, 32, 32, 3)) == (2, 4 * 48)
        rates = [block.stochastic_depth for stage in model.stages for block in stage.blocks]
        np.testing.assert_allclose(rates, np.linspace(0, 0.1, 6))

    @pytest.mark.parametrize("num_layers", [2, (), (0, 1), (1, "2")])
    def test_stages_have_blocks(self, num_layers):
        message = re.escape(f"for each stage, received num_layers={num_layers!r}.")
        with pytest.raises(ValueError, match=message):
            GCViT(32, num_layers, 8, 2)

    @pytest.mark.parametrize(
        ("use", "message"),
        [
            (lambda: GCViT.from_variant("huge", 32), "received variant='huge'"),
            (
                lambda: GCViT.from_variant("xx-tiny", 100),
                r"received window_size=\(3, 3\) for a grid of \(25, 25\)",
            ),
            (
                lambda: GCViT.from_variant("Lite", 32, window_size=(4, 4)),
                r"for each stage, received window_size=\(4, 4\)",
            ),
            (
                lambda: GCViT.from_variant("Lite", 32)(np.zeros((1, 40, 32, 3), "float32")),
                r"image_size=\(32, 32\), .* received shape=\(1, 40, 32, 3\)",
            ),
        ],
    )
    def test_what_cannot_be_is_named(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()
