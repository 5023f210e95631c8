"""Models out to ONNX: a TensorFlow function becomes a file that ONNX Runtime reads."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kerasformer.interop.agreement import (
    TOLERANCES,
    largest_difference,
    one_sentence,
    traced,
    write_whole,
)
from kerasformer.interop.onnx_conversion import convert
from kerasformer.interop.onnx_packages import runtime, tokenizer_library, writers
from kerasformer.interop.onnx_quantization import quantize
from kerasformer.interop.onnx_text import DOMAIN, put_between_tokenizers

QUANTIZATIONS = ("float32", "int8")


def export_onnx(
    function,
    path,
    samples,
    tolerance=None,
    quantization="float32",
    calibration=(),
    search=None,
):
    """Writes a TensorFlow function as an ONNX file, if ONNX Runtime gives the same outputs.

    Sizes that are `None` in the input signature stay open in the file. Its opset is 18.

    Args:
        function: `tf.function` with an input signature of named `tf.TensorSpec`, which returns a
            dict of tensors. The file keeps its variables as they are now.
        path: str or path of the file.
        samples: list of dicts of arrays by the names of the inputs, to compare the outputs of; of
            several sizes where sizes are open.
        tolerance: float or `None`. The largest difference that `agreement.largest_difference`
            allows, by default 0.0001, and 0.5 with int8.
        quantization: str, `"float32"` or `"int8"`, as `onnx_quantization.quantize` does it.
        calibration: list of dicts of arrays as samples, inputs like those that the model will have;
            with int8, of a model with convolutions.
        search: `TextSearch` or `None`. Where `function` takes and gives sentences, what the file
            holds instead between tokenizers of onnxruntime-extensions.

    Returns:
        Float, the largest difference seen.

    Raises:
        ImportError: where onnx, tf2onnx, onnxruntime or onnxruntime-extensions is missing.
        ValueError: for another quantization, or when ONNX lacks an operation, the file would be too
            large, an input and an output have the same name, or an output differs. Then no file is
            written.

    Example:

    >>> import os, tempfile
    >>> import tensorflow as tf
    >>> @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    ... def double(x):
    ...     return {"y": 2 * x}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(double, os.path.join(folder, "double.onnx"), [{"x": [3.0, 5.0]}])
    0.0
    """
    writers(), runtime()  # Before the work.
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"Expected a quantization of ONNX to be one of {QUANTIZATIONS}, "
            f"received {quantization=}."
        )
    concrete = traced(function)
    model = convert(traced(search.function) if search else concrete)
    if quantization == "int8":
        model = quantize(model, calibration)
    if search:
        put_between_tokenizers(model, search)
        tokenizer_library()  # Its absence has a sentence of its own.
    with one_sentence("ONNX Runtime cannot load the exported model"):
        content = model.SerializeToString()
        run = load_onnx(content)
    tolerance = TOLERANCES[quantization] if tolerance is None else tolerance
    largest = largest_difference(
        concrete, run, samples, tolerance, "ONNX Runtime", quantization == "float32"
    )
    write_whole(path, content)
    return largest


def load_onnx(model: str | os.PathLike | bytes) -> Callable[[Mapping], Mapping]:
    """Loads an ONNX file, or its content, as a function from inputs to outputs by their names.

    Raises:
        ImportError: where onnxruntime is missing, or onnxruntime-extensions for a file that has
            tokenizers.
    """
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    if DOMAIN.encode() in content:
        options.register_custom_ops_library(tokenizer_library())
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))
