"""The entries of `registry.py` of some kinds of attention, and of the projection head."""

import functools

import keras

from kerasformer import layers
from tests.layers.entries import CONTEXT_DIM, GROUPED, HIDDEN, INTERMEDIATE, B, Entry, N, Spec, T, V

part = functools.partial
sequence = {"inputs": Spec((B, T, HIDDEN))}
causal, scored = {"use_causal_mask": True}, {"return_attention_scores": True}
block = {"hidden_dim": HIDDEN, "num_heads": N, "intermediate_dim": INTERMEDIATE}
stretched = {
    **GROUPED,
    "use_bias": False,
    "use_rotary": True,
    "rotary_max_wavelength": 500.0,
    "rotary_scaling": ("ntk", 3.0),
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.1),
    "dropout": 0.1,
    "seed": 3,
}
asking = {
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation": keras.activations.elu,
    "layer_scale": None,
    "epsilon": 1e-5,
    "seed": 5,
}
# Patterns for a sequence of any length.
MIXERS = [
    layers.LinearAttention(HIDDEN, N, name="linear"),
    layers.TalkingHeadsAttention(HIDDEN, N, name="talking"),
]
ENTRIES = [
    Entry("TalkingHeadsAttention", part(layers.TalkingHeadsAttention, HIDDEN, N), sequence),
    Entry(
        "TalkingHeadsAttention stretched",
        part(layers.TalkingHeadsAttention, HIDDEN, **stretched),
        sequence | {"attention_mask": Spec((B, T, T), "mask")},
        causal | scored,
    ),
    Entry("LinearAttention", part(layers.LinearAttention, HIDDEN, N, seed=5), sequence),
    Entry(
        "LinearAttention relu",
        part(layers.LinearAttention, HIDDEN, num_features=7, kernel="relu", **stretched),
        sequence | {"positions": Spec((B, T), "positions")},
        causal,
    ),
    Entry("ClassAttentionBlock", part(layers.ClassAttentionBlock, **block), sequence),
    Entry(
        "ClassAttentionBlock other",
        part(layers.ClassAttentionBlock, **block, **asking),
        sequence,
        scored,
    ),
    Entry(
        "ClassAttentionPooling",
        part(layers.ClassAttentionPooling, **block, **asking, num_layers=1),
        sequence,
        mask="used",
    ),
    Entry("ProjectionHead", part(layers.ProjectionHead, V), sequence, output_dtype="float32"),
    Entry(
        "ProjectionHead of two layers",
        part(
            layers.ProjectionHead,
            V,
            intermediate_dim=INTERMEDIATE,
            bottleneck_dim=CONTEXT_DIM,
            num_layers=2,
            activation=keras.activations.elu,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
        ),
        sequence,
        output_dtype="float32",
    ),
]
WHOLE_LABELS = {"ClassAttentionPooling", "ProjectionHead of two layers"}
