"""The entries of `registry.py` that read one text: BERT and language models."""

import functools

from kerasformer import models
from tests.layers.entries import HIDDEN, INTERMEDIATE, MAX_LENGTH, B, Entry, N, Spec, T, V

part = functools.partial
token_ids = {"inputs": Spec((B, T), "ids")}
typed = {**token_ids, "token_types": Spec((B, T), "ids")}
model = {
    "vocabulary_size": V,
    "num_layers": 1,
    "hidden_dim": HIDDEN,
    "num_heads": N,
    "intermediate_dim": INTERMEDIATE,
    "max_length": MAX_LENGTH,
}
other = {
    "dropout": 0.2,
    "attention_dropout": 0.2,
    "activation": "silu",
    "epsilon": 1e-6,
    "pad_id": V - 1,
    "kernel_initializer": "glorot_normal",
    "seed": 5,
}

ENTRIES = [
    Entry("BERT", part(models.BERT, **model, num_token_types=V), typed, mask="made"),
    Entry(
        "BERT classifier",
        part(
            models.BERT,
            **model | other,
            num_token_types=None,
            pool="class",
            pooler_activation="tanh",
            num_classes=7,
            use_bias=False,
        ),
        token_ids,
        mask="none",
        output_dtype="float32",
    ),
    Entry(
        "BERT sentences",
        part(models.BERT, **model, pool="mean", normalize=True),
        token_ids,
        mask="none",
        output_dtype="float32",
    ),
    Entry(
        "LanguageModel",
        part(models.LanguageModel, **model),
        token_ids,
        mask="made",
        output_dtype="float32",
    ),
    Entry(
        "LanguageModel rotary",
        part(
            models.LanguageModel,
            **model | other | {"max_length": None},
            tie_output=False,
            start_id=3,
            end_id=V - 1,
            use_rotary=True,
            use_gate=True,
            use_bias=False,
            normalization="rms",
        ),
        token_ids,
        mask="made",
        output_dtype="float32",
    ),
]
WHOLE_LABELS = {"BERT classifier", "LanguageModel"}
