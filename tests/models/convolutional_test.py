"""The convolutional networks against the published numbers of their parameters."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kerasformer.models import ConvolutionalNetwork
from kerasformer.models.applications import KerasApplication, find_weights
from kerasformer.models.convolutional import LocalResponseNormalization
from kerasformer.models.trunks import TrunkClassifier

# Without moving statistics. LeNet-5 with pools that have no weights; GoogLeNet as its authors'
# model for Caffe, without the auxiliary classifiers.
PUBLISHED = {"LeNet-5": (32, 1, 10, 61_706), "GoogLeNet": (32, 3, 1000, 6_998_552)}


def count_trained(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def build(variant, size, channels=3, num_classes=10):
    model = ConvolutionalNetwork.from_variant(variant, size, num_classes)
    model.build((None, size, size, channels))
    return model


class PublishedTest:
    @pytest.mark.parametrize("variant", PUBLISHED)
    def test_parameters_are_as_many(self, variant):
        size, channels, num_classes, published = PUBLISHED[variant]
        assert count_trained(build(variant, size, channels, num_classes)) == published

    def test_alexnet_has_as_many_as_published_with_groups(self):
        # Of the smallest images one place is left before the first dense layer, not 6 x 6.
        others = (6 * 6 - 1) * 256 * 4096
        assert count_trained(build("AlexNet", 67, num_classes=1000)) + others == 60_965_224

    def test_residual_networks_have_as_many_as_published_in_millions(self):
        first, second = (count_trained(build(f"ResNet-{depth}", 8)) for depth in (20, 32))
        published = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
        assert {f"ResNet-{depth}" for depth in published} < set(ConvolutionalNetwork.VARIANTS)
        for depth, millions in published.items():
            count = (
                first
                + (depth - 20) // 12 * (second - first)
                + (depth - 20) % 12 // 6 * ((second - first) // 2)
            )
            assert count / 1e6 == pytest.approx(millions, abs=0.03)

    def test_a_residual_shortcut_takes_every_second_pixel_and_adds_zeros(self):
        model = build("ResNet-20", 8)
        layer = model.trunk.get_layer("stage_1_0_sum")
        inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
        part = keras.Model(
            model.trunk.input, [model.trunk.get_layer("stage_0_2_activation").output, *layer.input]
        )
        before, _, shortcut = (keras.ops.convert_to_numpy(x) for x in part(inputs))
        np.testing.assert_array_equal(shortcut[..., 8:24], before[:, ::2, ::2])
        assert not shortcut[..., :8].any() and not shortcut[..., 24:].any()

    def test_neighbouring_features_are_summed_for_a_local_response(self):
        x = np.random.default_rng(0).normal(size=(1, 1, 1, 7)).astype("float32") * 100
        found = keras.ops.convert_to_numpy(LocalResponseNormalization()(x))[0, 0, 0]
        for index, value in enumerate(x[0, 0, 0]):
            near = x[0, 0, 0, max(index - 2, 0) : index + 3]
            assert found[index] == pytest.approx(value / (1 + 2e-5 * (near**2).sum()) ** 0.75, 1e-5)


class RefusalTest:
    @pytest.mark.parametrize("variant", ["LeNet-5", "AlexNet"])
    def test_images_that_are_too_small_are_one_sentence(self, variant):
        with pytest.raises(ValueError, match="received image_size=8 and 3 channels") as caught:
            build(variant, 8)
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)

    def test_an_error_that_is_no_matter_of_the_images_stays_as_it_is(self):
        class Colourless(TrunkClassifier):
            def _make_trunk(self, images):
                raise ValueError("Expected a colour, received none.")

        with pytest.raises(ValueError, match="^Expected a colour, received none.$"):
            Colourless(32).build()

    def test_an_unknown_network_is_one_sentence(self):
        for family in (ConvolutionalNetwork, KerasApplication):
            with pytest.raises(ValueError, match="one of .*, received variant='VGG-7'"):
                family.from_variant("VGG-7", 32)


class KerasApplicationTest:
    def test_all_that_keras_has_are_known(self):
        assert {"VGG16", "ResNet50", "MobileNetV2", "ConvNeXtTiny"} < set(KerasApplication.VARIANTS)
        assert len(KerasApplication.VARIANTS) >= 38

    def test_their_batch_normalisation_follows_a_short_run(self):
        model = KerasApplication("MobileNetV2", 32)
        model.build()
        normalisations = [
            layer
            for layer in model.trunk.get_layer("network").layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        assert len(normalisations) == 52 and {x.momentum for x in normalisations} == {0.9}

    def test_weights_are_found_by_the_names_that_keras_gives_them(self):
        kernels = "weights_tf_dim_ordering_tf_kernels"
        files = {
            "ResNet50": f"resnet50_{kernels}_notop.h5",
            "ResNet50V2": f"resnet50v2_{kernels}_notop.h5",
            "MobileNet": "mobilenet_1_0_224_tf_no_top.h5",
            "MobileNetV2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
            "MobileNetV3Large": "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
            "EfficientNetV2B0": "efficientnetv2-b0_notop.h5",
            "ConvNeXtTiny": "convnext_tiny_notop.h5",
        }
        others = [f"resnet50_{kernels}.h5", "mobilenet_2_5_224_tf_no_top.h5"]
        others += [name.replace("1.0", "0.35") for name in files.values() if "1.0" in name]
        paths = [Path(name) for name in (*others, *files.values())]
        for variant, name in files.items():
            assert find_weights(variant, paths).name == name
        assert find_weights("VGG16", paths) is None

    def test_a_network_is_that_of_keras_with_its_published_weights_and_our_head(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        with pytest.raises(ValueError, match=f"weights of VGG16 in {tmp_path}/models, where"):
            KerasApplication.from_variant("VGG16", 32, weights="imagenet")
        (tmp_path / "models").mkdir()
        options = {"input_shape": (32, 32, 3), "include_top": False, "weights": None}
        theirs = keras.applications.VGG16(**options, pooling="avg")
        theirs.save(tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")
        model = KerasApplication.from_variant("VGG16", 32, 7, weights="imagenet")
        assert model.count_params() == theirs.count_params() + 512 * 7 + 7
        images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
        np.testing.assert_allclose(model.features(images), theirs(images), rtol=1e-5)
