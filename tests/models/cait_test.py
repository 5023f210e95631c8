"""CaiT against the published numbers of parameters, its variants, and what it looks at."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.models.cait import CaiT

# Of timm, which lacks XS36.
PUBLISHED = {
    ("XXS24", 224): 11_956_264,
    ("XXS36", 224): 17_299_720,
    ("XS24", 384): 26_670_088,
    ("S24", 224): 46_916_200,
    ("S36", 384): 68_366_632,
    ("M36", 384): 271_221_352,
    ("M48", 448): 356_460_520,
}


def small(**options):
    sizes = {"num_layers": 2, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 24}
    model = CaiT.from_variant("XXS24", (8, 12), 5, patch_size=4, **sizes, **options)
    model.build()
    return model


def count_parameters(variant, image_size):
    """Counts from a model of one block; the arithmetic adds the others."""
    model = CaiT.from_variant(variant, image_size, 1000, num_layers=1)
    model.build()
    others = CaiT.VARIANTS[variant]["num_layers"] - 1
    return model.count_params() + others * model.encoder.blocks[0].count_params()


class PublishedTest:
    @pytest.mark.parametrize(("variant", "size"), PUBLISHED)
    def test_parameters_are_as_many(self, variant, size):
        assert count_parameters(variant, size) == PUBLISHED[variant, size]

    def test_xs36_has_as_many_as_the_paper_says(self):
        assert f"{count_parameters('XS36', 224) / 1e6:.1f}" == "38.6"


class VariantTest:
    def test_rates_factors_and_positions_are_those_of_the_published_code(self):
        model = CaiT.from_variant(
            "XXS24", (8, 12), num_layers=3, patch_size=4, stochastic_depth=0.2
        )
        assert [block.stochastic_depth for block in model.encoder.blocks] == [0.2] * 3
        assert model.num_prefix_tokens == 0
        assert len(model.pooling.blocks) == 2
        for block in model.pooling.blocks:
            assert block.class_attention.stochastic_depth == 0
        starts = {name: sizes["layer_scale"] for name, sizes in CaiT.VARIANTS.items()}
        assert {name for name, start in starts.items() if start == 1e-6} == {
            "XS36",
            "S36",
            "M36",
            "M48",
        }
        for part in (*model.encoder.blocks, *model.pooling.blocks):
            assert part.layer_scale == 1e-5

    def test_overrides_reach_the_parts(self):
        model = small(attention_dropout=0.3, num_class_layers=3, activation="relu", epsilon=1e-5)
        assert model.encoder.blocks[0].self_attention.sublayer.dropout == 0.3
        assert len(model.pooling.blocks) == 3
        assert {model.pooling.activation, model.activation} == {"relu"}
        assert {model.pooling.epsilon, model.epsilon} == {1e-5}
        with pytest.raises(ValueError, match="one of .*'XXS24'.* received variant='XXS12'"):
            CaiT.from_variant("XXS12", 224)


class LookTest:
    def test_the_share_of_a_patch_is_what_the_class_token_gets_of_it(self):
        model, images = small(), keras.random.normal((2, 8, 12, 3), seed=1)
        sequence, scores = model.encode(images, return_attention_scores=True)
        assert [x.shape for x in scores] == [(2, 3, 6, 6)] * 2
        shares = model.pooling.weights_of(sequence)
        assert shares.shape == (2, 6)
        np.testing.assert_allclose(ops.sum(shares, axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(model(images, return_attention_scores=True)[0], model(images))
