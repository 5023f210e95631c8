"""The entries of `registry.py` that are recurrent, and the attention that came with them."""

import functools

from kerasformer import layers, models
from tests.layers.entries import (
    CONTEXT_DIM,
    HIDDEN,
    INTERMEDIATE,
    KEY_DIM,
    TARGET_V,
    B,
    Entry,
    S,
    Spec,
    T,
    V,
)

part = functools.partial
pair = {"inputs": Spec((B, T, HIDDEN)), "context": Spec((B, S, CONTEXT_DIM))}
sentences = {"source": Spec((B, S), "ids"), "target": Spec((B, T), "ids")}
scored = {"return_attention_scores": True}
general = {
    "vocabulary_size": V,
    "num_layers": 1,
    "hidden_dim": HIDDEN,
    "embedding_dim": KEY_DIM,
    "output_dim": INTERMEDIATE,
    "cell": "lstm",
    "bidirectional": False,
    "attention": "general",
    "input_feeding": True,
    "reverse_source": True,
    "dropout": 0.2,
    "target_vocabulary_size": TARGET_V,
    "share_embeddings": False,
    "tie_output": False,
    "start_id": V - 1,
    "end_id": 0,
    "pad_id": V - 1,
    "use_logits_bias": True,
    "embeddings_initializer": "glorot_normal",
    "seed": 5,
}
of_sentences = {"in_dict": True, "mask": "made", "output_dtype": "float32"}

ENTRIES = [
    Entry("AdditiveAttention", part(layers.AdditiveAttention, INTERMEDIATE), pair),
    Entry(
        "AdditiveAttention scores",
        part(layers.AdditiveAttention, INTERMEDIATE, kernel_initializer="he_normal"),
        pair,
        scored,
    ),
    Entry("MultiplicativeAttention", part(layers.MultiplicativeAttention, HIDDEN), pair),
    Entry(
        "MultiplicativeAttention concat",
        part(layers.MultiplicativeAttention, INTERMEDIATE, "concat", "he_normal"),
        pair,
        scored,
    ),
    Entry("Seq2SeqRNN general", part(models.Seq2SeqRNN, **general), sentences, **of_sentences),
]
WHOLE_LABELS = {"AdditiveAttention scores", "MultiplicativeAttention concat", "Seq2SeqRNN general"}
