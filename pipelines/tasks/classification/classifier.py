"""The classifier that is exported: image files or pixels in, names and probabilities out.

Letters: `B` images, `h` height, `w` width, `c` channels, `C` classes, `k` names of an answer.
"""

from collections.abc import Callable

import tensorflow as tf

from pipelines.images.module import IMAGE, ImageModule

ANSWERS = 5  # class names in an answer


class Classifier(ImageModule):
    """Classifies images with a trained model, in signatures that a SavedModel keeps.

    Args:
        model: as `ImageModule` takes it, with a head.
        description: dict of `class_names`, `channels`, `mean` and `deviation`; with `"labels":
            "multi"` each class has a probability by itself.
        image_size, crop: as `ImageModule` takes them.
    """

    def __init__(self, model, description, image_size, crop):
        super().__init__(model, description, image_size, crop, name="classifier")
        self._names = description["class_names"]
        is_multi = description.get("labels") == "multi"
        self._activation = tf.nn.sigmoid if is_multi else tf.nn.softmax
        self.predict = self.of_pixels(self._predict, "image")
        self.classify_pixels = self.of_pixels(self._classify_pixels)

    @tf.function(input_signature=[IMAGE])
    def classify(self, image):
        """Classifies each image.

        Args:
            image: string tensor `(B,)`, image files as `decode` takes them.

        Returns:
            Dict of `class_names` string `(B, k)`, most probable first, and `probabilities` float32
            `(B, k)`, where `k` is 5, or fewer where there are fewer classes.
        """
        return self._classify_pixels(self.read(image))

    def _classify_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        probabilities = self._activation(self._logits(pixels))
        best, classes = tf.math.top_k(probabilities, min(ANSWERS, len(self._names)))
        return {"class_names": self._spell(classes), "probabilities": best}

    def _predict(self, image):
        """Computes the probability of every class.

        Args:
            image: uint8 tensor `(B, h, w, c)` of the model's size.

        Returns:
            Dict of `class_name` string `(B,)` and `probabilities` float32 `(B, C)`.
        """
        logits = self._logits(image)
        return {
            "class_name": self._spell(tf.argmax(logits, axis=-1)),
            "probabilities": self._activation(logits),
        }

    def _attention_pixels(self, pixels):
        """Adds `class_name`, string `(B,)`, to what the model looked at."""
        name = self._spell(tf.argmax(self._logits(pixels), axis=-1))
        return {"class_name": name, **super()._attention_pixels(pixels)}

    def scorer(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Makes a function from normalised images `(B, h, w, c)` to probabilities `(B, C)`."""
        # Not an attribute, because a `tf.Module` is exported with all of its functions.
        return tf.function(lambda images: self._activation(self.model(images, training=False)))

    def signatures(self) -> dict:
        """Returns the functions to export under their names."""
        return {
            "serving_default": self.classify,
            "classify": self.classify,
            "predict": self.predict,
            "serving_default_pixels": self.classify_pixels,
            "classify_pixels": self.classify_pixels,
            **super().signatures(),
        }

    def runtime_functions(self, format: str) -> dict:
        """Returns the functions that other runtimes take: `predict`, because they decode no files.

        Args:
            format: str. The runtime, which makes no difference.

        Returns:
            As `Task.serving` says.
        """
        return {"model": (self.predict, self.samples(), {})}

    def _logits(self, pixels):
        return self.model(self.normalize(pixels), training=False)

    def _spell(self, classes):
        return tf.gather(tf.constant(self._names), classes)
