"""ConvMixer against the published numbers of parameters, and what it refuses."""

import numpy as np
import pytest

from kerasformer.models import ConvMixer

# Of timm; "256/8" is the paper's 0.7 million for CIFAR-10.
PUBLISHED = {"1536/20": 51_625_960, "768/32": 21_110_248, "1024/20": 24_383_464}


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


def test_an_unknown_variant_is_one_sentence():
    with pytest.raises(ValueError, match="one of .*'256/8'.*, received variant='7/7'"):
        ConvMixer.from_variant("7/7", 32)


def test_an_unknown_activation_is_no_matter_of_images():
    with pytest.raises(ValueError, match="nonsense") as caught:
        ConvMixer.from_variant("Lite-4/2", 32, activation="nonsense")
    assert "image" not in str(caught.value)
