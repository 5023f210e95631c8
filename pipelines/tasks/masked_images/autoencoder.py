"""The autoencoder that is exported: image files or pixels in, reconstructions and vectors out.

Letters: `B` images, `h` height, `w` width, `c` channels.
"""

import tensorflow as tf

from pipelines.images.module import IMAGE, ImageModule


class Autoencoder(ImageModule):
    """Describes images with a trained encoder, and reconstructs them behind a mask.

    The mask is the same for every image and each time.

    Args:
        model: built `MaskedAutoencoder`.
        description, image_size, crop: as `ImageModule` takes them.
    """

    def __init__(self, model, description, image_size, crop):
        super().__init__(model.encoder, description, image_size, crop, name="autoencoder")
        self.autoencoder = model
        self.reconstruct_pixels = self.of_pixels(self._reconstruct_pixels)

    @tf.function(input_signature=[IMAGE])
    def reconstruct(self, image):
        """Hides most of each image and fills the gaps.

        Args:
            image: string tensor `(B,)`, image files as `decode` takes them.

        Returns:
            Dict of `reconstruction` uint8 `(B, h, w, c)`, whose visible patches are as they were;
            `mask` bool `(B, rows, columns)`, true where a patch was hidden; and `pixels` uint8
            `(B, h, w, c)`, the image before. Where a patch is normalised for training, its mean and
            deviation are those of the image.
        """
        return self._reconstruct_pixels(self.read(image))

    def _reconstruct_pixels(self, pixels):
        """Does the same with decoded images, uint8 `(B, h, w, c)`."""
        return self.fill(pixels)

    def fill(self, pixels, order=None):
        """Does it with masks of one's own.

        Args:
            pixels: uint8 tensor `(B, h, w, c)`.
            order: int32 tensor `(B, P)`, as `MaskedAutoencoder` takes it, or `None`.

        Returns:
            Dict as `reconstruct` returns it.
        """
        filled, mask = self.autoencoder.reconstruct(self.normalize(pixels), order=order)
        mean, deviation = (tf.constant(x, tf.float32) for x in self.normalization)
        levels = tf.clip_by_value(tf.round(filled * deviation + mean), 0.0, 255.0)
        return {"reconstruction": tf.cast(levels, tf.uint8), "mask": mask, "pixels": pixels}

    def signatures(self) -> dict:
        """Returns the functions to export under their names."""
        return {
            "serving_default": self.reconstruct,
            "reconstruct": self.reconstruct,
            "serving_default_pixels": self.reconstruct_pixels,
            "reconstruct_pixels": self.reconstruct_pixels,
            **super().signatures(),
        }

    def runtime_functions(self, format: str) -> dict:
        """Returns the functions that other runtimes take, because they decode no files.

        Args:
            format: str. The runtime, which makes no difference.

        Returns:
            Dict by name: pairs of a `tf.function` and a list of samples of its inputs.
        """
        return {"model": (self.of_pixels(self._embed_pixels, "image"), self.samples())}
