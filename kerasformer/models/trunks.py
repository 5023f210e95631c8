"""What the models without a sequence share: a trunk of convolutions, and a linear head."""

import re

import keras
from keras import ops

from kerasformer.layers.children import Composite
from kerasformer.layers.sizes import pair
from kerasformer.models.vit_parts import make_head


class TrunkClassifier(Composite, keras.Model):
    """Classifies images by a functional model that ends in a vector, and a head that reads it.

    A subclass makes the trunk. As the number of channels is known only when the model is built, so
    is the trunk.

    Args:
        image_size: int or pair of ints `(height, width)` of the images.
        num_classes: int or `None`. Number of classes, for a linear head that starts at zero; `None`
            or 0 for features.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.

    Returns:
        float32 logits `(B, num_classes)`, or features `(B, features)` without a head.
    """

    def __init__(self, image_size, num_classes=None, **kwargs):
        super().__init__(**kwargs)
        self.image_size = image_size
        self.num_classes = num_classes
        self.trunk = None
        self.head = None
        if num_classes:
            self.head = make_head(num_classes, "head", self.dtype_policy)

    def _make_trunk(self, images):
        """Computes a vector of each image.

        Args:
            images: Keras tensor `(B, height, width, channels)`.

        Returns:
            Keras tensor `(B, features)`.
        """
        raise NotImplementedError

    def build(self, inputs_shape=None):
        if self.trunk is not None:
            return
        channels = inputs_shape[-1] if inputs_shape else 3
        images = keras.Input((*pair("image_size", self.image_size), channels), name="images")
        try:
            vector = self._make_trunk(images)
        except ValueError as error:  # It names some layer inside, in several lines and colours.
            reason = re.sub(r"\x1b\[\d+m|.*\.call\(\)\.", "", str(error))
            reason = re.split(r"[.;]\s", " ".join(reason.split()))[0]
            if not re.search("size|shape", reason):  # No matter of the images.
                raise
            raise ValueError(
                f"Expected images that the model can take, received image_size={self.image_size} "
                f"and {channels} channels: {reason}."
            ) from error
        self.trunk = keras.Model(images, vector, name="trunk")
        self.trunk.dtype_policy = self.dtype_policy
        if self.head is not None:
            self.head.build(vector.shape)

    def call(self, inputs, training=None):
        x = self._vector(inputs, training)
        return x if self.head is None else self.head(x)

    def features(self, images):
        """Describes each image by the vector that the head reads.

        Args:
            images: float tensor `(B, height, width, channels)`.

        Returns:
            float32 tensor `(B, features)`.
        """
        return self._vector(images, training=False)

    def _vector(self, images, training):
        if not self.built:  # when called before the model itself
            self.build(tuple(images.shape))
        x = self.trunk(images, training=training)
        return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))

    def compute_output_spec(self, inputs, **kwargs):
        shape = (inputs.shape[0], *pair("image_size", self.image_size), inputs.shape[-1])
        inputs = keras.KerasTensor(shape, dtype=inputs.dtype)
        return keras.Operation.compute_output_spec(self, inputs, **kwargs)

    def compute_output_shape(self, inputs_shape):
        features = self.num_classes or self.trunk.output_shape[-1]
        return (inputs_shape[0], features)

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "num_classes": self.num_classes,
        }
