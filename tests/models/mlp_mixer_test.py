"""MLP-Mixer and ResMLP against the published numbers of parameters, and their variants."""

import numpy as np
import pytest

from kerasformer.layers import FeedForwardMixing, TokenMixing
from kerasformer.models import GMLP, MLPMixer

# Of timm; H/14 as the paper says, in millions.
PUBLISHED = {
    "S/32": 19_104_624,
    "S/16": 18_528_264,
    "B/32": 60_293_428,
    "B/16": 59_880_472,
    "L/32": 206_939_264,
    "L/16": 208_196_168,
    "ResMLP-12/16": 15_350_872,
    "ResMLP-24/16": 30_020_680,
    "ResMLP-36/16": 44_690_488,
    "ResMLP-B-24/8": 129_138_280,
}


def count_parameters(family, variant, image_size=224):
    """Counts from a model of one block; the arithmetic adds the others."""
    model = family.from_variant(variant, image_size, 1000, num_layers=1)
    model.build()
    others = family.VARIANTS[variant]["num_layers"] - 1
    return model.count_params() + others * model.encoder.blocks[0].count_params()


class PublishedTest:
    @pytest.mark.parametrize("variant", PUBLISHED)
    def test_parameters_are_as_many(self, variant):
        assert count_parameters(MLPMixer, variant) == PUBLISHED[variant]

    def test_the_largest_has_as_many_as_the_paper_says(self):
        assert round(count_parameters(MLPMixer, "H/14") / 1e6) == 432


class VariantTest:
    def test_overrides_reach_the_mixer(self):
        options = {"num_layers": 1, "dropout": 0.1, "activation": "relu"}
        model = MLPMixer.from_variant("S/16", 32, hidden_dim=24, **options)
        mixer = model.encoder.blocks[0].self_attention.sublayer
        assert isinstance(mixer, TokenMixing)
        assert (mixer.intermediate_dim, mixer.dropout, mixer.activation) == (12, 0.1, "relu")
        assert not model.has_attention_scores

    @pytest.mark.parametrize(
        ("variant", "name"),
        [("ResMLP-12/16", "token_dim"), ("FF-Ti/16", "token_dim"), ("S/16", "ratio")],
    )
    def test_an_override_that_the_mixer_cannot_use_is_refused(self, variant, name):
        with pytest.raises(ValueError, match=f"variant='{variant}' has no .*received {name}=2"):
            MLPMixer.from_variant(variant, 32, **{name: 2})

    def test_a_stack_of_feed_forward_layers_keeps_class_token_and_positions(self):
        model = MLPMixer.from_variant("FF-Ti/16", 32, num_layers=1)
        model.build()
        mixer = model.encoder.blocks[0].self_attention.sublayer
        assert isinstance(mixer, FeedForwardMixing)
        assert mixer.network.intermediate_dim == 4 * (1 + 2 * 2)
        assert (model.pool, model.positions) == ("class", "learned")

    @pytest.mark.parametrize("family", [MLPMixer, GMLP])
    def test_an_image_of_another_size_is_refused_in_one_sentence_at_first_too(self, family):
        model = family.from_variant("Lite-4/4", 16, 3, num_layers=1)
        with pytest.raises(
            ValueError, match="Expected inputs of length 16, .*received shape=.1, 25"
        ):
            model(np.zeros((1, 20, 20, 3)))
