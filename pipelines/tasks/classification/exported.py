"""An exported classifier, as the evaluation takes it in place of the module that was exported."""

from collections.abc import Callable, Mapping

import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.images.description import interpolation_of, read_description

NAMES = ("predict", "model")  # of the same function, in a SavedModel and of other runtimes


class ExportedClassifier:
    """Computes the probabilities of the classes by a function of an export.

    Args:
        predict: function from a dict of `image` to a dict of `probabilities`, among others.
        description: as `Classifier` takes it.
    """

    def __init__(self, predict: Callable[[Mapping], Mapping], description: Mapping):
        self.predict = predict
        self.description = description
        self.interpolation = interpolation_of(description)
        channels = description["channels"]
        self.normalization = [0.0] * channels, [1.0] * channels  # The export does it itself.

    def scorer(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Makes a function from images `(B, h, w, c)` of levels to probabilities `(B, C)`."""

        def probabilities(images):
            outputs = self.predict({"image": images.numpy().astype(np.uint8)})
            return tf.constant(outputs["probabilities"])

        return probabilities


def exported(
    functions: Mapping[str, Callable], config: ml_collections.ConfigDict, workdir: str
) -> ExportedClassifier:
    """Loads the function that classifies pixels; see `Task.exported`."""
    load = next(functions[name] for name in NAMES if name in functions)
    return ExportedClassifier(load(), read_description(workdir))
