"""Gradients of scores by images, against known ones and finite differences; what smoothing does."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer import explain
from kerasformer.explain import gradients
from kerasformer.models import ConvolutionalNetwork, VisionTransformer

B, H, W, C = 2, 5, 7, 3
IMAGES = np.random.default_rng(5).normal(size=(B, H, W, C)).astype("float32")
WEIGHTS = np.random.default_rng(7).normal(size=(H, W, C)).astype("float32")


def linear(images):
    return ops.sum(images * WEIGHTS, axis=(1, 2, 3))


def array(tensor):
    return ops.convert_to_numpy(tensor)


class InputGradientTest:
    def test_that_of_a_linear_model_is_its_weights(self):
        np.testing.assert_array_equal(explain.input_gradient(linear, IMAGES), [WEIGHTS] * B)

    @pytest.mark.parametrize(
        "model",
        [
            VisionTransformer((8, 6), 1, 6, 3, 5, patch_size=2),
            ConvolutionalNetwork("ResNet-20", (8, 6)),
        ],
        ids=["with attention", "of convolutions"],
    )
    def test_it_is_what_finite_differences_give(self, model):
        images = np.random.default_rng(3).normal(size=(2, 8, 6, 3)).astype("float32")

        def score(images):
            return model.features(images)[:, 1]

        found = array(explain.input_gradient(score, images))
        direction = found / np.sqrt(np.sum(found**2, axis=(1, 2, 3), keepdims=True))
        step = 1e-2 * direction
        steep = (array(score(images + step)) - array(score(images - step))) / 2e-2
        expected = np.sum(found * direction, axis=(1, 2, 3))
        np.testing.assert_allclose(steep, expected, rtol=0.02)
        assert np.abs(expected).min() > 1e-3

    def test_what_a_score_does_not_read_has_none(self):
        def score(images):
            return images[:, 1, 2, 0]

        found = array(explain.input_gradient(score, IMAGES))
        assert found[:, 1, 2, 0].tolist() == [1, 1] and np.abs(found).sum() == 2
        constant = explain.input_gradient(lambda images: ops.ones(B), IMAGES)
        np.testing.assert_array_equal(constant, np.zeros_like(IMAGES))

    def test_a_backend_without_gradients_is_named(self, monkeypatch):
        monkeypatch.setattr(gradients, "BACKEND", "numpy")
        with pytest.raises(ValueError, match="received KERAS_BACKEND=numpy"):
            explain.input_gradient(linear, IMAGES)


class SmoothedTest:
    def test_a_linear_model_keeps_its_gradient(self):
        found = explain.smoothed(lambda x: explain.input_gradient(linear, x), IMAGES, samples=3)
        np.testing.assert_allclose(array(found), [WEIGHTS] * B, rtol=1e-5)

    def test_the_noise_is_a_share_of_the_range_of_each_example(self):
        # The mean of the squares of noisy numbers is the square and the variance of the noise.
        inputs = np.zeros((2, 1009), "float32")
        inputs[0, :2], inputs[1, :2] = (-1, 1), (0, 10)
        found = array(explain.smoothed(ops.square, inputs, noise=0.3, samples=7))[:, 2:]
        np.testing.assert_allclose(found.mean(axis=1), [0.6**2, 3**2], rtol=0.05)

    def test_a_seed_gives_the_same_noise_and_copies_differ(self):
        first, again, other = (
            array(explain.smoothed(lambda x: x, IMAGES, samples=1, seed=seed)) for seed in (3, 3, 5)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).min() > 0
        two = array(explain.smoothed(lambda x: x, IMAGES, samples=2, seed=3))
        assert np.abs(first - two).min() > 0

    @pytest.mark.parametrize(("noise", "samples"), [(-0.1, 3), (0.1, 0)])
    def test_what_cannot_be_is_named(self, noise, samples):
        with pytest.raises(ValueError, match=f"noise={noise} and samples={samples}"):
            explain.smoothed(lambda x: x, IMAGES, noise, samples)


def test_saliency_is_the_largest_size_among_the_channels():
    found = explain.saliency(keras.ops.array(IMAGES))
    np.testing.assert_array_equal(array(found), np.abs(IMAGES).max(axis=-1))
