"""A TensorFlow function becomes an ONNX model: tf2onnx, and what it lacks or does otherwise."""

import contextlib
import logging
from typing import Any

import numpy as np
import tensorflow as tf

from kerasformer.interop.agreement import input_specs, one_sentence
from kerasformer.interop.onnx_loops import hoist_constants
from kerasformer.interop.onnx_packages import writers

OPSET = 18  # The newest that tf2onnx writes.
INT32, INT64, BOOL = 6, 7, 9  # in `onnx.TensorProto`


def convert(concrete: tf.types.experimental.ConcreteFunction) -> Any:
    """Converts a function to an ONNX model whose inputs and outputs have their names.

    Returns:
        `onnx.ModelProto`.

    Raises:
        ImportError: where a package is missing.
        ValueError: when ONNX lacks an operation, or an input and an output have the same name.
    """
    onnx, tf2onnx, _ = writers()
    specs, outputs = input_specs(concrete), concrete.structured_outputs
    shared = sorted({spec.name for spec in specs} & set(outputs))
    if shared:
        raise ValueError(
            f"Expected other names of outputs than of inputs, received {shared} twice."
        )
    inputs = concrete.inputs[: len(specs)]  # Variables follow them.
    names = {tensor.name: spec.name for tensor, spec in zip(inputs, specs, strict=True)}
    names |= {tensor.name: name for name, tensor in outputs.items()}
    ends = {
        "input_names": [tensor.name for tensor in inputs],
        "output_names": [tensor.name for tensor in outputs.values()],
    }
    with one_sentence("tf2onnx cannot convert the model"), _silent("tf2onnx"):
        frozen = tf2onnx.tf_loader.from_function(concrete, **ends)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            graph = tf2onnx.tfonnx.process_tf_graph(
                graph,
                opset=OPSET,
                custom_op_handlers={name: (write, []) for name, write in HANDLERS.items()},
                tensors_to_rename=names,
                **ends,
            )
            # Without its optimizer, which merges two Reshape into one of another shape.
            model = graph.make_model("kerasformer")
    shapes = {spec.name: spec.shape for spec in specs}
    shapes |= {name: tensor.shape for name, tensor in outputs.items()}
    for value in (*model.graph.input, *model.graph.output):
        _set_shape(value, shapes[value.name])
    unknown = {n.op_type for n in model.graph.node if not onnx.defs.has(n.op_type, n.domain)}
    if unknown:
        raise ValueError(f"ONNX has no form of these TensorFlow operations: {sorted(unknown)}.")
    hoist_constants(model.graph)
    return model


def _write_erfc(graph, node, name, _):
    """Replaces TensorFlow's `Erfc` (a part of the exact GELU), which ONNX lacks, by 1 - Erf."""
    dtype = graph.get_dtype(node.output[0])
    output, shapes = node.output[0], node.output_shapes
    erf = graph.make_node("Erf", [node.input[0]]).output[0]
    one = graph.make_const(f"{name}/one", np.float32(1)).output[0]
    graph.remove_node(name)
    graph.make_node("Sub", [one, erf], outputs=[output], shapes=shapes, dtypes=[dtype])


def _write_list(graph, node, name, _):
    """Replaces what a loop over time makes of a sequence, its list, by the sequence itself.

    tf2onnx does so too, but leaves the list's second input to the node.
    """
    graph.copy_dtype(node.input[0], node.output[0])
    graph.copy_shape(node.input[0], node.output[0])
    graph.replace_inputs(node, node.input[:1])
    node.type = "Identity"


def _write_reshape(graph, node, name, _):
    """Writes a Reshape in which 0 is a size, as in TensorFlow, and not the size that was before."""
    graph.insert_new_node_on_input(node, "Cast", node.input[1], to=INT64)
    node.set_attr("allowzero", 1)


def _write_where(graph, node, name, _):
    """Writes a choice as Where. tf2onnx multiplies by 0 and 1, which makes NaN of infinities."""
    output = node.output[0]
    if graph.get_dtype(output) == BOOL:  # Which the Where of ONNX Runtime does not take.
        for index in (1, 2):
            number = graph.make_node("Cast", [node.input[index]], attr={"to": INT32})
            graph.replace_input(node, node.input[index], number.output[0], index)
        graph.set_dtype(output, INT32)
        graph.insert_new_node_on_output("Cast", output, to=BOOL)
    node.type = "Where"


HANDLERS = {
    "Erfc": _write_erfc,
    "Reshape": _write_reshape,
    "SelectV2": _write_where,
    "TensorListFromTensor": _write_list,
}


def _set_shape(value, shape):
    """Sets the fixed sizes of an ONNX model's input or output, and gives the open ones names."""
    sizes = value.type.tensor_type.shape
    sizes.Clear()
    for axis, size in enumerate(shape):
        if size is None:
            sizes.dim.add(dim_param=f"{value.name}_{axis}")
        else:
            sizes.dim.add(dim_value=size)


@contextlib.contextmanager
def _silent(name):
    """Silences a library's log, because its errors are raised anyway."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
