"""The layout of images: channels come last."""

import keras
import numpy as np
import pytest

from kerasformer.layers import ConvolutionalStem, PatchEmbedding, PatchExtractor, ResNetStem
from kerasformer.layers.embeddings.layout import check_images

LAYERS = {
    "extractor": lambda: PatchExtractor(4, padding="same"),
    "patches": lambda: PatchEmbedding(7, 4, padding="same"),
    "overlapping patches": lambda: PatchEmbedding(7, 5, 2, "same"),
    "convolutional": lambda: ConvolutionalStem(7),
    "resnet": lambda: ResNetStem(7, (1,), width=4, groups=2),
}


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
class LayerTest:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_square_images_with_channels_first_are_refused(self, make, channels):
        images = np.zeros((2, channels, 32, 32), "float32")
        message = rf"channels come last, .* received shape=\(2, {channels}, 32, 32\)"
        with pytest.raises(ValueError, match=message):
            make()(images)
        with pytest.raises(ValueError, match=r"channels come last"):
            make()(keras.Input((channels, 32, 32)))

    def test_a_built_layer_knows_its_channels(self, make):
        layer = make()
        layer(np.zeros((2, 20, 24, 3), "float32"))
        if hasattr(layer, "channels"):
            with pytest.raises(ValueError, match=r"channels=3\), received shape=\(2, 3, 20, 24\)"):
                layer(np.zeros((2, 3, 20, 24), "float32"))

    def test_the_setting_of_keras_is_named_and_does_not_turn_images(self, make, channels_first):
        images = np.random.default_rng(0).standard_normal((2, 20, 24, 3)).astype("float32")
        outputs = np.array(make()(images))
        assert outputs.shape[0] == 2 and np.isfinite(outputs).all()
        with pytest.raises(ValueError, match="image_data_format.*='channels_first'"):
            make()(np.moveaxis(images, -1, 1))


class ShapeTest:
    @pytest.mark.parametrize(
        "shape",
        [(2, 32, 32, 3), (2, 1, 64, 3), (2, 3, 5, 13), (2, 4, 4, 4), (None, None, None, 64)],
    )
    def test_what_may_be_meant_is_let_through(self, shape):
        check_images(shape)
