"""gMLP against the published numbers of parameters, and its blocks."""

import pytest

from kerasformer.models import GMLP
from tests.models.mlp_mixer_test import count_parameters

PUBLISHED = {"Ti/16": 5_867_328, "S/16": 19_422_656, "B/16": 73_075_392}  # of timm


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_are_as_many_as_published(variant):
    assert count_parameters(GMLP, variant) == PUBLISHED[variant]


def test_blocks_have_no_feed_forward_layer_and_the_gate_is_six_times_as_wide():
    model = GMLP.from_variant("Lite-4/4", 16, hidden_dim=20)
    for block in model.encoder.blocks:
        assert block.feed_forward is None
        assert block.self_attention.sublayer.intermediate_dim == 120
