"""What an entry of `registry.py` is: a layer ready to be built, called and put into models.

This file needs keras and kerasformer alone, so that a process without TensorFlow can use it too.
Sizes are distinct, and prime where heads and sinusoids allow it.
"""

import dataclasses
import inspect
import zlib
from collections.abc import Callable

import keras
import numpy as np

B, N, T, S, V = 2, 3, 5, 7, 11
INTERMEDIATE, MAX_LENGTH, CONTEXT_DIM, TARGET_V = 13, 17, 19, 23
KEY_DIM = 4
HIDDEN = N * KEY_DIM
GROUPED = {"num_heads": 6, "num_key_value_heads": 3, "key_dim": KEY_DIM}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A tensor that a layer takes: its shape, batch included, and its kind."""

    shape: tuple
    kind: str = "reals"

    def make(self, rng):
        """Draws a value; the ids of the first row end in padding."""
        if self.kind in ("reals", "images"):
            return rng.normal(size=self.shape).astype("float32")
        if self.kind == "mask":
            # Every query sees at least the first key.
            return (rng.random(self.shape) < 0.6) | (np.arange(self.shape[-1]) == 0)
        if self.kind == "order":
            return rng.permuted(np.tile(np.arange(self.shape[1], dtype="int32"), (B, 1)), axis=1)
        if self.kind in ("positions", "coordinates"):
            return rng.integers(0, MAX_LENGTH, self.shape).astype("int32")
        ids = rng.integers(1, V, self.shape).astype("int32")
        ids[0, -2:] = 0
        return ids

    @property
    def dtype(self):
        """Returns the dtype as Keras and TensorFlow call it."""
        kinds = {"reals": "float32", "images": "float32", "mask": "bool"}
        return kinds.get(self.kind, "int32")

    @property
    def open_shape(self):
        """Returns the shape of a model's input: batch and lengths are open, axes of a grid not."""
        if self.kind == "images":
            return (None, None, None, self.shape[-1])
        open_shape = [None if size in (B, T, S) else size for size in self.shape]
        return (*open_shape[:-1], self.shape[-1] if self.kind == "coordinates" else open_shape[-1])


def padding(value):
    """Makes a mask that hides the last two steps of the first row."""
    mask = np.ones(value.shape[:2], bool)
    mask[0, -2:] = False
    return mask


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A layer in one configuration, and how it is called.

    `inputs` are tensors by argument name, of which the first is passed by position (or all in one
    dict, with `in_dict`), and `options` the other arguments of the call. `mask` says what becomes
    of Keras's mask: it is "kept" (and `True` for what stands before the sequence), "made" from the
    inputs, "used" and gone, or there is "none"; `reads_itself` says whether what is masked still
    depends on itself. `output_dtype` is `None` for the compute dtype.
    """

    label: str
    make: Callable
    inputs: dict
    options: dict = dataclasses.field(default_factory=dict)
    in_dict: bool = False
    mask: str = "kept"
    reads_itself: bool = True
    output_dtype: str | None = None

    @property
    def name(self):
        """Returns the label as the name of a layer, a file or a signature."""
        return self.label.lower().replace(" ", "_").replace("-", "_")

    def values(self):
        """Draws the inputs, the same in every process."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return {name: spec.make(rng) for name, spec in self.inputs.items()}

    def symbols(self):
        """Makes the inputs of a functional model, whose batch and lengths are open."""
        return {
            name: keras.Input(batch_shape=spec.open_shape, dtype=spec.dtype, name=name)
            for name, spec in self.inputs.items()
        }

    def call(self, layer, tensors, **options):
        """Calls the layer."""
        options = self.options | options
        if self.in_dict:
            return layer(tensors, **options)
        first, *others = self.inputs
        return layer(tensors[first], **{name: tensors[name] for name in others}, **options)

    def build(self, **arguments):
        """Makes the layer with weights of which none is 0 or 1, the same in every process."""
        layer = self.make(name=self.name, **arguments)
        self.call(layer, self.values())
        rng = np.random.default_rng(zlib.crc32(self.label.encode()))
        values = [0.5 * rng.normal(size=w.shape) for w in layer.weights]
        # The moving variance of batch normalisation is none if it is below zero.
        signed = [
            abs(x) + 0.5 if w.name.endswith("variance") else x
            for w, x in zip(layer.weights, values, strict=True)
        ]
        layer.set_weights(signed)
        return layer

    def mask_behind(self, values, length):
        """Returns the mask that outputs of a length should carry, or None."""
        if self.mask == "made":
            pad_id = getattr(self.make, "keywords", {}).get("pad_id", 0)
            is_token = values["target" if self.in_dict else "inputs"] != pad_id
            return np.cumsum(is_token[:, ::-1], axis=1)[:, ::-1] > 0
        if self.mask != "kept":
            return None
        real = padding(values["inputs"])
        return np.pad(real, ((0, 0), (length - real.shape[1], 0)), constant_values=True)

    def functional(self, layer):
        """Makes a functional model of the layer alone."""
        symbols = self.symbols()
        return keras.Model(symbols, self.call(layer, symbols))


def constructor_arguments(layer_class):
    """Returns the arguments with their defaults, inherited ones included, those of Keras not."""
    arguments = {}
    for base in layer_class.__mro__:
        if base.__module__.startswith("kerasformer.") and "__init__" in vars(base):
            for parameter in list(inspect.signature(base.__init__).parameters.values())[1:]:
                is_kerass = parameter.name in ("name", "trainable", "dtype")
                if parameter.kind is not parameter.VAR_KEYWORD and not is_kerass:
                    arguments.setdefault(parameter.name, parameter.default)
    return arguments


class Padded(keras.layers.Layer):
    """Hands its inputs on with a mask attached."""

    def __init__(self, mask):
        super().__init__()
        self.mask = keras.ops.convert_to_tensor(mask)

    def call(self, inputs):
        return keras.ops.copy(inputs)

    def compute_mask(self, inputs, previous_mask):
        return self.mask


class Probe(keras.layers.Layer):
    """Records the mask that Keras hands to it."""

    def call(self, inputs, mask=None):
        self.seen = mask
        return inputs

    def compute_mask(self, inputs, previous_mask):
        return previous_mask
