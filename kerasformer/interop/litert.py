"""Models out to LiteRT (once TensorFlow Lite): a TensorFlow function becomes a `.tflite` file."""

import re

import tensorflow as tf

from kerasformer.interop.agreement import (
    TOLERANCE,
    largest_difference,
    one_sentence,
    traced,
    write_whole,
)


def export_litert(function, path, samples, tolerance=TOLERANCE):
    """Writes a TensorFlow function as a LiteRT file, if LiteRT gives the same outputs.

    The file has one signature, `serving_default`. Sizes that are `None` in the input signature
    stay open in it.

    Args:
        function: `tf.function` with an input signature of named `tf.TensorSpec`, which returns a
            dict of tensors. The file keeps its variables as they are now.
        path: str or path of the file.
        samples: list of dicts of arrays by the names of the inputs, to compare the outputs of; of
            several sizes where sizes are open.
        tolerance: float. Largest difference of numbers, relative to the largest number of the
            output if that is above 1. Outputs that are not floats must be equal.

    Returns:
        Float, the largest difference seen.

    Raises:
        ImportError: where ai-edge-litert is missing.
        ValueError: when LiteRT lacks an operation, the file would be too large, or an output
            differs. Then no file is written.

    Example:

    >>> import os, tempfile
    >>> @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    ... def double(x):
    ...     return {"y": 2 * x}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     samples = [{"x": [3.0, 5.0]}]
    ...     export_litert(double, os.path.join(folder, "double.tflite"), samples)
    0.0
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            'LiteRT needs ai-edge-litert: `pip install "kerasformer[litert]"`.'
        ) from error
    concrete = traced(function)
    content = _convert(concrete)
    with one_sentence("LiteRT cannot load the exported model"):
        run = Interpreter(model_content=content).get_signature_runner()
    largest = largest_difference(
        concrete, lambda sample: run(**sample), samples, tolerance, "LiteRT"
    )
    write_whole(path, content)
    return largest


def _convert(concrete):
    # The converter names inputs and outputs only for an object that owns the variables.
    owner = tf.Module()
    owner.weights = list(concrete.graph.variables)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    try:
        return converter.convert()
    except Exception as error:  # Its class of error is private.
        missing = re.search(r"(?:TF Select|Custom) ops: (.*)", str(error))
        if missing:
            raise ValueError(
                f"LiteRT has no form of these TensorFlow operations: {missing[1]}."
            ) from error
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"TensorFlow cannot convert the model to LiteRT: {reason}") from error
