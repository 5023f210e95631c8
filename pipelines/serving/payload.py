"""What requests and answers say: the JSON of TensorFlow Serving's REST API, and NumPy arrays.

The format is described in https://www.tensorflow.org/tfx/serving/api_rest. A row request has
`instances`, a list of rows; a column request has `inputs`, whole arrays; either gets its answer in
its own form. Bytes are written `{"b64": "..."}`.
"""

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

ROWS, COLUMNS = "instances", "inputs"
BYTES = "_bytes"  # ends the names of outputs that are bytes and not text
MAX_DEPTH = 32  # of lists in lists of strings
DIGITS = sys.get_int_max_str_digits()  # of an integer that Python reads
# What JSON calls its values.
KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
KINDS |= {int: "a number", float: "a number", type(None): "null"}


class RequestError(Exception):
    """Refuses a request, with an HTTP status and one sentence for the caller.

    Attributes:
        status: int. HTTP status: 4xx for the caller's mistake, 503 for trying again later.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status

    def __reduce__(self):  # Exceptions with two arguments do not cross processes otherwise.
        return RequestError, (self.status, str(self))


def parse(body: bytes) -> dict[str, Any]:
    """Reads the JSON object of a request.

    Raises:
        RequestError: when it is no JSON object. `NaN` and `Infinity` are read as numbers.
    """
    try:
        request = json.loads(body)
    except json.JSONDecodeError as error:
        raise RequestError(400, f"The body is not JSON: {error}.") from None
    except UnicodeDecodeError as error:
        text = f"The body is not JSON: byte {error.start} is not {error.encoding.upper()}."
        raise RequestError(400, text) from None
    except RecursionError:
        raise RequestError(400, "The body has lists or objects that are nested too deep.") from None
    except ValueError:  # Python's own text advises a setting of Python.
        raise RequestError(400, f"The body has an integer of more than {DIGITS} digits.") from None
    if not isinstance(request, dict):
        raise RequestError(400, f"Expected a JSON object, received {_kind(request)}.")
    return request


def name_of(request: Mapping[str, Any], default: str) -> str:
    """Returns the `signature_name` of a request."""
    name = request.get("signature_name", default)
    if not isinstance(name, str):
        raise RequestError(400, "Expected 'signature_name' to be a string.")
    return name or default


def inputs(
    request: Mapping[str, Any], specs: Mapping[str, tf.TensorSpec], max_rows: int = sys.maxsize
) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the inputs of a signature.

    Args:
        request: with `instances` or `inputs`.
        specs: the inputs that the signature has, by name.
        max_rows: int. Most rows of a request.

    Returns:
        Tuple of the arrays by name (bytes objects for strings), and whether the request is of rows.

    Raises:
        RequestError: when an input is missing, unknown, or of another type or shape.
    """
    is_rows = ROWS in request
    if is_rows == (COLUMNS in request):
        raise RequestError(400, f"Expected either '{ROWS}' or '{COLUMNS}' in the request.")
    columns = _columns_of_rows(request[ROWS], specs) if is_rows else request[COLUMNS]
    if not isinstance(columns, dict) or _is_bytes(columns):
        columns = {_only(specs): columns}
    for name in [*(columns.keys() - specs.keys()), *(specs.keys() - columns.keys())]:
        what = "no input" if name in columns else "an input that is missing:"
        text = f"The signature has {what} '{name}'; its inputs are {sorted(specs)}."
        raise RequestError(400, text)
    for name, spec in specs.items():  # Checked before millions of rows become arrays.
        rows = columns[name] if spec.shape.rank and spec.shape[0] is None else None
        if isinstance(rows, list) and len(rows) > max_rows:
            raise RequestError(400, f"Expected 1 to {max_rows} instances, received {len(rows)}.")
    return {name: array(name, columns[name], spec) for name, spec in specs.items()}, is_rows


def array(name: str, value: Any, spec: tf.TensorSpec) -> np.ndarray:
    """Turns nested lists into an array of a type and shape, without converting other types."""
    if not _in_json(spec.dtype):
        text = f"Input '{name}' is of type {spec.dtype.name}, which JSON does not have."
        raise RequestError(400, text)
    entries = np.array(_strings(name, value) if spec.dtype == tf.string else value, object)
    types = set(map(type, entries.ravel()))
    if list in types:
        raise RequestError(400, f"The lists in input '{name}' are of two lengths, or too deep.")
    if types - _types(spec.dtype):
        raise RequestError(400, f"Input '{name}' has to be of type {spec.dtype.name}.")
    if not spec.shape.is_compatible_with(entries.shape):
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape)
        text = f"Input '{name}' has to be of shape [{expected}], received {list(entries.shape)}."
        raise RequestError(400, text)
    try:
        if spec.dtype.is_floating:
            entries = entries.astype(np.float64)
        with np.errstate(over="ignore"):  # A number too large for float32 is infinite.
            return entries.astype(spec.dtype.as_numpy_dtype)
    except OverflowError:
        raise RequestError(400, _beyond(name, entries, spec.dtype)) from None


def answer(outputs: Mapping[str, np.ndarray], is_rows: bool) -> bytes:
    """Writes the outputs of a signature in the form of the request.

    Numbers of float32 are written with just enough digits to tell them apart. The output of a
    signature with only one is written without its name.
    """
    columns = {name: plain(name, outputs[name]) for name in sorted(outputs)}
    if not is_rows:
        return dump({"outputs": columns if len(columns) > 1 else _only_value(columns)})
    if len(columns) == 1:
        return dump({"predictions": _only_value(columns)})
    lengths = {len(x) if isinstance(x, list) else None for x in columns.values()}
    if len(lengths) > 1 or None in lengths:
        text = f"The outputs have no rows, or not the same number; ask with '{COLUMNS}'."
        raise RequestError(400, text)
    rows = zip(*columns.values(), strict=True)
    return dump({"predictions": [dict(zip(columns, row, strict=True)) for row in rows]})


def plain(name: str, value: np.ndarray) -> list:
    """Turns an array into nested lists of what JSON has; `NAME_bytes` holds bytes, not text.

    Raises:
        RequestError: for complex numbers, which JSON does not have. TensorFlow Serving refuses
            them with the same status.
    """
    if not _in_json(tf.as_dtype(value.dtype)):
        text = f"Output '{name}' is of type {value.dtype.name}, which JSON does not have."
        raise RequestError(400, text)
    if value.dtype == object and name.endswith(BYTES):
        return _map(value, lambda item: {"b64": base64.b64encode(item).decode()})
    if value.dtype == object:
        return _map(value, lambda item: item.decode("utf-8", "replace"))
    if value.dtype == np.float32 or value.dtype == np.float16:
        value = value.astype("U")  # as few digits as tell its numbers apart
    return value.tolist() if value.dtype.kind in "biu" else value.astype(np.float64).tolist()


def dump(value: Any) -> bytes:
    """Writes JSON, with the words `NaN` and `Infinity` that TensorFlow Serving writes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")  # A sentence may quote half of a character.


def _columns_of_rows(rows: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, list]:
    if not isinstance(rows, list) or not rows:
        raise RequestError(400, f"Expected '{ROWS}' to be a list with something in it.")
    named = [isinstance(row, dict) and not _is_bytes(row) for row in rows]
    if not any(named):
        return {_only(specs): rows}
    for index, row in enumerate(rows):
        if not named[index] or row.keys() != rows[0].keys():
            raise RequestError(400, f"Instance {index} does not have the inputs that another has.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _only(specs: Mapping[str, tf.TensorSpec]) -> str:
    if len(specs) != 1:
        raise RequestError(400, f"Expected the inputs by name: the signature has {sorted(specs)}.")
    return next(iter(specs))


def _only_value(columns: Mapping[str, Any]) -> Any:
    return next(iter(columns.values()))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _strings(name: str, value: Any, depth: int = 0) -> Any:
    """Turns strings and `{"b64": ...}` in nested lists into bytes."""
    if isinstance(value, list) and depth < MAX_DEPTH:
        return [_strings(name, one, depth + 1) for one in value]
    if _is_bytes(value) and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except ValueError as error:
            raise RequestError(400, f"Input '{name}' is not base64: {error}.") from None
    if not isinstance(value, str):
        raise RequestError(400, f"Expected input '{name}' to be strings, received {_kind(value)}.")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise RequestError(400, f"Input '{name}' has half of a character in it.") from None


def _kind(value: Any) -> str:
    return KINDS[type(value)]


def _in_json(dtype: tf.DType) -> bool:
    return dtype == tf.string or dtype.is_bool or dtype.is_floating or dtype.is_integer


def _beyond(name: str, entries: np.ndarray, dtype: tf.DType) -> str:
    """Says of an array that has a number beyond the ends of a type on which side it is."""
    if dtype.is_floating:  # `1e999` is infinite; an integer is not.
        return f"Input '{name}' has an integer of more than 308 digits, too many for {dtype.name}."
    is_below = min(entries.ravel()) < dtype.min
    end = f"below {dtype.min}, the least" if is_below else f"above {dtype.max}, the largest"
    return f"Input '{name}' has a number {end} {dtype.name}."


def _types(dtype: tf.DType) -> set[type]:
    if dtype == tf.string:
        return {bytes}
    return {bool} if dtype.is_bool else {int, float} if dtype.is_floating else {int}


def _map(value: np.ndarray, function) -> list:
    flat = np.empty(value.size, object)
    flat[:] = [function(item) for item in value.ravel()]
    return flat.reshape(value.shape).tolist()
