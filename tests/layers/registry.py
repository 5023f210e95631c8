"""Every public layer and model, ready to be built, and what `conformance_test.py` puts it into.

This file needs keras and kerasformer alone, so that a process without TensorFlow can use it too.
"""

import functools

import keras

from kerasformer import layers, models
from tests.layers import (
    attention_entries,
    mlp_entries,
    recurrent_entries,
    sparse_entries,
    text_entries,
)
from tests.layers.entries import (
    CONTEXT_DIM,
    GROUPED,
    HIDDEN,
    INTERMEDIATE,
    KEY_DIM,
    MAX_LENGTH,
    B,
    Entry,
    N,
    S,
    Spec,
    T,
    V,
)


def residual(make_sublayer, dtype=None, **arguments):
    """Makes a `Residual` around a new sublayer of the same dtype."""
    sublayer = make_sublayer(name="sublayer", dtype=dtype)
    return layers.Residual(sublayer, dtype=dtype, **arguments)


def vision(make_stem, dtype=None, **arguments):
    """Makes a `VisionTransformer` behind a new stem of the same dtype."""
    stem = make_stem(HIDDEN, name="stem", dtype=dtype)
    return models.VisionTransformer(stem=stem, dtype=dtype, **arguments)


def vision_of_parts(dtype=None, **arguments):
    """Makes a `VisionTransformer` of given layers, with a register and two heads."""
    return models.VisionTransformer(
        patch_size=2,
        num_prefix_tokens=3,
        positions=layers.LearnedGridPositions((3, 5), 3, name="positions", dtype=dtype),
        pool=layers.TokenPooling(2, name="pool", dtype=dtype),
        heads=[
            keras.layers.Dense(V, autocast=False, name=f"head_{index}", dtype=dtype)
            for index in range(2)
        ],
        epsilon=1e-5,
        dtype=dtype,
        **arguments,
    )


part = functools.partial
sequence = {"inputs": Spec((B, T, HIDDEN))}
pair = {**sequence, "context": Spec((B, S, CONTEXT_DIM))}
heads = {"inputs": Spec((B, N, T, KEY_DIM))}
images = {"inputs": Spec((B, 6, 10, 3), "images")}
token_ids = {"inputs": Spec((B, T), "ids")}
any_mask = {"attention_mask": Spec((B, T, T), "mask")}
any_positions = {"positions": Spec((B, T), "positions")}
any_places = {"positions": Spec((1, T, 2), "coordinates")}
grid = {"inputs": Spec((B, 1 + 2 * 3, HIDDEN))}  # behind a prefix token
causal, scored = {"use_causal_mask": True}, {"return_attention_scores": True}

attention = part(layers.MultiHeadAttention, HIDDEN, N)
grouped_attention = part(layers.MultiHeadAttention, HIDDEN, use_bias=False, dropout=0.1, **GROUPED)
block = {"hidden_dim": HIDDEN, "num_heads": N, "intermediate_dim": INTERMEDIATE}
# A rate so small that no gradient is left out.
scaled = {"stochastic_depth": 1e-3, "layer_scale": 0.5}
# Patterns, of which every block makes a copy.
mixer = layers.MultiHeadAttention(HIDDEN, N, dropout=0.1)
rotary_mixer = layers.MultiHeadAttention(HIDDEN, N, use_rotary=True)
mixed = {
    "hidden_dim": HIDDEN,
    "intermediate_dim": INTERMEDIATE,
    "norm_first": False,
    "dropout": 0.1,
    "activation_dropout": 0.1,
}
modern = {
    **block,
    **scaled,
    **GROUPED,
    "normalization": "rms",
    "epsilon": 1e-5,
    "activation": "silu",
    "use_bias": False,
    "use_rotary": True,
    "rotary_max_wavelength": 100.0,
    "rotary_scaling": ("linear", 2.0),
    "use_gate": True,
    "attention_dropout": 1e-3,
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.1),
    "bias_initializer": "ones",
    "seed": 5,
}
pixels = {"image_size": (6, 10), "num_layers": 1, "num_classes": V, **block}

ENTRIES = [
    *sparse_entries.ENTRIES,
    *recurrent_entries.ENTRIES,
    *text_entries.ENTRIES,
    Entry("MultiHeadAttention self", attention, sequence),
    Entry("MultiHeadAttention causal scores", attention, sequence, causal | scored),
    Entry("MultiHeadAttention masked", attention, sequence | any_mask),
    Entry("MultiHeadAttention cross", attention, pair),
    Entry("MultiHeadAttention grouped", grouped_attention, sequence, causal),
    Entry("MultiHeadAttention grouped cross", grouped_attention, pair, scored),
    Entry("MultiHeadAttention rotary", part(attention, use_rotary=True), sequence),
    Entry(
        "MultiHeadAttention stretched",
        part(
            attention,
            use_rotary=True,
            rotary_max_wavelength=500.0,
            rotary_scaling=("ntk", 3.0),
            kernel_initializer="he_normal",
            bias_initializer=keras.initializers.RandomNormal(stddev=0.1),
            dropout=0.1,
            seed=3,
        ),
        sequence | {"attention_mask": Spec((T, T), "mask")},
    ),
    Entry(
        "MultiHeadAttention rotary in a grid",
        part(attention, use_rotary=True),
        sequence | any_places,
    ),
    Entry("MultiHeadAttention biased", attention, sequence | {"position_bias": Spec((N, T, T))}),
    *attention_entries.ENTRIES,
    *mlp_entries.ENTRIES,
    Entry("TokenEmbedding", part(layers.TokenEmbedding, V, HIDDEN), token_ids, mask="made"),
    Entry(
        "TokenEmbedding plain",
        part(layers.TokenEmbedding, V, HIDDEN, use_scale=False, mask_zero=False),
        token_ids,
        mask="none",
    ),
    Entry(
        "TokenEmbedding reversed",
        part(
            layers.TokenEmbedding, V, HIDDEN, use_logits_bias=True, embeddings_initializer="zeros"
        ),
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
    Entry(
        "LearnedPositionEmbedding",
        part(layers.LearnedPositionEmbedding, MAX_LENGTH, embeddings_initializer="zeros"),
        sequence,
    ),
    Entry(
        "LearnedPositionEmbedding given",
        part(layers.LearnedPositionEmbedding, MAX_LENGTH),
        sequence | any_positions,
    ),
    Entry("RotaryEmbedding", layers.RotaryEmbedding, heads, mask="none"),
    Entry(
        "RotaryEmbedding given",
        part(layers.RotaryEmbedding, max_wavelength=100.0, scaling=("linear", 2.0)),
        heads | any_positions,
        mask="none",
    ),
    Entry("RotaryEmbedding in a grid", layers.RotaryEmbedding, heads | any_places, mask="none"),
    Entry(
        "LearnedGridPositions",
        part(
            layers.LearnedGridPositions,
            (2, 3),
            1,
            keras.initializers.RandomUniform(-0.5, 0.5, seed=7),
        ),
        grid,
    ),
    Entry(
        "LearnedGridPositions resized",
        part(layers.LearnedGridPositions, (3, 5), 1),
        grid,
        {"grid_size": (2, 3)},
    ),
    Entry("SinusoidalGridPositions", part(layers.SinusoidalGridPositions, (2, 3), 1), grid),
    Entry(
        "SinusoidalGridPositions resized",
        part(layers.SinusoidalGridPositions, (3, 5), 1, layout="concatenated"),
        grid,
        {"grid_size": (2, 3)},
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
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
            bias_initializer="ones",
            seed=5,
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
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
            bias_initializer="ones",
            seed=5,
        ),
        sequence,
    ),
    Entry("Residual pre-norm", part(residual, attention, normalization="rms"), sequence),
    Entry("Residual scaled", part(residual, attention, **scaled, seed=5), sequence),
    Entry(
        "Residual post-norm",
        part(
            residual, part(keras.layers.Dense, HIDDEN), norm_first=False, epsilon=1e-5, dropout=0.1
        ),
        sequence,
    ),
    Entry("Residual cross", part(residual, attention), pair),
    Entry("EncoderBlock mixed", part(layers.EncoderBlock, mixer=mixer, **mixed), sequence, scored),
    Entry("EncoderBlock modern", part(layers.EncoderBlock, **modern), sequence | any_mask),
    Entry(
        "DecoderBlock mixed",
        part(layers.DecoderBlock, num_heads=N, mixer=rotary_mixer, **mixed),
        pair,
        scored,
    ),
    Entry("DecoderBlock modern", part(layers.DecoderBlock, **modern), pair),
    Entry(
        "Encoder mixed",
        part(layers.Encoder, 4, mixer=[*attention_entries.MIXERS, *sparse_entries.MIXERS], **mixed),
        sequence,
    ),
    Entry("Encoder modern", part(layers.Encoder, 2, **modern), sequence, causal | scored),
    Entry(
        "Encoder in a grid",
        part(layers.Encoder, 2, use_final_norm=False, **modern),
        sequence | any_places,
    ),
    Entry("Decoder mixed", part(layers.Decoder, 2, num_heads=N, mixer=mixer, **mixed), pair),
    Entry("Decoder modern", part(layers.Decoder, 1, use_final_norm=False, **modern), pair, scored),
    Entry("PatchExtractor", part(layers.PatchExtractor, (3, 2)), images, mask="none"),
    Entry("PatchExtractor overlap", part(layers.PatchExtractor, 4, 3, "same"), images, mask="none"),
    Entry("PatchEmbedding", part(layers.PatchEmbedding, HIDDEN, (3, 2)), images, mask="none"),
    Entry(
        "PatchEmbedding overlap",
        part(layers.PatchEmbedding, HIDDEN, 5, 2, "same", False, "he_normal", "ones"),
        images,
        mask="none",
    ),
    Entry("ConvolutionalStem", part(layers.ConvolutionalStem, HIDDEN), images, mask="none"),
    Entry(
        "ConvolutionalStem deep",
        part(layers.ConvolutionalStem, HIDDEN, 2, 5, 2, 7, kernel_initializer="lecun_normal"),
        images,
        mask="none",
    ),
    Entry(
        "ResNetStem",
        part(layers.ResNetStem, HIDDEN, num_units=(2,), width=6, groups=2),
        images,
        mask="none",
    ),
    Entry(
        "ResNetStem patches",
        part(layers.ResNetStem, HIDDEN, (1, 1), 8, (1, 2), 2, 1e-5, kernel_initializer="he_normal"),
        images,
        mask="none",
    ),
    Entry("PrefixTokens", layers.PrefixTokens, sequence),
    Entry("PrefixTokens two", part(layers.PrefixTokens, 2, tokens_initializer="zeros"), sequence),
    Entry("TokenPooling", layers.TokenPooling, sequence, mask="used"),
    Entry("TokenPooling two", part(layers.TokenPooling, num_tokens=2), sequence, mask="used"),
    Entry("MeanPooling", layers.MeanPooling, sequence, mask="used"),
    Entry(
        "MeanPooling prefix", part(layers.MeanPooling, num_prefix_tokens=1), sequence, mask="used"
    ),
    Entry("MeanPooling normalised", part(layers.MeanPooling, epsilon=1e-6), sequence, mask="used"),
    Entry("SequencePooling", layers.SequencePooling, sequence, mask="used"),
    Entry(
        "AttentionPooling",
        part(layers.AttentionPooling, HIDDEN, N, INTERMEDIATE),
        sequence,
        mask="used",
    ),
    Entry(
        "AttentionPooling other",
        part(layers.AttentionPooling, HIDDEN, N, INTERMEDIATE, keras.activations.elu, 1e-5),
        sequence,
        mask="used",
    ),
    Entry(
        "VisionTransformer distilled",
        part(models.VisionTransformer, patch_size=(3, 2), distillation=True, **pixels),
        images,
        mask="none",
        output_dtype="float32",
    ),
    Entry(
        "VisionTransformer rotary",
        part(
            vision,
            part(layers.ConvolutionalStem, num_layers=2),
            pool="attention",
            positions="rotary",
            dropout=0.1,
            attention_dropout=0.1,
            activation=keras.activations.silu,
            **scaled,
            **pixels,
        ),
        images,
        scored,
        mask="none",
        output_dtype="float32",
    ),
    Entry(
        "VisionTransformer features",
        part(
            models.VisionTransformer,
            patch_size=2,
            pool="mean",
            positions="sinusoidal",
            **pixels | {"num_classes": None},
        ),
        images,
        mask="none",
        output_dtype="float32",
    ),
    Entry(
        "VisionTransformer of parts",
        part(vision_of_parts, **pixels | {"num_classes": None}),
        images,
        mask="none",
        output_dtype="float32",
    ),
]

# XLA, two replicas, mixed precision and files in a fresh process cost most to test, and are tested
# on these alone. Every public layer is one of them or inside one of them.
WHOLE_LABELS = {
    *attention_entries.WHOLE_LABELS,
    *mlp_entries.WHOLE_LABELS,
    *recurrent_entries.WHOLE_LABELS,
    *text_entries.WHOLE_LABELS,
    *sparse_entries.WHOLE_LABELS,
    "MultiHeadAttention biased",
    "MultiHeadAttention stretched",
    "LearnedPositionEmbedding given",
    "LearnedGridPositions resized",
    "SinusoidalPositionEncoding given",
    "SequencePooling",
    "PatchExtractor overlap",
    "PatchEmbedding overlap",
    "ResNetStem patches",
    "GatedFeedForward biased",
    "Encoder mixed",
    "Encoder modern",
    "Decoder modern",
    "VisionTransformer distilled",
    "VisionTransformer rotary",
    "VisionTransformer features",
}
WHOLES = [entry for entry in ENTRIES if entry.label in WHOLE_LABELS]


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """Uses one layer as a user's own model does; `label` is that of its entry."""

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
