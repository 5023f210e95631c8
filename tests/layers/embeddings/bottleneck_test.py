"""Standardised convolutions and bottleneck units against numpy and Keras."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.bottleneck import (
    BottleneckUnit,
    NormalizedConvolution,
    standardize_kernel,
)

BATCH, HEIGHT, WIDTH, CHANNELS, FILTERS, GROUPS = 2, 5, 7, 3, 6, 2


def example(channels=CHANNELS):
    shape = (BATCH, HEIGHT, WIDTH, channels)
    return np.random.default_rng(channels).standard_normal(shape).astype("float32")


def random_weights(layer, inputs):
    random = np.random.default_rng(1)
    layer(inputs)
    layer.set_weights([random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


def group_norm(x, scale, shift, epsilon):
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, GROUPS, channels // GROUPS)
    mean = x.mean((1, 2, 4), keepdims=True)
    variance = x.var((1, 2, 4), keepdims=True)
    x = (x - mean) / np.sqrt(variance + epsilon)
    return x.reshape(batch, height, width, channels) * scale + shift


class KernelTest:
    def test_each_filter_has_mean_zero_and_deviation_one(self):
        kernel = 5 + 3 * np.random.default_rng(2).standard_normal((3, 3, CHANNELS, FILTERS))
        standard = np.array(standardize_kernel(ops.array(kernel)))
        np.testing.assert_allclose(standard.mean((0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(standard.std((0, 1, 2)), 1, rtol=1e-4)

    def test_a_constant_filter_becomes_zero(self):
        assert not np.any(np.array(standardize_kernel(ops.ones((3, 3, CHANNELS, FILTERS)))))

    def test_16_bits_are_not_enough_for_the_statistics(self):
        kernel = ops.cast(ops.array([[[[1000.0], [1008.0]]]]), "bfloat16")
        standard = standardize_kernel(kernel)
        assert keras.backend.standardize_dtype(standard.dtype) == "float32"
        np.testing.assert_allclose(np.ravel(standard), [-1, 1], rtol=1e-4)


class ConvolutionTest:
    @pytest.mark.parametrize("strides", [1, 2])
    def test_it_is_a_convolution_then_a_group_norm(self, strides):
        x = example()
        layer = NormalizedConvolution(FILTERS, 3, strides, GROUPS, epsilon=0.01)
        kernel, scale, shift = random_weights(layer, x).get_weights()
        kernel = (kernel - kernel.mean((0, 1, 2))) / (kernel.std((0, 1, 2)) + 1e-5)
        convolved = np.array(ops.conv(x, kernel, strides, "same", "channels_last"))
        expected = group_norm(convolved, scale, shift, epsilon=0.01)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-4)
        assert layer.compute_output_shape(x.shape) == expected.shape

    def test_the_scale_and_the_mean_of_the_kernel_do_not_matter(self):
        x, layer = example(), NormalizedConvolution(FILTERS, 3, 1, GROUPS)
        kernel, *others = random_weights(layer, x).get_weights()
        before = np.array(layer(x))
        layer.set_weights([3 * kernel + 0.5, *others])
        np.testing.assert_allclose(layer(x), before, rtol=1e-3, atol=1e-3)

    def test_the_kernel_is_not_rounded_before_it_is_standardised(self):
        # Rounded to bfloat16 first, all entries of this kernel would be equal.
        x = ops.array(example())
        kernel = 100 + 0.1 * np.random.default_rng(3).standard_normal((1, 1, CHANNELS, FILTERS))
        exact, rough = (
            NormalizedConvolution(FILTERS, 1, 1, GROUPS, dtype=dtype)
            for dtype in ("float32", "mixed_bfloat16")
        )
        for layer in (exact, rough):
            layer.build(x.shape)
            layer.set_weights([kernel, *layer.get_weights()[1:]])
        np.testing.assert_allclose(ops.cast(rough(x), "float32"), exact(x), atol=0.1)


class UnitTest:
    def test_it_starts_as_the_relu_of_its_shortcut(self):
        x = example(4 * FILTERS)
        unit = BottleneckUnit(FILTERS, 1, GROUPS)
        np.testing.assert_array_equal(unit(x), np.maximum(x, 0))
        assert unit.shortcut is None
        unit = BottleneckUnit(FILTERS, 2, GROUPS)
        np.testing.assert_array_equal(unit(x), ops.relu(unit.shortcut(x)))

    @pytest.mark.parametrize(("channels", "strides"), [(24, 1), (CHANNELS, 1), (24, 2)])
    def test_it_adds_three_convolutions_to_its_shortcut(self, channels, strides):
        x = example(channels)
        unit = random_weights(BottleneckUnit(FILTERS, strides, GROUPS), x)
        inner = keras.activations.relu(unit.reduce(x))
        inner = keras.activations.relu(unit.convolve(inner))
        shortcut = x if (channels, strides) == (24, 1) else np.array(unit.shortcut(x))
        expected = np.maximum(np.array(unit.expand(inner)) + shortcut, 0)
        np.testing.assert_allclose(unit(x), expected, rtol=1e-5, atol=1e-5)
        assert unit.compute_output_shape(x.shape) == expected.shape

    def test_an_example_does_not_depend_on_its_batch(self):
        x = example()
        unit = random_weights(BottleneckUnit(FILTERS, 2, GROUPS), x)
        np.testing.assert_allclose(unit(x)[:1], unit(x[:1]), rtol=1e-4, atol=1e-4)
