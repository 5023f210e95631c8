"""gMLP against the published code: numbers of parameters, and outputs of copied weights."""

import numpy as np
import pytest

from kerasformer.models import GMLP
from tests.models.mlp_mixer_test import SMALL, count_parameters
from tests.peers import samples

PUBLISHED = {"Ti/16": 5_867_328, "S/16": 19_422_656, "B/16": 73_075_392}  # of timm
NAMES = [
    ("patch_embedding/dense", "stem/proj"),
    ("encoder/block_", "blocks/"),
    ("encoder/final_norm", "norm"),
    ("self_attention/norm", "norm"),
    ("self_attention/mixer/inner_dense", "mlp_channels/fc1"),
    ("self_attention/mixer/output_dense", "mlp_channels/fc2"),
    ("self_attention/mixer/norm", "mlp_channels/gate/norm"),
    ("self_attention/mixer", "mlp_channels/gate/proj"),
]


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_are_as_many_as_published(variant):
    assert count_parameters(GMLP, variant) == PUBLISHED[variant]


def test_outputs_are_those_of_timm():
    images, expected, arrays = samples.read("gmlp")
    model = GMLP.from_variant("Ti/16", (8, 12), 5, **SMALL | {"intermediate_dim": 72})
    model.build()
    samples.copy_weights(model, arrays, NAMES)
    np.testing.assert_allclose(model(images), expected, atol=1e-4)


def test_blocks_have_no_feed_forward_layer_and_the_gate_is_six_times_as_wide():
    model = GMLP.from_variant("Lite-4/4", 16, hidden_dim=20)
    for block in model.encoder.blocks:
        assert block.feed_forward is None
        assert block.self_attention.sublayer.intermediate_dim == 120
