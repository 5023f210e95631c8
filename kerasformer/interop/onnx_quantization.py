"""ONNX models in int8, by the quantisation of ONNX Runtime."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasformer.interop.agreement import one_sentence
from kerasformer.interop.onnx_loops import bodies, rename
from kerasformer.interop.onnx_packages import writers


def quantize(model: Any, calibration: Sequence[dict[str, np.ndarray]] = ()) -> Any:
    """Returns an ONNX model whose weights are in int8.

    Matrix products compute in int8: the range of what a weight is multiplied with is taken anew at
    each call ("dynamic"). With inputs to calibrate with, convolutions do so too, in the range that
    these inputs had ("static"); without, they stay in float32.

    Args:
        model: `onnx.ModelProto`, which is changed.
        calibration: inputs like those that the model will have, dicts of arrays by name.

    Returns:
        `onnx.ModelProto`.

    Raises:
        ValueError: when ONNX Runtime cannot do so.
    """
    onnx, _, quantization = writers()
    has_convolutions = any(node.op_type == "Conv" for node in model.graph.node)
    with (
        one_sentence("ONNX Runtime cannot quantise the model"),
        _quiet(),
        tempfile.TemporaryDirectory() as folder,
    ):
        source, target = (str(Path(folder, name)) for name in ("source.onnx", "target.onnx"))
        if calibration and has_convolutions:
            onnx.save(model, source)
            quantization.quant_pre_process(source, source, skip_symbolic_shape=True)
            quantization.quantize_static(
                source,
                target,
                _Reader(calibration),
                op_types_to_quantize=["Conv"],
                per_channel=True,
            )
            model = onnx.load(target)
        _fold_transposes(model.graph)
        quantization.quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
        )
        return onnx.load(target)


class _Reader:
    """Hands inputs to ONNX Runtime, one after the other, and then `None`."""

    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def _fold_transposes(graph) -> None:
    """Replaces transposed weights, also in bodies of loops, by weights that are stored so."""
    numpy_helper = writers().onnx.numpy_helper
    weights = {weight.name: weight for weight in graph.initializer}

    def fold(part):
        for node in list(part.node):
            for body in bodies(node):
                fold(body)
            if node.op_type == "Transpose" and node.input[0] in weights:
                array = numpy_helper.to_array(weights[node.input[0]])
                (order,) = (attribute.ints for attribute in node.attribute)
                folded = np.ascontiguousarray(array.transpose(order))
                graph.initializer.append(
                    numpy_helper.from_array(folded, f"{node.output[0]}_folded")
                )
                part.node.remove(node)
                rename(part, {node.output[0]: f"{node.output[0]}_folded"})

    fold(graph)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the advice that the quantisation gives through the root logger and in print."""
    with contextlib.redirect_stdout(None):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
