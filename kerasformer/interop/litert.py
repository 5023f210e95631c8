"""Models out to LiteRT (once TensorFlow Lite): a TensorFlow function becomes a `.tflite` file."""

import os
import re
import warnings
from collections.abc import Callable, Mapping

import tensorflow as tf

from kerasformer.interop.agreement import (
    TOLERANCES,
    largest_difference,
    one_sentence,
    traced,
    write_whole,
)

QUANTIZATIONS = ("float32", "float16", "int8")


def export_litert(function, path, samples, tolerance=None, quantization="float32", calibration=()):
    """Writes a TensorFlow function as a LiteRT file, if LiteRT gives the same outputs.

    The file has one signature, `serving_default`. Sizes that are `None` in the input signature
    stay open in it.

    Args:
        function: `tf.function` with an input signature of named `tf.TensorSpec`, which returns a
            dict of tensors. The file keeps its variables as they are now.
        path: str or path of the file.
        samples: list of dicts of arrays by the names of the inputs, to compare the outputs of; of
            several sizes where sizes are open.
        tolerance: float or `None`. The largest difference that `agreement.largest_difference`
            allows, by default 0.0001, 0.01 with float16 and 0.5 with int8.
        quantization: str. `"float32"`; `"float16"`, in which weights are stored; or `"int8"`, in
            which weights are and the model computes, where LiteRT can. Inputs and outputs keep
            their types.
        calibration: list of dicts of arrays as samples, inputs like those that the model will have,
            which int8 needs: they tell the range of each value in the model.

    Returns:
        Float, the largest difference seen.

    Raises:
        ImportError: where ai-edge-litert is missing.
        ValueError: for another quantization, or int8 without calibration; or when LiteRT lacks an
            operation, the file would be too large, or an output differs. Then no file is written.

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
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"Expected a quantization of LiteRT to be one of {QUANTIZATIONS}, "
            f"received {quantization=}."
        )
    if quantization == "int8" and not calibration:
        raise ValueError("Expected inputs to calibrate int8 with, received none.")
    _interpreter()  # Before the work.
    concrete = traced(function)
    content = _convert(concrete, quantization, calibration)
    with one_sentence("LiteRT cannot load the exported model"):
        run = load_litert(content)
    tolerance = TOLERANCES[quantization] if tolerance is None else tolerance
    largest = largest_difference(
        concrete, run, samples, tolerance, "LiteRT", quantization == "float32"
    )
    write_whole(path, content)
    return largest


def load_litert(model: str | os.PathLike | bytes) -> Callable[[Mapping], Mapping]:
    """Loads a LiteRT file, or its content, as a function from inputs to outputs by their names.

    Raises:
        ImportError: where ai-edge-litert is missing.
    """
    name = "model_content" if isinstance(model, bytes) else "model_path"
    run = _interpreter()(**{name: model}).get_signature_runner()
    return lambda inputs: run(**inputs)


def _interpreter():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            'LiteRT needs ai-edge-litert: `pip install "kerasformer[litert]"`.'
        ) from error
    return Interpreter


def _convert(concrete, quantization, calibration):
    # The converter names inputs and outputs only for an object that owns the variables.
    owner = tf.Module()
    owner.weights = list(concrete.graph.variables)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif quantization == "int8":
        converter.representative_dataset = lambda: iter(calibration)
    try:
        with warnings.catch_warnings():  # Of its own interpreter, which TensorFlow gives up.
            warnings.simplefilter("ignore")
            return converter.convert()
    except Exception as error:  # Its class of error is private.
        missing = re.search(r"(?:TF Select|Custom) ops: (.*)", str(error))
        if missing:
            raise ValueError(
                f"LiteRT has no form of these TensorFlow operations: {missing[1]}."
            ) from error
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"TensorFlow cannot convert the model to LiteRT: {reason}") from error
