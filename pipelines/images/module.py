"""What every task exports of a model of images: files or pixels in, vectors and attention out.

Letters: `B` images, `h` height, `w` width, `c` channels.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasformer import explain
from pipelines.images.augmentation import normalize, resize_and_crop
from pipelines.images.description import interpolation_of
from pipelines.images.files import MAX_PIXELS, decode
from pipelines.images.headers import header_size

IMAGE = tf.TensorSpec((None,), tf.string, name="image")


class ImageModule(tf.Module):
    """Describes images with a trained model, in signatures that a SavedModel keeps.

    Images are resized so that their middle, `crop` of the shorter side, fills the model's size.
    An image file of more than `MAX_PIXELS` pixels is refused before it is decoded.

    A task derives its own module, which adds its signatures. One that takes image files also needs
    one whose name ends in `_pixels` for decoded images, which a server calls with batches.

    Args:
        model: built model of any family; one without attention scores gets no signatures
            `attention` and `attention_pixels`.
        description: dict of `channels`, `mean` and `deviation`, and of `interpolation` where it is
            another one than bicubic.
        image_size: pair `(h, w)` of the model.
        crop: float, above 0 and at most 1.
        name: str.
    """

    def __init__(self, model, description, image_size, crop=1.0, name="images"):
        super().__init__(name=name)
        self.model = model
        self.description = description
        self.normalization = (description["mean"], description["deviation"])
        self.image_size, self.crop = tuple(image_size), crop
        self.interpolation = interpolation_of(description)
        self.channels = description["channels"]
        self.embed_pixels = self.of_pixels(self._embed_pixels)
        # A `tf.Module` is exported with all of its functions, so that a model without attention
        # must not have these.
        self.has_attention = getattr(model, "has_attention_scores", False)
        if self.has_attention:
            self.attention = tf.function(self._attention, input_signature=[IMAGE])
            self.attention_pixels = self.of_pixels(self._attention_pixels)

    def of_pixels(self, function: Callable, name: str = "pixels"):
        """Makes a `tf.function` of uint8 images `(B, h, w, c)`, an argument called `name`."""
        spec = tf.TensorSpec((None, *self.image_size, self.channels), tf.uint8, name=name)
        return tf.function(function, input_signature=[spec])

    @tf.function(input_signature=[IMAGE])
    def decode(self, image):
        """Decodes image files and crops them to the size of the model.

        A server that batches requests calls this for each request alone, so that a file that is no
        image harms no other request. It then calls a signature named `..._pixels` for the batch.

        Args:
            image: string tensor `(B,)`: JPEG, PNG, GIF (its first frame), BMP or still WebP files,
                which are turned upright as their EXIF data say. `images.files.decode` tells more.

        Returns:
            Dict of `pixels` uint8 `(B, h, w, c)`.
        """
        return {"pixels": self.read(image)}

    @tf.function(input_signature=[IMAGE])
    def embed(self, image):
        """Computes a vector for each image, the one that the head of the model reads.

        Args:
            image: string tensor `(B,)`, image files.

        Returns:
            Dict of `features` float32 `(B, hidden_dim)`.
        """
        return self._embed_pixels(self.read(image))

    def _embed_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        return {"features": self.model.features(self.normalize(pixels))}

    def _attention(self, image):
        """Shows where the model looked: by attention rollout, and in each head of each block.

        Args:
            image: string tensor `(B,)`, image files.

        Returns:
            Dict of `attention` float32 `(B, rows, columns)`, the share of each patch in the rollout
            (the tokens before the patches have the rest of 1); `heads` float32 `(B, layers, heads,
            rows, columns)`, the share of each patch in what the reader (the class token, the pool's
            weights, or all patches on average) reads through one head; and `pixels` uint8
            `(B, h, w, c)`, what the model saw.
        """
        return self._attention_pixels(self.read(image))

    def _attention_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        attention, heads = explain.attention_maps(self.model, self.normalize(pixels))
        return {"attention": attention, "heads": heads, "pixels": pixels}

    def signatures(self) -> dict:
        """Returns the functions to export under their names."""
        functions = {
            "embed": self.embed,
            "decode": self.decode,
            "embed_pixels": self.embed_pixels,
        }
        if self.has_attention:
            functions |= {"attention": self.attention, "attention_pixels": self.attention_pixels}
        return functions

    def runtime_functions(self, format: str) -> dict:
        """Returns the functions that other runtimes take: `embed`, because they decode no files.

        Args:
            format: str. The runtime, which makes no difference.

        Returns:
            As `Task.serving` says.
        """
        return {"model": (self.of_pixels(self._embed_pixels, "image"), self.samples(), {})}

    def samples(self) -> list[dict[str, np.ndarray]]:
        """Makes inputs, of one image and of three, for functions of other runtimes."""
        random, shape = np.random.default_rng(1), (*self.image_size, self.channels)
        return [
            {"image": random.integers(0, 256, (count, *shape)).astype(np.uint8)} for count in (1, 3)
        ]

    def normalize(self, pixels):
        """Turns uint8 images `(B, h, w, c)` into the float32 images that the model reads."""
        return normalize(pixels, *self.normalization)

    def read(self, image):
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
            pixels = decode(contents, self.channels)
            return resize_and_crop(pixels, self.image_size, self.crop, self.interpolation)

        spec = tf.TensorSpec((*self.image_size, self.channels), tf.uint8)
        return tf.map_fn(read_one, image, fn_output_signature=spec)
