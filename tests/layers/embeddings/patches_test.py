"""Patches against numpy, TensorFlow's own extraction, and convolutions with the same weights."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.patches import (
    PatchEmbedding,
    PatchExtractor,
    extract_patches,
    merge_patches,
    pair,
    patch_grid,
)
from tests.backend import needs_tensorflow, tf

BATCH, HEIGHT, WIDTH, CHANNELS, HIDDEN = 2, 6, 15, 3, 7
# (patch_size, strides, padding) that suit an image of 6 x 15 pixels.
SIDE_BY_SIDE = [(3, None, "valid"), ((2, 5), None, "valid"), ((3, 1), (3, 1), "valid")]
PADDED = [(4, None, "same"), ((5, 7), None, "same"), (16, None, "same")]
OVERLAPPING = [
    (3, (1, 2), "valid"),
    ((2, 5), (2, 1), "valid"),
    (4, 3, "same"),
    ((5, 3), (2, 2), "same"),
]
WAYS = SIDE_BY_SIDE + PADDED + OVERLAPPING


def example(height=HEIGHT, width=WIDTH):
    shape = (BATCH, height, width, CHANNELS)
    return np.random.default_rng(height).standard_normal(shape).astype("float32")


def cut_by_loops(images, size, step):
    """Cuts patches that fit, the plainest way there is."""
    _, height, width, _ = images.shape
    return np.stack(
        [
            images[:, top : top + size[0], left : left + size[1]].reshape(BATCH, -1)
            for top in range(0, height - size[0] + 1, step[0])
            for left in range(0, width - size[1] + 1, step[1])
        ],
        axis=1,
    )


class ExtractTest:
    @pytest.mark.parametrize(("size", "step"), [((3, 5), (3, 5)), ((3, 5), (1, 2))])
    def test_it_cuts_as_a_loop_does(self, size, step):
        np.testing.assert_array_equal(
            extract_patches(example(), size, step), cut_by_loops(example(), size, step)
        )

    @pytest.mark.parametrize("way", WAYS)
    @needs_tensorflow
    def test_it_cuts_as_tensorflow_does(self, way):
        size, step, padding = way
        expected = tf.image.extract_patches(
            example(),
            [1, *pair("", size), 1],
            [1, *pair("", step or size), 1],
            [1, 1, 1, 1],
            padding.upper(),
        )
        rows, columns = expected.shape[1:3]
        assert patch_grid((HEIGHT, WIDTH), *way) == (rows, columns)
        np.testing.assert_array_equal(
            extract_patches(example(), *way), tf.reshape(expected, (BATCH, rows * columns, -1))
        )

    @pytest.mark.parametrize("way", WAYS)
    @needs_tensorflow
    def test_sizes_may_be_unknown_until_run_time(self, way):
        signature = tf.TensorSpec((None, None, None, CHANNELS))
        graph = tf.function(lambda x: extract_patches(x, *way), input_signature=[signature])
        np.testing.assert_array_equal(graph(example()), extract_patches(example(), *way))

    @pytest.mark.parametrize(("size", "step"), [(4, None), (4, 3)])
    @needs_tensorflow
    def test_an_unknown_size_that_does_not_fit_fails_at_run_time(self, size, step):
        signature = tf.TensorSpec((None, None, None, CHANNELS))
        graph = tf.function(lambda x: extract_patches(x, size, step), input_signature=[signature])
        with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
            graph(example())

    def test_integers_stay_integers(self):
        images = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
        for strides in (None, 2):
            patches = extract_patches(ops.convert_to_tensor(images), 4, strides)
            assert keras.backend.standardize_dtype(patches.dtype) == "uint8"
        assert np.array(patches).max() == 255

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"patch_size": 4}, r"image_size=\(6, 15\), patch_size=4"),
            ({"patch_size": 4, "strides": 3}, "patch_size=4 and strides=3"),
            ({"patch_size": (7, 15), "strides": 1}, r"patch_size=\(7, 15\) and strides=1"),
            ({"patch_size": 2, "strides": 3}, "at most patch_size, received strides=3"),
            ({"patch_size": 3, "padding": "full"}, "received padding='full'"),
            ({"patch_size": 0}, "received patch_size=0"),
            ({"patch_size": (3, 5, 1)}, r"received patch_size=\(3, 5, 1\)"),
            ({"patch_size": 3, "strides": 1.5}, r"received strides=1\.5"),
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments, message):
        for make in (PatchExtractor, lambda **kwargs: PatchEmbedding(HIDDEN, **kwargs)):
            with pytest.raises(ValueError, match=message):
                make(**arguments)(example())
        with pytest.raises(ValueError, match=message):
            make(**arguments)(keras.Input((HEIGHT, WIDTH, CHANNELS)))

    def test_a_batch_without_channels_is_refused(self):
        with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
            PatchEmbedding(HIDDEN, 3)(example()[..., 0])


class MergeTest:
    @pytest.mark.parametrize(("size", "step", "padding"), SIDE_BY_SIDE)
    def test_it_is_the_inverse(self, size, step, padding):
        grid = patch_grid((HEIGHT, WIDTH), size)
        patches = extract_patches(example(), size, step, padding)
        merged = merge_patches(patches, grid, size)
        np.testing.assert_array_equal(merged, example())
        np.testing.assert_array_equal(extract_patches(merged, size), patches)

    def test_padding_comes_back_as_zeros_around_the_image(self):
        grid = patch_grid((HEIGHT, WIDTH), 4, padding="same")
        patches = extract_patches(example(), 4, padding="same")
        expected = np.pad(example(), [(0, 0), (1, 1), (0, 1), (0, 0)])
        np.testing.assert_array_equal(merge_patches(patches, grid, 4), expected)

    @needs_tensorflow
    def test_sizes_may_be_unknown_until_run_time(self):
        @tf.function(input_signature=[tf.TensorSpec((None, None, None, CHANNELS))])
        def there_and_back(images):
            grid = patch_grid(ops.shape(images)[1:3], (2, 5))
            return merge_patches(extract_patches(images, (2, 5)), grid, (2, 5))

        np.testing.assert_array_equal(there_and_back(example()), example())

    @pytest.mark.parametrize(("grid", "size"), [((2, 4), 3), ((2, 5), 2)])
    def test_sizes_that_contradict_each_other_are_refused(self, grid, size):
        patches = extract_patches(example(), 3)
        with pytest.raises(ValueError, match=r"shape=\(2, 10, 27\), grid_size=.*, patch_size|and"):
            merge_patches(patches, grid, size)


class EmbeddingTest:
    @pytest.mark.parametrize("use_bias", [True, False])
    @pytest.mark.parametrize("way", WAYS)
    def test_it_equals_the_convolution_with_the_same_weights(self, way, use_bias):
        size, step, padding = way
        layer = PatchEmbedding(HIDDEN, *way, use_bias=use_bias)
        outputs = layer(example())
        convolution = keras.layers.Conv2D(
            HIDDEN, size, step or size, padding, "channels_last", use_bias=use_bias
        )
        convolution.build(example().shape)
        kernel, *bias = layer.get_weights()
        bias = [np.random.default_rng(1).standard_normal(x.shape) for x in bias]
        layer.set_weights([kernel, *bias])
        convolution.set_weights([kernel.reshape(convolution.kernel.shape), *bias])
        expected = convolution(example())
        assert layer.grid_size((HEIGHT, WIDTH)) == tuple(expected.shape[1:3])
        outputs = layer(example())
        expected = np.reshape(expected, outputs.shape)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("way", WAYS)
    def test_it_projects_what_the_extractor_cuts(self, way):
        layer = PatchEmbedding(HIDDEN, *way)
        outputs = layer(example())
        np.testing.assert_allclose(
            outputs, layer.dense(PatchExtractor(*way)(example())), rtol=1e-4, atol=1e-5
        )

    def test_a_model_takes_images_of_any_size(self):
        inputs = keras.Input((None, None, CHANNELS))
        for way in [((2, 5), None, "valid"), (4, 3, "same")]:
            layer = PatchEmbedding(HIDDEN, *way)
            model = keras.Model(inputs, layer(inputs))
            assert model.output_shape == (None, None, HIDDEN)
            for height, width in [(6, 15), (4, 10)]:
                outputs = model.predict(example(height, width), verbose=0)
                rows, columns = layer.grid_size((height, width))
                assert outputs.shape == (BATCH, rows * columns, HIDDEN)
                np.testing.assert_allclose(
                    outputs, layer(example(height, width)), rtol=1e-5, atol=1e-6
                )

    def test_a_pixel_moves_its_own_patch_alone(self):
        layer = PatchEmbedding(HIDDEN, (2, 5))
        images = example()
        before = np.array(layer(images))
        images[0, 3, 12, 1] += 1  # row 1 and column 2 of 3 x 3 patches
        moved = np.argwhere(np.any(np.array(layer(images)) != before, axis=-1))
        assert moved.tolist() == [[0, 1 * 3 + 2]]

    def test_pixels_of_8_bits_are_read_as_numbers(self):
        pixels = np.random.default_rng(2).integers(0, 256, (BATCH, HEIGHT, WIDTH, CHANNELS))
        for strides in (None, 1):
            layer = PatchEmbedding(HIDDEN, 3, strides)
            expected = layer(pixels.astype("float32"))
            np.testing.assert_array_equal(layer(pixels.astype("uint8")), expected)

    @pytest.mark.parametrize("way", OVERLAPPING)
    def test_quantised_to_8_bits_it_computes_nearly_the_same(self, way):
        layer = PatchEmbedding(HIDDEN, *way)
        exact = np.array(layer(example()))
        layer.dense.quantize("int8")
        error = np.linalg.norm(np.array(layer(example())) - exact) / np.linalg.norm(exact)
        assert error < 0.02

    def test_it_starts_as_its_initializers_say(self):
        layer = PatchEmbedding(
            HIDDEN, 3, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(2)
        )
        assert np.all(np.array(layer(example())) == 2)
