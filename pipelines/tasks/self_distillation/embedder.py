"""The encoder that is exported: image files or pixels in, a vector for each image out."""

from pipelines.images.module import ImageModule


class Embedder(ImageModule):
    """Describes images by vectors; arguments as those of `ImageModule`."""

    def __init__(self, model, description, image_size, crop=1.0):
        super().__init__(model, description, image_size, crop, name="embedder")
        self.embed_image = self.of_pixels(self._embed_pixels, name="image")

    def signatures(self) -> dict:
        """Returns the functions to export under their names."""
        defaults = {"serving_default": self.embed, "serving_default_pixels": self.embed_pixels}
        return defaults | super().signatures()

    def runtime_functions(self, format: str) -> dict:
        """Returns the functions that other runtimes take, which decode no files.

        Args:
            format: str. The runtime, which makes no difference.

        Returns:
            Dict by name: pairs of a `tf.function` and a list of samples of its inputs.
        """
        return {"model": (self.embed_image, self.samples())}
