"""The entries of `registry.py` that are models of token ids, but for the recurrent ones."""

import functools

from kerasformer import models
from tests.layers.entries import (
    HIDDEN,
    INTERMEDIATE,
    MAX_LENGTH,
    TARGET_V,
    B,
    Entry,
    N,
    S,
    Spec,
    T,
    V,
)

part = functools.partial
logits = {"mask": "made", "output_dtype": "float32"}
token_ids = {"inputs": Spec((B, T), "ids")}
typed = {**token_ids, "token_types": Spec((B, T), "ids")}
sentences = {"source": Spec((B, S), "ids"), "target": Spec((B, T), "ids")}
model = {
    "vocabulary_size": V,
    "num_layers": 1,
    "hidden_dim": HIDDEN,
    "num_heads": N,
    "intermediate_dim": INTERMEDIATE,
}
others = {
    "dropout": 0.2,
    "attention_dropout": 0.2,
    "activation": "silu",
    "epsilon": 1e-6,
    "pad_id": V - 1,
    "kernel_initializer": "glorot_normal",
    "seed": 5,
}
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
    "start_id": V - 1,
    "end_id": 0,
    "pad_id": V - 1,
    "use_logits_bias": True,
    "embeddings_initializer": "glorot_normal",
    "seed": 5,
}

ENTRIES = [
    Entry(
        "Seq2SeqTransformer shared",
        part(models.Seq2SeqTransformer, **model),
        sentences,
        in_dict=True,
        **logits,
    ),
    Entry(
        "Seq2SeqTransformer separate",
        part(models.Seq2SeqTransformer, **separate),
        sentences,
        in_dict=True,
        **logits,
    ),
    Entry(
        "BERT of tokens",
        part(models.BERT, **model, **others, num_token_types=None, num_classes=7),
        token_ids,
        **logits,
    ),
    Entry(
        "BERT of sentences",
        part(
            models.BERT,
            **model,
            max_length=MAX_LENGTH,
            num_token_types=V,
            pool="mean",
            pooler_activation="tanh",
            normalize=True,
        ),
        typed,
        mask="none",
        output_dtype="float32",
    ),
    Entry(
        "LanguageModel",
        part(models.LanguageModel, **model, max_length=MAX_LENGTH),
        token_ids,
        **logits,
    ),
    Entry(
        "LanguageModel separate",
        part(
            models.LanguageModel,
            **model,
            **others,
            max_length=None,
            tie_output=False,
            start_id=3,
            end_id=V - 1,
        ),
        token_ids,
        **logits,
    ),
]
WHOLE_LABELS = {
    "Seq2SeqTransformer shared",
    "Seq2SeqTransformer separate",
    "BERT of sentences",
    "LanguageModel",
}
