"""What all exports share: errors of one sentence, equal outputs, and complete files.

A runtime is given as a function `run(sample)` from a dict of arrays by the names of the inputs to a
dict of arrays by the names of the outputs.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

TOLERANCE = 1e-4


@contextlib.contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Shortens the errors that another library raises in a `with` block.

    Raises:
        ValueError: whose text begins with `what`, when anything was raised.
    """
    try:
        yield
    except Exception as error:  # Each library raises kinds of its own, some of them private.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{what}: {reason}") from error


def traced(function: Callable) -> tf.types.experimental.ConcreteFunction:
    """Traces a `tf.function`, whose inputs and outputs must have names.

    Raises:
        ValueError: when it has no input signature, or does not return a dict.
    """
    if function.input_signature is None:
        raise ValueError("Expected a tf.function with an input_signature, received one without.")
    concrete = function.get_concrete_function()
    if not isinstance(concrete.structured_outputs, dict):
        raise ValueError(
            "Expected a tf.function that returns a dict of tensors, received one that returns "
            f"{concrete.structured_outputs}."
        )
    return concrete


def input_specs(function: tf.types.experimental.ConcreteFunction) -> tuple[tf.TensorSpec, ...]:
    """Returns the named inputs of a function in their order."""
    return function.structured_input_signature[0]


def largest_difference(
    function: tf.types.experimental.ConcreteFunction,
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    samples: Sequence[dict[str, np.ndarray]],
    tolerance: float,
    runtime: str,
) -> float:
    """Compares the outputs of a function and of its exported form.

    Args:
        function: concrete function that returns a dict of tensors.
        run: its exported form.
        samples: inputs to compare the outputs of.
        tolerance: float. Largest difference of numbers, relative to the largest number of the
            output if that is above 1. Outputs that are not floats must be equal.
        runtime: str. Name of what runs the exported form, used in errors.

    Returns:
        The largest difference.

    Raises:
        ValueError: when there is no sample, the runtime fails, or outputs differ.
    """
    if not samples:
        raise ValueError("Expected samples to compare answers for, received none.")
    largest, specs = 0.0, input_specs(function)
    for sample in samples:
        sample = {x.name: np.asarray(sample[x.name], x.dtype.as_numpy_dtype) for x in specs}
        outputs = function(*map(tf.constant, sample.values()))
        expected = {name: output.numpy() for name, output in outputs.items()}
        with one_sentence(f"{runtime} cannot run the exported model"):
            received = run(sample)
        for name, array in expected.items():
            difference = _difference(array, received[name])
            if not difference <= tolerance:  # NaN included
                raise ValueError(
                    f"{runtime} gives another {name} of shape {received[name].shape} than the "
                    f"model of shape {array.shape}: difference={difference:.1e}, {tolerance=:.1e}."
                )
            largest = max(largest, difference)
    return largest


def _difference(expected, received):
    if expected.shape != received.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if _plain(expected) == _plain(received) else float("inf")
    scale = np.max(np.abs(expected), initial=1.0)
    return float(np.max(np.abs(received - expected), initial=0.0) / scale)


def _plain(array):
    """Lists the elements of an array; texts are bytes in some libraries and `str` in others."""
    elements = array.ravel().tolist()
    return [x.encode("utf-8") if isinstance(x, str) else x for x in elements]


def write_whole(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file under a temporary name beside it and renames it."""
    path = Path(path)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
