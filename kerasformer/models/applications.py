"""The networks of `keras.applications` as models of this library: VGG, ResNet, MobileNet, ..."""

import inspect
import os
import re
from pathlib import Path

import keras

from kerasformer.layers.children import layers_inside
from kerasformer.models.trunks import TrunkClassifier
from kerasformer.models.vit_variants import published

WIDTH = re.compile(r"(?<!\d)\d[._]\d+(?!\d)")
NOT_TOP = re.compile(r"(weights|notop|\d*tf|\d+float).*notop|notop")

MOMENTUM = 0.9  # of the moving averages of batch normalisation


@keras.saving.register_keras_serializable(package="kerasformer")
class KerasApplication(TrunkClassifier):
    """Classifies images by a network of `keras.applications`, with a linear head of its own.

    The trunk is the network without its top; the head reads the mean of its last features. Images
    are normalised as for all other models, and not as the network's own `preprocess_input` does.
    The moving averages of batch normalisation have the momentum 0.9 instead of up to 0.999, with
    which a short run would be scored on the values that they begin with.

    Args:
        variant: str. A network by its name in `keras.applications`, such as `"VGG16"`.
        image_size: int or pair of ints `(height, width)` of the images.
        num_classes: int or `None`. Number of classes; `None` or 0 for features.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.

    Returns:
        float32 logits `(B, num_classes)`, or features `(B, features)` without a head.

    Raises:
        ValueError: for an unknown variant, or images that are too small for it.

    Example:

    >>> model = KerasApplication("MobileNet", image_size=32, num_classes=10)
    >>> model.image_size, model.num_classes
    (32, 10)
    """

    VARIANTS = {
        name: network
        for name, network in vars(keras.applications).items()
        if name[0].isupper() and callable(network)
    }

    def __init__(self, variant, image_size, num_classes=None, **kwargs):
        super().__init__(image_size, num_classes, **kwargs)
        published(self.VARIANTS, variant)
        self.variant = variant

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, weights=None, **overrides):
        """Makes a network.

        Args:
            variant: str. Its name in `keras.applications`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            weights: `None`, or `"imagenet"` to begin with these, see `load_published`.
            **overrides: `name`, `dtype`, ...

        Returns:
            A `KerasApplication`, built for three channels where it has published weights.

        Raises:
            ValueError: for an unknown variant, or weights that are not there.
        """
        model = cls(variant, image_size, num_classes, **overrides)
        if weights is not None:
            model.build()
            model.load_published(weights)
        return model

    def load_published(self, weights):
        """Loads published weights into the trunk of the built model.

        They must lie where Keras keeps what it has downloaded: nothing is downloaded here.

        Args:
            weights: `"imagenet"`.

        Raises:
            ValueError: for others, or when they are not there, or do not fit.
        """
        if weights != "imagenet":
            raise ValueError(f"Expected weights to be 'imagenet', received weights={weights!r}.")
        folder = Path(os.environ.get("KERAS_HOME", "~/.keras"), "models").expanduser()
        path = find_weights(self.variant, sorted(folder.glob("*.h5")))
        if path is None:
            raise ValueError(
                f"Expected the ImageNet weights of {self.variant} in {folder}, where "
                f"keras.applications.{self.variant}(include_top=False) puts them, received "
                f"weights={weights!r} and no such file."
            )
        self.trunk.get_layer("network").load_weights(str(path))

    def _make_trunk(self, images):
        network = self.VARIANTS[self.variant]
        options = {"include_top": False, "weights": None, "pooling": "avg"}
        if "include_preprocessing" in inspect.signature(network).parameters:
            options["include_preprocessing"] = False
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.dtype_policy)  # The networks take no dtype.
        try:
            model = network(input_shape=images.shape[1:], name="network", **options)
        finally:
            keras.config.set_dtype_policy(before)
        for layer in layers_inside(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM
        return model(images)

    def get_config(self):
        return {**super().get_config(), "variant": self.variant}


def find_weights(variant, paths):
    """Finds the ImageNet weights of a network without its top by the names that Keras gives them.

    Args:
        variant: str. Name of the network in `keras.applications`.
        paths: list of `pathlib.Path`, of which others may be of other networks.

    Returns:
        The path of its weights, or `None`.

    Example:

    >>> find_weights("MobileNet", [Path("mobilenet_1_0_224_tf_no_top.h5")]).name
    'mobilenet_1_0_224_tf_no_top.h5'
    """
    plain = variant.lower()
    for path in paths:
        if not {*WIDTH.findall(path.stem)} <= {"1.0", "1_0"}:  # a wider or narrower network
            continue
        name = re.sub("[^a-z0-9]", "", path.stem.lower()).removeprefix("weights")
        if name.startswith(plain) and NOT_TOP.match(name.removeprefix(plain)):
            return path
    return None
