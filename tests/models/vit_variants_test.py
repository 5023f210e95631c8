"""The published models against the published numbers of their parameters."""

import pytest

from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import VARIANTS


def count_parameters(variant, image_size, num_classes, **overrides):
    """Counts from a model of one block; the arithmetic adds the others."""
    whole = VARIANTS[variant]["num_layers"]
    model = VisionTransformer.from_variant(
        variant, image_size, num_classes, num_layers=1, **overrides
    )
    model.build()
    return model.count_params() + (whole - 1) * model.encoder.blocks[0].count_params()


class PublishedSizeTest:
    @pytest.mark.parametrize(
        ("variant", "published"),
        [
            ("Ti/16", 5_717_416),
            ("S/16", 22_050_664),
            ("B/16", 86_567_656),
            ("B/32", 88_224_232),
            ("L/16", 304_326_632),
            ("L/32", 306_535_400),
            ("H/14", 632_045_800),
            # DeiT: one token, its position and one head more.
            ("DeiT-Ti/16", 5_717_416 + 2 * 192 + 193_000),
            ("DeiT-S/16", 22_050_664 + 2 * 384 + 385_000),
            ("DeiT-B/16", 86_567_656 + 2 * 768 + 769_000),
        ],
    )
    def test_on_imagenet(self, variant, published):
        assert count_parameters(variant, image_size=224, num_classes=1000) == published

    def test_the_hybrid_at_384_pixels(self):
        assert f"{count_parameters('R50+B/16', 384, 1000) / 1e6:.2f}" == "98.95"

    @pytest.mark.parametrize(
        ("variant", "published", "positions"),
        [
            ("ViT-Lite-7/4", "3.72", "learned"),
            ("ViT-Lite-6/4", "3.19", "learned"),
            ("CVT-7/4", "3.72", "learned"),
            ("CCT-7/3x1", "3.76", "learned"),
            ("CCT-6/3x1", "3.17", "sinusoidal"),
            ("CCT-4/3x2", "0.482", "learned"),
            ("CCT-2/3x2", "0.284", "learned"),
        ],
    )
    def test_on_cifar(self, variant, published, positions):
        count = count_parameters(variant, image_size=32, num_classes=10, positions=positions)
        # Published without biases of query, key and value.
        sizes = VARIANTS[variant]
        count -= sizes["num_layers"] * 3 * sizes["hidden_dim"]
        assert f"{count / 1e6:.3g}" == published


class VariantsTest:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_name_says_what_the_model_is(self, variant):
        model = VisionTransformer.from_variant(variant, 224, num_classes=None, num_layers=1)
        assert model.distillation == variant.startswith("DeiT")
        assert (model.pool == "sequence") == variant.startswith(("CVT", "CCT"))
        assert (model.stem is None) == (not variant.startswith(("CCT", "R50")))
        size = variant.split("-")[-1]
        if variant.startswith("CCT"):
            layers, stem = size.split("/")
            assert stem == f"{model.stem.kernel_size}x{model.stem.num_layers}"
        else:
            layers, patch = size.split("/")
            side = 224 // int(patch)
            assert model.grid_size() == (side, side)
        if layers.isdigit():
            assert VARIANTS[variant]["num_layers"] == int(layers)

    def test_the_tokens_of_cct_are_as_published(self):
        for variant, side in (("CCT-7/3x1", 16), ("CCT-2/3x2", 8)):
            assert VisionTransformer.from_variant(variant, 32, 10).grid_size() == (side, side)
        assert VisionTransformer.from_variant("CCT-14/7x2", 224, 10).grid_size() == (14, 14)
