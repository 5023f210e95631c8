"""GC ViT against the published numbers of its parameters, its scores, and what it refuses."""

import re

import keras
import numpy as np
import pytest

from kerasformer.models.gcvit import GCViT


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

    def test_scores_are_those_of_each_stage(self):
        sizes = {"intermediate_ratio": 2.0, "window_size": [(2, 3)] * 2}
        model, images = GCViT((16, 24), (2, 2), 8, 2, 5, **sizes), np.ones((2, 16, 24, 3))
        answers, scores = model(images, return_attention_scores=True)
        np.testing.assert_array_equal(answers, model(images))
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
