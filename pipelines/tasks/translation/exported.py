"""An exported translator, as the evaluation takes it in place of the module that was exported."""

from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.text.pairs import read_pairs

NAMES = ("translate", "translator")  # of the same function, in a SavedModel and of other runtimes


class ExportedTranslator:
    """Translates by a function of an export.

    Args:
        function: function from a dict of `text` to a dict of `translation`, `score` and
            `truncated`.
    """

    def __init__(self, function: Callable[[Mapping], Mapping]):
        self.function = function

    def translate(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Does what `Translator.translate` does."""
        sentences = np.array([sentence.decode() for sentence in text.numpy()], object)
        outputs = self.function({"text": sentences})
        return {name: tf.constant(output) for name, output in outputs.items()}


def exported(
    functions: Mapping[str, Callable], config: ml_collections.ConfigDict, workdir: str
) -> ExportedTranslator | None:
    """Loads the function that translates sentences, if there is one; see `Task.exported`."""
    load = next((functions[name] for name in NAMES if name in functions), None)
    return ExportedTranslator(load()) if load else None


def inputs(
    module: Any, config: ml_collections.ConfigDict, split: str, count: int
) -> list[dict[str, np.ndarray]]:
    """Reads sentences of a split; see `Task.inputs`."""
    sources = [source for source, _ in read_pairs(config.data, split)]
    step, size = -(-len(sources) // count), config.decode.batch_size
    sources = sources[::step]
    starts = range(0, len(sources), size)
    return [{"text": np.array(sources[start : start + size], object)} for start in starts]
