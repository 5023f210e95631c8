"""Maps of a model's attention, and how far its heads look."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer import explain
from kerasformer.models import CaiT, GCViT, MLPMixer, VisionTransformer

ROWS, COLUMNS, TOKENS, HEADS = 3, 5, 2, 3
LENGTH = TOKENS + ROWS * COLUMNS


def distances(scores, step=(1, 1)):
    """Measures the distance of each head by loops."""
    places = [(row * step[0], column * step[1]) for row in range(ROWS) for column in range(COLUMNS)]
    found = []
    for head in scores:
        rows = head[-len(places) :, -len(places) :]
        means = [
            sum(w * np.hypot(a - y, b - x) for w, (y, x) in zip(row, places, strict=True))
            / sum(row)
            for row, (a, b) in zip(rows, places, strict=True)
        ]
        found.append(np.mean(means))
    return found


class AttentionDistanceTest:
    GRID = (ROWS, COLUMNS)

    def test_who_looks_at_himself_looks_nowhere(self):
        found = explain.attention_distance(ops.eye(ROWS * COLUMNS)[None], self.GRID)
        assert float(found[0]) == 0

    def test_it_is_the_weighted_mean_in_pixels(self):
        scores = np.random.default_rng(3).random((2, HEADS, LENGTH, LENGTH), "float32")
        found = explain.attention_distance(scores, self.GRID, TOKENS, patch_size=(4, 2.5))
        expected = [distances(heads, (4, 2.5)) for heads in scores]
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)

    def test_of_equal_attention_it_is_the_mean_of_all_distances(self):
        alike = np.full((1, LENGTH, LENGTH), 1 / LENGTH, "float32")
        found = explain.attention_distance(alike, self.GRID, TOKENS, 16)
        np.testing.assert_allclose(float(found[0]), distances(alike, (16, 16))[0], rtol=1e-6)

    def test_a_patch_that_looks_at_the_class_token_alone_counts_as_near(self):
        scores = np.zeros((1, LENGTH, LENGTH), "float32")
        scores[..., 0] = 1
        assert float(explain.attention_distance(scores, self.GRID, TOKENS)[0]) == 0

    def test_another_grid_is_named(self):
        with pytest.raises(ValueError, match="17 positions .* received 15"):
            explain.attention_distance(np.zeros((1, 15, 15)), self.GRID, TOKENS)


class AttentionMapsTest:
    SIZE = (6, 10)

    def maps(self, model, size=SIZE):
        return [
            ops.convert_to_numpy(x)
            for x in explain.attention_maps(model, keras.random.normal((2, *size, 3), seed=3))
        ]

    def test_with_and_without_a_head_they_are_shares_of_each_patch(self):
        for classes in (None, 7):
            model = VisionTransformer(self.SIZE, 2, 6, HEADS, 5, classes, patch_size=2, pool="mean")
            rolled, heads = self.maps(model)
            assert rolled.shape == (2, 3, 5) and heads.shape == (2, 2, HEADS, 3, 5)
            np.testing.assert_allclose(rolled.sum(axis=(1, 2)), 1, rtol=1e-5)
            np.testing.assert_allclose(heads.sum(axis=(3, 4)), 1, rtol=1e-5)

    def test_the_class_token_is_left_out_and_images_may_be_larger(self):
        model = VisionTransformer(self.SIZE, 1, 6, HEADS, 5, patch_size=2, num_prefix_tokens=2)
        rolled, heads = self.maps(model, (8, 10))
        assert heads.shape == (2, 1, HEADS, 4, 5)
        assert np.all(heads.sum(axis=(3, 4)) < 1) and np.all(rolled.sum(axis=(1, 2)) < 1)

    def test_the_weights_of_a_pool_say_what_is_read(self):
        model = CaiT.from_variant("Lite-4/4", (8, 12), patch_size=4, num_layers=1)
        images = keras.random.normal((1, 8, 12, 3), seed=3)
        sequence, (scores,) = model.encode(images, return_attention_scores=True)
        weights, scores = (
            ops.convert_to_numpy(x) for x in (model.pooling.weights_of(sequence), scores)
        )
        _, heads = explain.attention_maps(model, images)
        expected = np.einsum("bp,bnps->bns", weights, scores).reshape(1, 1, 4, 2, 3)
        np.testing.assert_allclose(ops.convert_to_numpy(heads), expected, rtol=1e-4, atol=1e-6)

    def test_a_model_without_scores_is_named(self):
        for model in (GCViT.from_variant("Lite", 16), MLPMixer.from_variant("Lite-4/4", 16)):
            with pytest.raises(ValueError, match=f"received model={type(model).__name__}"):
                explain.attention_maps(model, ops.ones((1, 16, 16, 3)))
