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

# The largest difference that an export in a precision may have.
TOLERANCES = {"float32": 1e-4, "float16": 0.01, "int8": 0.5}
TINY = 1e-12  # so that nothing is divided by zero


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
    is_exact: bool = True,
) -> float:
    """Compares the outputs of a function and of its exported form.

    In float32 a difference is the largest one of numbers, relative to the largest number of the
    output if that is above 1, and outputs that are not floats must be equal. In another precision
    it is the norm of the differences of an output, relative to its norm; of outputs that are not
    floats, see `share_of_equal`.

    Args:
        function: concrete function that returns a dict of tensors.
        run: its exported form.
        samples: inputs to compare the outputs of.
        tolerance: float. The largest difference that is allowed.
        runtime: str. Name of what runs the exported form, used in errors.
        is_exact: bool. Whether the exported form is in float32.

    Returns:
        The largest difference.

    Raises:
        ValueError: when there is no sample, the runtime fails, or outputs differ.
    """
    largest = 0.0
    for expected, received in _outputs(function, run, samples, runtime):
        for name, array in expected.items():
            difference = _difference(array, received[name], is_exact)
            if not difference <= tolerance:  # NaN included
                raise ValueError(
                    f"{runtime} gives another {name} of shape {received[name].shape} than the "
                    f"model of shape {array.shape}: difference={difference:.1e}, {tolerance=:.1e}."
                )
            largest = max(largest, difference)
    return largest


def share_of_equal(
    function: tf.types.experimental.ConcreteFunction,
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    samples: Sequence[dict[str, np.ndarray]],
    runtime: str,
) -> tuple[int, int]:
    """Counts the equal answers, such as class names or sentences, of a function and its export.

    Args:
        function, run, samples, runtime: as in `largest_difference`.

    Returns:
        Tuple of how many texts or whole numbers of the outputs are equal, and of how many.

    Raises:
        ValueError: when there is no sample, or the runtime fails.
    """
    equal = count = 0
    for expected, received in _outputs(function, run, samples, runtime):
        for name, array in expected.items():
            if array.dtype.kind not in "fb":
                pairs = zip(_plain(array), _plain(received[name]), strict=True)
                equal += sum(one == other for one, other in pairs)
                count += array.size
    return equal, count


def _outputs(function, run, samples, runtime) -> Iterator[tuple[dict, dict]]:
    """Yields what a function and its exported form give for each sample."""
    if not samples:
        raise ValueError("Expected samples to compare answers for, received none.")
    specs = input_specs(function)
    for sample in samples:
        sample = {x.name: np.asarray(sample[x.name], x.dtype.as_numpy_dtype) for x in specs}
        outputs = function(*map(tf.constant, sample.values()))
        with one_sentence(f"{runtime} cannot run the exported model"):
            received = run(sample)
        yield {name: output.numpy() for name, output in outputs.items()}, received


def _difference(expected, received, is_exact):
    if expected.shape != received.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        is_equal = not is_exact or _plain(expected) == _plain(received)
        return 0.0 if is_equal else float("inf")
    difference = received - expected
    if is_exact:
        scale = np.max(np.abs(expected), initial=1.0)
        return float(np.max(np.abs(difference), initial=0.0) / scale)
    return float(np.linalg.norm(difference) / max(np.linalg.norm(expected), TINY))


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
