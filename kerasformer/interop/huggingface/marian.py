"""Marian of transformers: the translators of OPUS-MT."""

from typing import Any

from kerasformer.interop.huggingface.arguments import (
    activation_of,
    check_arguments,
    name_of_activation,
)
from kerasformer.interop.names import Names
from kerasformer.models import Seq2SeqTransformer

TYPES = ("marian",)
MODEL = Seq2SeqTransformer

# Arguments that change nothing once a model is trained.
TRAINING = ("name", "trainable", "dtype", "seed", "embeddings_initializer")
# What a `Seq2SeqTransformer` has one of, and a config two.
BOTH_SIDES = ("layers", "attention_heads", "ffn_dim")
# What is always true of a model of ours, and what transformers takes where a config lacks it.
ALWAYS = {
    "scale_embedding": False,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
}


def make(config: dict[str, Any]) -> Seq2SeqTransformer:
    """Makes the model of a config, built.

    Raises:
        ValueError: for a config that no `Seq2SeqTransformer` can be.
    """
    model = Seq2SeqTransformer(**arguments(config), name=config["model_type"])
    model.build()
    return model


def names(config: dict[str, Any]) -> Names:
    """Returns the table of the weights of a config."""
    hidden_dim, last = config["d_model"], config["encoder_layers"] - 1
    return Names(
        pairs=(
            ("^target_embedding/logits_bias", "final_logits_bias"),
            ("^target_embedding", "model/shared"),
            ("^(encoder|decoder)/block_", r"model/\1/layers/"),
            ("self_attention/norm", "self_attn_layer_norm"),
            ("self_attention/attention/query_key_value_dense", "self_attn/q_proj+k_proj+v_proj"),
            ("self_attention/attention/output_dense", "self_attn/out_proj"),
            ("cross_attention/norm", "encoder_attn_layer_norm"),
            ("cross_attention/attention/query_dense", "encoder_attn/q_proj"),
            ("cross_attention/attention/key_value_dense", "encoder_attn/k_proj+v_proj"),
            ("cross_attention/attention/output_dense", "encoder_attn/out_proj"),
            ("feed_forward/norm", "final_layer_norm"),
            ("feed_forward/feed_forward/inner_dense", "fc1"),
            ("feed_forward/feed_forward/output_dense", "fc2"),
        ),
        # Sinusoids, and the shared matrix again.
        unused=(r"embed_positions[.]weight$", r"embed_tokens[.]weight$", r"^lm_head[.]weight$"),
        shapes={
            "final_logits_bias": (1, config["vocab_size"]),
            "shared.weight": (config["vocab_size"], hidden_dim),
            f"layers.{last}.fc1.weight": (config["encoder_ffn_dim"], hidden_dim),
        },
    )


def config_of(model: Seq2SeqTransformer) -> dict[str, Any]:
    """Makes the config of a model.

    Raises:
        ValueError: for a model with an argument that no Marian of transformers has.
    """
    sizes = zip(
        BOTH_SIDES, (model.num_layers, model.num_heads, model.intermediate_dim), strict=True
    )
    config = {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": model.vocabulary_size,
        "decoder_vocab_size": model.vocabulary_size,
        "d_model": model.hidden_dim,
        **{f"{side}_{key}": size for key, size in sizes for side in ("encoder", "decoder")},
        "activation_function": name_of_activation(model.activation),
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
        # Ours has no longest input; OPUS-MT's is this.
        "max_position_embeddings": 512,
        "decoder_start_token_id": model.start_id,
        "eos_token_id": model.end_id,
        "forced_eos_token_id": model.end_id,
        "pad_token_id": model.pad_id,
        # Padding is never generated.
        "bad_words_ids": [[model.pad_id]],
        **dict.fromkeys(ALWAYS, True),
    }
    check_arguments(model, Seq2SeqTransformer(**arguments(config)), TRAINING)
    return config


def arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the `Seq2SeqTransformer` of a config.

    Raises:
        ValueError: for a config that none can be.
    """
    for key, default in ALWAYS.items():
        if not config.get(key, default):
            raise ValueError(f"Expected {key}=True, received {key}={config.get(key, default)}.")
    for key in BOTH_SIDES:
        ours, other = config[f"encoder_{key}"], config[f"decoder_{key}"]
        if ours != other:
            raise ValueError(
                f"Expected encoder and decoder of one size, received encoder_{key}={ours} and "
                f"decoder_{key}={other}."
            )
    return {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["encoder_layers"],
        "hidden_dim": config["d_model"],
        "num_heads": config["encoder_attention_heads"],
        "intermediate_dim": config["encoder_ffn_dim"],
        "dropout": config.get("dropout", 0.1),
        "attention_dropout": config.get("attention_dropout", 0.0),
        "activation_dropout": config.get("activation_dropout", 0.0),
        "activation": activation_of(config.get("activation_function", "gelu")),
        "norm_first": False,
        "position_layout": "concatenated",
        "start_id": config["decoder_start_token_id"],
        "end_id": config["eos_token_id"],
        "pad_id": config["pad_token_id"],
        "use_logits_bias": True,
        "epsilon": 1e-5,
    }
