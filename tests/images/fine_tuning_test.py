"""Tests of beginning with the weights of another model: what is copied, resized, kept, refused."""

import numpy as np
import pytest

from kerasformer.layers.positions.grids import resize_grid
from kerasformer.models import ConvMixer, VisionTransformer
from pipelines.images.fine_tuning import copy_weights

RANDOM = np.random.default_rng(0)
SIZES = {"num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 13}
VIT, CCT = "ViT-Lite-6/4", "CCT-2/3x2"


def make(image_size=8, num_classes=5, variant=VIT, **options):
    """Makes a model each of whose weights, heads included, is drawn at random."""
    if variant == VIT:
        options = {"patch_size": 2} | options
    model = VisionTransformer.from_variant(
        variant, image_size, num_classes, name="vit", **{**SIZES, **options}
    )
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    model.build((None, *size, 3))
    for variable in weights(model):
        variable.assign(RANDOM.normal(size=variable.shape))
    return model


def weights(model):
    return [variable for variable in model.variables if variable.name != "seed_generator_state"]


def values(model):
    return [variable.numpy() for variable in model.variables]


def assert_same(ours, theirs):
    for array, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(array, other)


class CopyTest:
    @pytest.mark.parametrize("variant", [VIT, CCT])
    @pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
    def test_a_model_of_the_same_sizes_then_answers_the_same(self, variant, positions):
        source, target = (make(variant=variant, positions=positions) for _ in range(2))
        copy_weights(source, target)
        assert_same(*([v.numpy() for v in weights(model)] for model in (source, target)))
        images = RANDOM.normal(size=(2, 8, 8, 3)).astype(np.float32)
        np.testing.assert_allclose(source(images), target(images), rtol=1e-5)

    @pytest.mark.parametrize("variant", [VIT, CCT])
    def test_positions_are_resized_to_the_grid_of_the_target(self, variant):
        source, target = make(8, variant=variant), make((12, 4), variant=variant)
        copy_weights(source, target)
        old, new = source.grid_positions, target.grid_positions
        assert old.grid_size != new.grid_size
        expected = resize_grid(old.table.numpy(), old.grid_size, new.grid_size)
        np.testing.assert_allclose(new.table, expected, rtol=1e-6)
        for ours, theirs in zip(weights(source), weights(target), strict=True):
            if ours is not old.table:
                np.testing.assert_array_equal(ours, theirs)

    def test_positions_of_another_grid_of_as_many_patches_are_resized_too(self):
        source, target = make((4, 6)), make((6, 4))
        copy_weights(source, target)
        expected = resize_grid(source.grid_positions.table.numpy(), (2, 3), (3, 2))
        np.testing.assert_allclose(target.grid_positions.table, expected, rtol=1e-6)

    @pytest.mark.parametrize("num_classes", [7, None])
    def test_a_head_for_other_classes_keeps_its_weights(self, num_classes):
        source, target = make(num_classes=num_classes), make(num_classes=5)
        before = [variable.numpy() for variable in target.head.variables]
        copy_weights(source, target)
        assert_same(before, [variable.numpy() for variable in target.head.variables])
        images = RANDOM.normal(size=(2, 8, 8, 3)).astype(np.float32)
        np.testing.assert_allclose(source.features(images), target.features(images), rtol=1e-5)

    def test_a_trunk_is_copied_with_its_statistics(self):
        source, target = (ConvMixer(8, 7, 1, 3, 2, classes, name="x") for classes in (5, 3))
        for model in (source, target):
            model.build()
            model.set_weights([RANDOM.random(w.shape) for w in model.get_weights()])
        head = target.head.get_weights()
        copy_weights(source, target, with_heads=False)
        assert_same(source.trunk.get_weights(), target.trunk.get_weights())
        assert_same(head, target.head.get_weights())

    def test_the_source_and_random_states_stay_as_they_were(self):
        source, target = make(), make()
        states = [v for v in target.variables if v.name == "seed_generator_state"]
        assert states
        before, source_before = [state.numpy() for state in states], values(source)
        copy_weights(source, target)
        assert_same(before, [state.numpy() for state in states])
        assert_same(source_before, values(source))


class RefusalTest:
    def test_a_model_of_another_family_is_one_sentence(self):
        with pytest.raises(ValueError, match="to hold a ConvMixer, received a VisionTransformer"):
            copy_weights(make(), ConvMixer(8, 7, 1, 3, 2, 5))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"hidden_dim": 24}, "patch_embedding/dense/kernel of shape"),
            ({"num_layers": 2}, "block_1/.* of shape None, received"),
            ({"distillation": True}, "prefix_tokens/tokens of shape"),
            ({"positions": "none"}, "grid_positions/table of shape .*, received None"),
            ({"patch_size": 4}, "patch_embedding/dense/kernel of shape"),
            ({"layer_scale": 0.1}, "of shape None, received"),
        ],
    )
    def test_a_model_that_differs_is_one_sentence_and_changes_nothing(self, options, message):
        source, target = make(**options), make()
        before = values(target)
        with pytest.raises(ValueError, match=f"Expected the run of start.workdir .*{message}"):
            copy_weights(source, target)
        assert_same(before, values(target))
        with pytest.raises(ValueError, match="Expected the run of start.workdir"):
            copy_weights(target, source)
