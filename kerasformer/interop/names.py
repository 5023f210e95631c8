"""How the weights of a model are called and laid out in another library.

A family of models has one table, `Names`, which serves both directions: `read_weights` fills a
model with tensors of the other library, `written_weights` makes tensors of a model.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np


class Names(NamedTuple):
    """A table of the names of weights: those of a path in a model of ours.

    Attributes:
        pairs: tuple of pairs of a regular expression and its replacement, which are applied to the
            path of a weight one after the other. At the end `/` becomes `.`. Names joined by `+`,
            as in `q+k+v.weight`, are tensors that lie one behind the other in ours.
        prefix: str. What names begin with in a model with a head, but not in one without.
        unused: tuple of regular expressions of tensors that a model of ours does not need.
        aliases: tuple of pairs as in `pairs`, from the names in files of old versions to those of
            today.
        shapes: dict of shapes by the ends of names: those that lie in more dimensions there, and
            sizes to check before a model is made.
        has_rows_of_outputs: bool. Whether kernels are `(outputs, inputs, ...)`, as those of
            `torch.nn.Linear` and `Conv2d` are, and not `(inputs, outputs)`.
    """

    pairs: tuple[tuple[str, str], ...]
    prefix: str = ""
    unused: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = {}
    has_rows_of_outputs: bool = True

    def of(self, path: str) -> list[str]:
        """Lists the names of the tensors that one weight of a model is made of.

        Args:
            path: str. The path of the weight, without the name of the model.

        Returns:
            List of names, those of a model with a head.
        """
        for pattern, replacement in self.pairs + KERAS:
            path = re.sub(pattern, replacement, path)
        joined = next((part for part in path.split(".") if "+" in part), "")
        return [path.replace(joined, part) for part in joined.split("+")]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Returns the shape of a tensor there, or `None` where it follows from the model."""
        return next((shape for end, shape in self.shapes.items() if name.endswith(end)), None)

    def is_unused(self, name: str) -> bool:
        """Returns whether no weight of a model is made of a tensor."""
        return any(re.search(pattern, name) for pattern in self.unused)


# The names of Keras that all libraries on PyTorch call alike.
KERAS = (("/(kernel|gamma|embeddings)$", ".weight"), ("/(bias|beta)$", ".bias"), ("/", "."))


def check_shapes(shapes: Mapping[str, tuple[int, ...]], names: Names) -> None:
    """Compares the tensors of a file with the sizes that its config has.

    Args:
        shapes: dict of the shapes of all tensors by name.
        names: the table.

    Raises:
        ValueError: for a tensor that lacks or that has another shape.
    """
    for end, expected in names.shapes.items():
        found = [name for name in shapes if ("." + name).endswith("." + end)]
        if not found:
            raise ValueError(f"Expected a tensor named {end!r}, received {_few(shapes)}.")
        for name in found:
            if shapes[name] != expected:
                raise ValueError(
                    f"Expected {name!r} to have the shape {expected}, as the config says, "
                    f"received {shapes[name]}."
                )


def read_weights(model, tensors: Mapping[str, np.ndarray], names: Names) -> None:
    """Fills a model with the tensors of another library.

    Args:
        model: built Keras model.
        tensors: mapping from names to arrays. Each is read when its weight is filled.
        names: the table.

    Raises:
        ValueError: for a weight without a tensor, a tensor that is not used, or one of another
            shape. Weights may have been filled by then.
    """
    # Models without a head may lack the prefix.
    prefix = "" if any(name.startswith(names.prefix) for name in tensors) else names.prefix
    plan = [
        (weight, [name.removeprefix(prefix) for name in names.of(_path(weight))])
        for weight in model.weights
    ]
    needed = {name for _, parts in plan for name in parts}
    missing = sorted(needed - tensors.keys())
    left_over = sorted(name for name in tensors.keys() - needed if not names.is_unused(name))
    if missing or left_over:
        raise ValueError(
            "Expected a tensor for each weight and a weight for each tensor, received none for the "
            f"weights {_few(missing)}, and the tensors {_few(left_over)} are left over."
        )
    for weight, parts in plan:
        axis = 0 if names.has_rows_of_outputs else -1
        value = np.concatenate([tensors[part] for part in parts], axis)
        shape = value.shape
        if _is_kernel(weight) and names.has_rows_of_outputs and value.ndim > 1:
            # (outputs, inputs, rows, columns) becomes (rows, columns, inputs, outputs).
            value = value.transpose(*range(2, value.ndim), 1, 0)
        if value.size != np.prod(weight.shape) or _last(value) != _last(weight):
            raise ValueError(
                f"Expected {'+'.join(parts)} to fit {weight.path} of the shape "
                f"{tuple(weight.shape)}, received {shape}."
            )
        weight.assign(value.reshape(weight.shape))


def written_weights(model, names: Names) -> dict[str, np.ndarray]:
    """Makes the tensors of another library of the weights of a model.

    Args:
        model: built Keras model.
        names: the table.

    Returns:
        Dict of float32 arrays by name, those of a model with a head.
    """
    tensors = {}
    for weight in model.weights:
        parts = names.of(_path(weight))
        value = keras.ops.convert_to_numpy(weight).astype("float32")
        shape = names.shape(parts[0])
        if _is_kernel(weight) and names.has_rows_of_outputs:
            if shape and len(shape) > 2:
                value = value.reshape(*shape[2:], shape[1], -1)
            value = np.moveaxis(value, (-1, -2), (0, 1))
        pieces = np.split(value, len(parts), 0 if names.has_rows_of_outputs else -1)
        for part, piece in zip(parts, pieces, strict=True):
            piece = piece.reshape(shape) if shape else piece
            tensors[part] = np.ascontiguousarray(piece)
    return tensors


def _path(weight):
    """Returns the path of a weight without the name of its model."""
    return weight.path.partition("/")[2]


def _is_kernel(weight):
    return weight.path.endswith("kernel")


def _last(array):
    """Returns the last axis that is longer than 1, of which depthwise convolutions have one."""
    return next((size for size in reversed(array.shape) if size > 1), 1)


def _few(names):
    names = sorted(names)
    return f"{names[:5]} and {len(names) - 5} more" if len(names) > 5 else f"{names}"
