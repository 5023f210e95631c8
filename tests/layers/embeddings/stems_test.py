"""The convolutional front doors against numpy, Keras layers, and published numbers of weights."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.stems import ConvolutionalStem, ResNetStem, downsample

BATCH, HEIGHT, WIDTH, CHANNELS, HIDDEN = 2, 16, 24, 3, 7
FRONT_DOORS = {
    "convolutional": lambda: ConvolutionalStem(HIDDEN, num_layers=2, width=5),
    "convolutional with strides": lambda: ConvolutionalStem(HIDDEN, kernel_size=7, strides=2),
    "resnet": lambda: ResNetStem(HIDDEN, (1, 2), width=4, groups=2),
    "resnet root with patches": lambda: ResNetStem(HIDDEN, (), 4, patch_size=(2, 3), groups=2),
}
each_stem = pytest.mark.parametrize("make", FRONT_DOORS.values(), ids=FRONT_DOORS)


def example(height=HEIGHT, width=WIDTH):
    shape = (BATCH, height, width, CHANNELS)
    return np.random.default_rng(height).standard_normal(shape).astype("float32")


def max_pool_by_loops(x):
    """Takes the maximum over windows of 3 x 3, 2 apart, of an image of even sides."""
    x = np.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=-np.inf)
    rows, columns = (x.shape[1] - 1) // 2, (x.shape[2] - 1) // 2
    windows = [
        x[:, top : top + 2 * rows : 2, left : left + 2 * columns : 2]
        for top in range(3)
        for left in range(3)
    ]
    return np.max(windows, axis=0)


class ConvolutionalStemTest:
    @pytest.mark.parametrize("num_layers", [1, 2])
    def test_each_layer_is_a_convolution_relu_and_a_pool(self, num_layers):
        layer = ConvolutionalStem(HIDDEN, num_layers, width=5)
        outputs, x = layer(example()), example()
        for kernel in layer.get_weights():
            convolved = ops.conv(x, kernel, padding="same", data_format="channels_last")
            x = max_pool_by_loops(np.maximum(convolved, 0))
        assert layer.grid_size((HEIGHT, WIDTH)) == x.shape[1:3]
        np.testing.assert_allclose(outputs, x.reshape(BATCH, -1, HIDDEN), rtol=1e-5, atol=1e-6)

    def test_the_tokenizer_of_cct_7_3x1_makes_256_tokens_with_6912_weights(self):
        layer = ConvolutionalStem(256)
        layer.build((None, 32, 32, 3))
        assert layer.compute_output_shape((BATCH, 32, 32, 3)) == (BATCH, 256, 256)
        assert layer.count_params() == 3 * 3 * 3 * 256

    def test_the_tokenizer_of_cct_14_7x2_makes_196_tokens(self):
        layer = ConvolutionalStem(384, num_layers=2, kernel_size=7, strides=2)
        layer.build((None, 224, 224, 3))
        assert layer.grid_size((224, 224)) == (14, 14)
        assert layer.count_params() == 7 * 7 * (3 * 64 + 64 * 384)

    def test_no_layer_at_all_is_refused(self):
        with pytest.raises(ValueError, match="received num_layers=0"):
            ConvolutionalStem(HIDDEN, num_layers=0)


class ResNetStemTest:
    @pytest.mark.parametrize(
        ("arguments", "image_size", "grid_size", "weights"),
        [
            # What vision_transformer's models with this name have more than their plain twin.
            ({"hidden_dim": 768}, 224, (14, 14), 12_682_048),  # R50+ViT-B/16
            ({"hidden_dim": 384, "num_units": (2, 2, 2, 2)}, 224, (7, 7), 14_732_992),  # R26+S/32
            ({"hidden_dim": 192, "num_units": (), "patch_size": 8}, 224, (7, 7), 796_160),  # R+Ti
        ],
    )
    def test_it_has_the_published_number_of_weights(
        self, arguments, image_size, grid_size, weights
    ):
        layer = ResNetStem(**arguments)
        layer.build((None, image_size, image_size, 3))
        assert layer.count_params() == weights
        assert layer.grid_size((image_size, image_size)) == grid_size

    def test_it_is_the_root_a_pool_the_units_and_a_projection(self):
        layer = ResNetStem(HIDDEN, (1, 2), width=4, groups=2)
        outputs = layer(example())
        x = max_pool_by_loops(np.maximum(layer.root(example()), 0))
        for unit in layer.units:
            x = unit(x)
        kernel, bias = layer.patch_embedding.get_weights()
        expected = np.reshape(x @ kernel + bias, (BATCH, -1, HIDDEN))
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
        assert [unit.strides for unit in layer.units] == [1, 2, 1]

    def test_contradictions_are_refused(self):
        with pytest.raises(ValueError, match="received groups=32 and width=4"):
            ResNetStem(HIDDEN, width=4)
        layer = ResNetStem(HIDDEN, (), width=4, groups=2, patch_size=3)
        with pytest.raises(ValueError, match=r"image_size=\(4, 6\), patch_size=3"):
            layer(example())
        for stem in (layer, ConvolutionalStem(HIDDEN)):
            with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
                stem(example()[0])


@each_stem
class FrontDoorTest:
    def test_positions_stand_in_rows(self, make):
        """A change far away, at the lower left, moves the last row first and keeps the others."""
        layer = make()
        grid = (BATCH, *layer.grid_size((HEIGHT, WIDTH)), HIDDEN)
        images, changed = np.zeros_like(example()), np.zeros_like(example())
        changed[:, -1, 0] += 1
        before, after = (np.reshape(layer(x), grid) for x in (images, changed))
        moved = np.abs(after - before).sum((0, 3))
        assert moved[-1, 0] == moved.max() > 0

    def test_a_model_takes_images_of_any_size(self, make):
        layer = make()
        inputs = keras.Input((None, None, CHANNELS))
        model = keras.Model(inputs, layer(inputs))
        assert model.output_shape == (None, None, HIDDEN)
        for height, width in [(16, 24), (24, 36)]:
            outputs = model.predict(example(height, width), verbose=0)
            rows, columns = layer.grid_size((height, width))
            assert outputs.shape == (BATCH, rows * columns, HIDDEN)
            np.testing.assert_allclose(outputs, layer(example(height, width)), rtol=1e-3, atol=1e-3)

    def test_pixels_of_8_bits_are_read_as_numbers(self, make):
        layer = make()
        pixels = np.random.default_rng(2).integers(0, 256, example().shape)
        expected = layer(pixels.astype("float32"))
        np.testing.assert_array_equal(layer(pixels.astype("uint8")), expected)


class InitializerTest:
    @pytest.mark.parametrize("initializer", ["he_normal", keras.initializers.HeNormal()])
    def test_no_two_convolutions_start_alike(self, initializer):
        stems = [
            ConvolutionalStem(HIDDEN, 3, width=CHANNELS, kernel_initializer=initializer),
            ResNetStem(HIDDEN, (2, 2), 4, groups=2, kernel_initializer=initializer),
        ]
        for stem in stems:
            stem.build((None, HEIGHT, WIDTH, CHANNELS))
            kernels = [w.numpy() for w in stem.weights if w.name == "kernel"]
            assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)

    def test_convolutions_start_as_it_says(self):
        for make in (
            lambda **options: ConvolutionalStem(HIDDEN, 2, **options),
            lambda **options: ResNetStem(HIDDEN, (1,), 4, groups=2, **options),
        ):
            stem = make(kernel_initializer=keras.initializers.Constant(0.5))
            stem = type(stem).from_config(stem.get_config())
            stem.build((None, HEIGHT, WIDTH, CHANNELS))
            kernels = [w for w in stem.weights if w.name == "kernel" and len(w.shape) == 4]
            assert kernels and all(np.all(kernel.numpy() == 0.5) for kernel in kernels)


class SizeTest:
    def test_what_is_left_is_rounded_up_at_every_step(self):
        assert downsample((33, 5), [2, 2]) == (9, 2)
        assert downsample((None, 32), [2, 1, 2]) == (None, 8)
