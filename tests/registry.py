"""Every public layer and model, ready to be built, and what `conformance_test.py` puts it into.

This file needs keras and kerasformer alone, so that a process without TensorFlow can use it too.
Sizes are distinct, and prime where heads and sinusoids allow it.
"""

import dataclasses
import functools
import inspect
import zlib
from collections.abc import Callable

import keras
import numpy as np

from kerasformer import layers, models

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
        if self.kind == "reals":
            return rng.normal(size=self.shape).astype("float32")
        if self.kind == "mask":
            # Every query sees at least the first key.
            return (rng.random(self.shape) < 0.6) | (np.arange(self.shape[-1]) == 0)
        if self.kind == "positions":
            return rng.integers(0, MAX_LENGTH, self.shape).astype("int32")
        ids = rng.integers(1, V, self.shape).astype("int32")
        ids[0, -2:] = 0
        return ids

    @property
    def dtype(self):
        """Returns the dtype as Keras and TensorFlow call it."""
        return {"reals": "float32", "mask": "bool"}.get(self.kind, "int32")

    @property
    def open_shape(self):
        """Returns the shape of a model's input: batch and lengths are open."""
        return tuple(None if size in (B, T, S) else size for size in self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A layer in one configuration, and how it is called.

    `inputs` are tensors by argument name, of which the first is passed by position (or all in one
    dict, with `in_dict`), and `options` the other arguments of the call. `mask` says what becomes
    of Keras's mask: it is "kept", "made" from the inputs, or there is "none". `output_dtype` is
    `None` for the compute dtype.
    """

    label: str
    make: Callable
    inputs: dict
    options: dict = dataclasses.field(default_factory=dict)
    in_dict: bool = False
    mask: str = "kept"
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
        layer.set_weights([0.5 * rng.normal(size=w.shape) for w in layer.weights])
        return layer

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
                if parameter.kind is not parameter.VAR_KEYWORD:
                    arguments.setdefault(parameter.name, parameter.default)
    return arguments


def residual(make_sublayer, dtype=None, **arguments):
    """Makes a `Residual` around a new sublayer of the same dtype."""
    sublayer = make_sublayer(name="sublayer", dtype=dtype)
    return layers.Residual(sublayer, dtype=dtype, **arguments)


part = functools.partial
sequence = {"inputs": Spec((B, T, HIDDEN))}
pair = {**sequence, "context": Spec((B, S, CONTEXT_DIM))}
heads = {"inputs": Spec((B, N, T, KEY_DIM))}
token_ids = {"inputs": Spec((B, T), "ids")}
sentences = {"source": Spec((B, S), "ids"), "target": Spec((B, T), "ids")}
any_mask = {"attention_mask": Spec((B, T, T), "mask")}
any_bias = {"position_bias": Spec((N, T, T))}
any_positions = {"positions": Spec((B, T), "positions")}
causal, scored = {"use_causal_mask": True}, {"return_attention_scores": True}

attention = part(layers.MultiHeadAttention, HIDDEN, N)
grouped_attention = part(layers.MultiHeadAttention, HIDDEN, use_bias=False, dropout=0.1, **GROUPED)
block = {"hidden_dim": HIDDEN, "num_heads": N, "intermediate_dim": INTERMEDIATE}
post_norm = {
    **block,
    "norm_first": False,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
}
modern = {
    **block,
    **GROUPED,
    "normalization": "rms",
    "epsilon": 1e-5,
    "activation": "silu",
    "use_bias": False,
    "use_rotary": True,
    "use_gate": True,
}
model = {"vocabulary_size": V, "num_layers": 1, **block}
separate = {
    **model,
    "target_vocabulary_size": TARGET_V,
    "share_embeddings": False,
    "tie_output": False,
    "dropout": 0.2,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "activation": "gelu_tanh",
    "norm_first": True,
    "position_layout": "tensor2tensor",
    "position_start": 1,
}

ENTRIES = [
    Entry("MultiHeadAttention self", attention, sequence),
    Entry("MultiHeadAttention causal scores", attention, sequence, causal | scored),
    Entry("MultiHeadAttention masked", attention, sequence | any_mask),
    Entry("MultiHeadAttention cross", attention, pair),
    Entry("MultiHeadAttention grouped", grouped_attention, sequence, causal),
    Entry("MultiHeadAttention grouped cross", grouped_attention, pair, scored),
    Entry("MultiHeadAttention rotary", part(attention, use_rotary=True), sequence),
    Entry("MultiHeadAttention biased", attention, sequence | any_bias),
    Entry("TokenEmbedding", part(layers.TokenEmbedding, V, HIDDEN), token_ids, mask="made"),
    Entry(
        "TokenEmbedding plain",
        part(layers.TokenEmbedding, V, HIDDEN, use_scale=False, mask_zero=False),
        token_ids,
        mask="none",
    ),
    Entry(
        "TokenEmbedding reversed",
        part(layers.TokenEmbedding, V, HIDDEN),
        sequence,
        {"reverse": True},
        output_dtype="float32",
    ),
    Entry("SinusoidalPositionEncoding", layers.SinusoidalPositionEncoding, sequence),
    Entry(
        "SinusoidalPositionEncoding given",
        part(layers.SinusoidalPositionEncoding, layout="concatenated", start=1),
        sequence | any_positions,
    ),
    Entry("LearnedPositionEmbedding", part(layers.LearnedPositionEmbedding, MAX_LENGTH), sequence),
    Entry(
        "LearnedPositionEmbedding given",
        part(layers.LearnedPositionEmbedding, MAX_LENGTH),
        sequence | any_positions,
    ),
    Entry("RotaryEmbedding", layers.RotaryEmbedding, heads, mask="none"),
    Entry(
        "RotaryEmbedding given",
        part(layers.RotaryEmbedding, max_wavelength=100.0),
        heads | any_positions,
        mask="none",
    ),
    Entry("FeedForward", part(layers.FeedForward, HIDDEN, INTERMEDIATE), sequence),
    Entry(
        "FeedForward plain",
        part(
            layers.FeedForward,
            HIDDEN,
            INTERMEDIATE,
            activation=keras.activations.elu,
            dropout=0.1,
            use_bias=False,
        ),
        sequence,
    ),
    Entry("GatedFeedForward", part(layers.GatedFeedForward, HIDDEN, INTERMEDIATE), sequence),
    Entry(
        "GatedFeedForward biased",
        part(
            layers.GatedFeedForward,
            HIDDEN,
            INTERMEDIATE,
            activation="gelu_tanh",
            dropout=0.1,
            use_bias=True,
        ),
        sequence,
    ),
    Entry("Residual pre-norm", part(residual, attention, normalization="rms"), sequence),
    Entry(
        "Residual post-norm",
        part(
            residual,
            part(keras.layers.Dense, HIDDEN),
            norm_first=False,
            epsilon=1e-5,
            dropout=0.1,
        ),
        sequence,
    ),
    Entry("Residual cross", part(residual, attention), pair),
    Entry("EncoderBlock post-norm", part(layers.EncoderBlock, **post_norm), sequence, scored),
    Entry("EncoderBlock modern", part(layers.EncoderBlock, **modern), sequence | any_mask),
    Entry("DecoderBlock post-norm", part(layers.DecoderBlock, **post_norm), pair, scored),
    Entry("DecoderBlock modern", part(layers.DecoderBlock, **modern), pair),
    Entry("Encoder post-norm", part(layers.Encoder, 2, **post_norm), sequence),
    Entry("Encoder modern", part(layers.Encoder, 2, **modern), sequence, causal | scored),
    Entry("Decoder post-norm", part(layers.Decoder, 2, **post_norm), pair),
    Entry("Decoder modern", part(layers.Decoder, 2, **modern), pair, scored),
    Entry(
        "Seq2SeqTransformer shared",
        part(models.Seq2SeqTransformer, **model),
        sentences,
        in_dict=True,
        mask="made",
        output_dtype="float32",
    ),
    Entry(
        "Seq2SeqTransformer separate",
        part(models.Seq2SeqTransformer, **separate),
        sentences,
        in_dict=True,
        mask="made",
        output_dtype="float32",
    ),
]


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """Holds one layer as a user's own model does; `label` is that of its entry."""

    def __init__(self, layer, label, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.entry = next(entry for entry in ENTRIES if entry.label == label)

    def build(self, inputs_shape):
        """Leaves it to the layer, which remembers the shapes it was built for."""

    def call(self, inputs, training=None):
        outputs = self.entry.call(self.layer, inputs, training=training)
        return keras.tree.flatten(outputs)[0]

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "label": self.entry.label}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


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
    """Notes the mask that Keras hands to it."""

    def call(self, inputs, mask=None):
        self.seen = mask
        return inputs

    def compute_mask(self, inputs, previous_mask):
        return previous_mask
