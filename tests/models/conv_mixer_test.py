"""ConvMixer against the published code: numbers of parameters, and outputs of copied weights."""

import numpy as np
import pytest

from kerasformer.models import ConvMixer
from tests.peers import samples

# Of timm; "256/8" is the paper's 0.7 million for CIFAR-10.
PUBLISHED = {"1536/20": 51_625_960, "768/32": 21_110_248, "1024/20": 24_383_464}
NAMES = [
    ("patches_norm", "stem/2"),
    ("patches", "stem/0"),
    (r"places_(\d)_norm", r"blocks/\1/0/fn/2"),
    (r"places_(\d)", r"blocks/\1/0/fn/0"),
    (r"features_(\d)_norm", r"blocks/\1/3"),
    (r"features_(\d)", r"blocks/\1/1"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
]


def count_parameters(variant, num_classes=1000):
    """Counts, as published, without moving statistics; the arithmetic adds all blocks but two."""

    def trained(num_layers):
        model = ConvMixer.from_variant(variant, 28, num_classes, num_layers=num_layers)
        model.build()
        return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)

    one, two = trained(1), trained(2)
    return one + (ConvMixer.VARIANTS[variant]["num_layers"] - 1) * (two - one)


class PublishedTest:
    @pytest.mark.parametrize("variant", PUBLISHED)
    def test_parameters_are_as_many(self, variant):
        assert count_parameters(variant) == PUBLISHED[variant]

    def test_that_for_cifar_has_as_many_as_the_paper_says(self):
        assert round(count_parameters("256/8", 10) / 1e6, 1) == 0.7

    def test_outputs_are_those_of_timm(self):
        images, expected, arrays = samples.read("conv_mixer")
        model = ConvMixer((8, 12), 12, 2, kernel_size=3, patch_size=2, num_classes=5)
        model.build()
        samples.copy_weights(model, arrays, NAMES)
        np.testing.assert_allclose(model(images), expected, atol=1e-4)


def test_an_unknown_variant_is_one_sentence():
    with pytest.raises(ValueError, match="one of .*'256/8'.*, received variant='7/7'"):
        ConvMixer.from_variant("7/7", 32)


def test_an_unknown_activation_is_no_matter_of_images():
    with pytest.raises(ValueError, match="nonsense") as caught:
        ConvMixer.from_variant("Lite-4/2", 32, activation="nonsense")
    assert "image" not in str(caught.value)
