"""The classifier that is exported: image files or pixels in, names and probabilities out.

Letters: `B` images, `h` height, `w` width, `c` channels, `C` classes, `k` names of an answer.
"""

import numpy as np
import tensorflow as tf
from keras import ops

from kerasformer import explain
from pipelines.images.augmentation import normalize, resize_and_crop
from pipelines.images.files import MAX_PIXELS, decode
from pipelines.images.headers import header_size

IMAGE = tf.TensorSpec((None,), tf.string, name="image")
ANSWERS = 5  # class names in an answer


class Classifier(tf.Module):
    """Classifies images with a trained model, in signatures that a SavedModel keeps.

    Images are resized so that their middle, `crop` of the shorter side, fills the model's size.
    An image file of more than `MAX_PIXELS` pixels is refused before it is decoded.

    Args:
        model: built model of any family; one without attention scores gets no signatures
            `attention` and `attention_pixels`.
        description: dict of `class_names`, `channels`, `mean` and `deviation`; with `"labels":
            "multi"` each class has a probability by itself.
        image_size: pair `(h, w)` of the model.
        crop: float, above 0 and at most 1.
    """

    def __init__(self, model, description, image_size, crop):
        super().__init__(name="classifier")
        self.model = model
        self.normalization = (description["mean"], description["deviation"])
        self.description = description
        self._names, self._channels = description["class_names"], description["channels"]
        is_multi = description.get("labels") == "multi"
        self._activation = tf.nn.sigmoid if is_multi else tf.nn.softmax
        self._image_size, self._crop = image_size, crop
        image, pixels = (
            tf.TensorSpec((None, *image_size, self._channels), tf.uint8, name=name)
            for name in ("image", "pixels")
        )
        self.predict = tf.function(self._predict, input_signature=[image])
        self.classify_pixels = tf.function(self._classify_pixels, input_signature=[pixels])
        self.embed_pixels = tf.function(self._embed_pixels, input_signature=[pixels])
        # A `tf.Module` is exported with all of its functions, so that a model without attention
        # must not have these.
        self._has_attention = getattr(model, "has_attention_scores", False)
        if self._has_attention:
            self.attention = tf.function(self._attention, input_signature=[IMAGE])
            self.attention_pixels = tf.function(self._attention_pixels, input_signature=[pixels])

    @tf.function(input_signature=[IMAGE])
    def classify(self, image):
        """Classifies each image.

        Args:
            image: string tensor `(B,)`: JPEG, PNG, GIF (its first frame), BMP or still WebP files,
                which are turned upright as their EXIF data say. `images.files.decode` tells more.

        Returns:
            Dict of `class_names` string `(B, k)`, most probable first, and `probabilities` float32
            `(B, k)`, where `k` is 5, or fewer where there are fewer classes.
        """
        return self._classify_pixels(self._decode(image))

    def _classify_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        x = normalize(pixels, *self.normalization)
        probabilities = self._activation(self.model(x, training=False))
        best, classes = tf.math.top_k(probabilities, min(ANSWERS, len(self._names)))
        return {"class_names": self._spell(classes), "probabilities": best}

    @tf.function(input_signature=[IMAGE])
    def decode(self, image):
        """Decodes image files and crops them to the size of the model.

        A server that batches requests calls this for each request alone, so that a file that is no
        image harms no other request. It then calls a signature named `..._pixels` for the batch.

        Args:
            image: string tensor `(B,)`, image files.

        Returns:
            Dict of `pixels` uint8 `(B, h, w, c)`.
        """
        return {"pixels": self._decode(image)}

    def _predict(self, image):
        """Computes the probability of every class.

        Args:
            image: uint8 tensor `(B, h, w, c)` of the model's size.

        Returns:
            Dict of `class_name` string `(B,)` and `probabilities` float32 `(B, C)`.
        """
        logits = self.model(normalize(image, *self.normalization), training=False)
        return {
            "class_name": self._spell(tf.argmax(logits, axis=-1)),
            "probabilities": self._activation(logits),
        }

    @tf.function(input_signature=[IMAGE])
    def embed(self, image):
        """Computes a vector for each image, the one that the head of the model reads.

        Args:
            image: string tensor `(B,)`, image files.

        Returns:
            Dict of `features` float32 `(B, hidden_dim)`.
        """
        return self._embed_pixels(self._decode(image))

    def _embed_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        return {"features": self.model.features(normalize(pixels, *self.normalization))}

    def _attention(self, image):
        """Shows where the model looked: by attention rollout, and in each head of each block.

        Args:
            image: string tensor `(B,)`, image files.

        Returns:
            Dict of `class_name` string `(B,)`; `attention` float32 `(B, rows, columns)`, the share
            of each patch in the rollout (the tokens before the patches have the rest of 1);
            `heads` float32 `(B, layers, heads, rows, columns)`, the share of each patch in what the
            reader (the class token, the pool's weights, or all patches on average) reads through
            one head; and `pixels` uint8 `(B, h, w, c)`, what the model saw.
        """
        return self._attention_pixels(self._decode(image))

    def _attention_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        x = normalize(pixels, *self.normalization)
        logits = self.model(x, training=False)
        sequence, scores = self.model.encode(x, training=False, return_attention_scores=True)
        heads = ops.cast(ops.stack(scores, axis=1), "float32")
        read = explain.rollout(scores)
        if hasattr(self.model.pooling, "weights_of"):
            weights = self.model.pooling.weights_of(sequence)[:, None]
            read, heads = ops.matmul(weights, read), ops.matmul(weights[:, None, None], heads)
        grid = self.model.grid_size(), self.model.num_prefix_tokens
        return {
            "class_name": self._spell(tf.argmax(logits, axis=-1)),
            "attention": explain.grid_maps(read, *grid),
            "heads": explain.grid_maps(heads, *grid),
            "pixels": pixels,
        }

    def signatures(self) -> dict:
        """Returns the functions to export under their names."""
        functions = {
            "serving_default": self.classify,
            "classify": self.classify,
            "predict": self.predict,
            "embed": self.embed,
            "decode": self.decode,
            "serving_default_pixels": self.classify_pixels,
            "classify_pixels": self.classify_pixels,
            "embed_pixels": self.embed_pixels,
        }
        if self._has_attention:
            functions |= {"attention": self.attention, "attention_pixels": self.attention_pixels}
        return functions

    def runtime_functions(self, format: str) -> dict:
        """Returns the functions that other runtimes take: `predict`, because they decode no files.

        Args:
            format: str. The runtime, which makes no difference.

        Returns:
            Dict by name: pairs of a `tf.function` and a list of samples of its inputs.
        """
        random, shape = np.random.default_rng(1), (*self._image_size, self._channels)
        samples = [
            {"image": random.integers(0, 256, (count, *shape)).astype(np.uint8)} for count in (1, 3)
        ]
        return {"model": (self.predict, samples)}

    def _spell(self, classes):
        return tf.gather(tf.constant(self._names), classes)

    def _decode(self, image):
        """Decodes image files `(B,)` to uint8 images `(B, h, w, c)`."""

        def read_one(contents):
            size = header_size(contents)
            bound = tf.debugging.assert_less_equal(
                tf.reduce_prod(tf.cast(size, tf.float64)),  # A forged size overflows integers.
                tf.constant(MAX_PIXELS, tf.float64),
                f"Expected an image of at most {MAX_PIXELS} pixels.",
            )
            with tf.control_dependencies([bound]):
                contents = tf.identity(contents)
            pixels = decode(contents, self._channels)
            return resize_and_crop(pixels, self._image_size, self._crop)

        spec = tf.TensorSpec((*self._image_size, self._channels), tf.uint8)
        return tf.map_fn(read_one, image, fn_output_signature=spec)
