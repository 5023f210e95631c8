"""The entries of `registry.py` that look at a part of a sequence, and the models made of them."""

import functools

import keras

from kerasformer import layers, models
from tests.layers.entries import GROUPED, HIDDEN, B, Entry, N, Spec, T, V

part = functools.partial
GRID = (2, 3)
sequence, grid = ({"inputs": Spec((B, length, HIDDEN))} for length in (T, GRID[0] * GRID[1]))
plain = {
    **GROUPED,
    "use_bias": False,
    "dropout": 0.1,
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.1),
    "bias_initializer": "ones",
    "seed": 5,
}
turned = {
    **plain,
    "use_rotary": True,
    "rotary_max_wavelength": 100.0,
    "rotary_scaling": ("linear", 2.0),
}
# Patterns for a sequence of any length.
MIXERS = [
    layers.LocalAttention(HIDDEN, N, 2, name="local"),
    layers.SparseAttention(HIDDEN, N, 2, name="sparse"),
]
ENTRIES = [
    Entry(
        "LocalAttention",
        part(layers.LocalAttention, HIDDEN, block_size=(1, 2), halo=1, grid_size=GRID, **turned),
        grid,
        {"use_causal_mask": True},
    ),
    Entry(
        "SparseAttention",
        part(
            layers.SparseAttention,
            HIDDEN,
            block_size=6,
            pattern="fixed",
            heads="split",
            num_summaries=2,
            summary_turns=3,
            **turned,
        ),
        sequence,
        {"use_causal_mask": True, "return_attention_scores": True},
    ),
    Entry(
        "WindowAttention",
        part(layers.WindowAttention, HIDDEN, window_size=2, grid_size=GRID, shift=(0, 1), **turned),
        grid,
    ),
    Entry(
        "WindowAttention global",
        part(
            layers.WindowAttention,
            HIDDEN,
            window_size=2,
            grid_size=GRID,
            use_global_queries=True,
            **plain,
        ),
        grid | {"queries": Spec((B, 4, 6 * GROUPED["key_dim"]))},
        reads_itself=False,
    ),
    Entry(
        "GCViT",
        part(
            models.GCViT,
            image_size=(6, 10),
            num_layers=(2,),
            hidden_dim=HIDDEN,
            num_heads=N,
            num_classes=V,
            intermediate_ratio=2.0,
            window_size=[(3, 5)],
            stem_strides=(1, 1),
            dropout=0.1,
            attention_dropout=1e-3,
            stochastic_depth=1e-3,
            layer_scale=0.5,
            activation=keras.activations.silu,
            seed=5,
        ),
        {"inputs": Spec((B, 6, 10, 3), "images")},
        mask="none",
        output_dtype="float32",
    ),
]
WHOLE_LABELS = {"GCViT"}
