"""GPT-2 of transformers."""

from typing import Any

from kerasformer.interop.huggingface.arguments import (
    activation_of,
    architecture_of,
    check_fixed,
    check_text_model,
    name_of_activation,
    read_arguments,
)
from kerasformer.interop.names import Names
from kerasformer.models import LanguageModel

TYPES = ("gpt2",)
MODEL = LanguageModel

# What the library calls the arguments of ours, and what a config may lack.
KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "n_layer",
    "hidden_dim": "n_embd",
    "num_heads": "n_head",
    "intermediate_dim": "n_inner",
    "max_length": "n_positions",
    "tie_output": "tie_word_embeddings",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "activation": "activation_function",
    "epsilon": "layer_norm_epsilon",
    "start_id": "bos_token_id",
    "end_id": "eos_token_id",
    "pad_id": "pad_token_id",
}
DEFAULTS = {
    "intermediate_dim": None,
    "tie_output": True,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation": "gelu_new",
    "epsilon": 1e-5,
    "start_id": 50256,
    "end_id": 50256,
    "pad_id": None,
}
# What must be so in a config, where it is said.
FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def make(config: dict[str, Any]) -> LanguageModel:
    """Makes the model of a config, built.

    Args:
        config: dict.

    Returns:
        A `LanguageModel`.

    Raises:
        ValueError: for a config that no `LanguageModel` can be.
    """
    model = LanguageModel(**_arguments(config), name=config["model_type"])
    model.build()
    return model


def names(config: dict[str, Any]) -> Names:
    """Returns the table of the weights of a config.

    Args:
        config: dict.

    Returns:
        `Names`.

    Raises:
        ValueError: for a config that no `LanguageModel` can be.
    """
    sizes = _arguments(config)
    hidden_dim, last = sizes["hidden_dim"], sizes["num_layers"] - 1
    is_tied = sizes["tie_output"]
    return Names(
        pairs=(
            ("^token_embedding", "transformer/wte"),
            ("^positions", "transformer/wpe"),
            ("^output_embedding", "lm_head"),
            ("^encoder/block_", "transformer/h/"),
            ("^encoder/final_norm", "transformer/ln_f"),
            ("self_attention/norm", "ln_1"),
            ("self_attention/attention/query_key_value_dense", "attn/c_attn"),
            ("self_attention/attention/output_dense", "attn/c_proj"),
            ("feed_forward/norm", "ln_2"),
            ("feed_forward/feed_forward/inner_dense", "mlp/c_fc"),
            ("feed_forward/feed_forward/output_dense", "mlp/c_proj"),
        ),
        prefix="transformer.",
        # Masks that old versions stored, and the embedding once more.
        unused=("[.]attn[.](masked_)?bias$", *(("^lm_head[.]",) if is_tied else ())),
        shapes={
            "wte.weight": (sizes["vocabulary_size"], hidden_dim),
            "wpe.weight": (sizes["max_length"], hidden_dim),
            f"h.{last}.mlp.c_fc.weight": (hidden_dim, sizes["intermediate_dim"]),
        },
        has_rows_of_outputs=False,
    )


def config_of(model: LanguageModel) -> dict[str, Any]:
    """Makes the config of a model.

    Args:
        model: `LanguageModel`.

    Returns:
        Dict that JSON can hold.

    Raises:
        ValueError: for a model with an argument that no GPT-2 of transformers has.
    """
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(model, ours) for ours, theirs in KEYS.items()},
        "embd_pdrop": model.dropout,
        "activation_function": name_of_activation(model.activation),
    }
    check_text_model(model, LanguageModel(**_arguments(config)))
    return config


def _arguments(config):
    """Returns the arguments of the `LanguageModel` of a config."""
    architecture_of(config, "GPT2", ("LMHeadModel", "Model"))
    check_fixed(config, FIXED)
    arguments = read_arguments(config, KEYS, DEFAULTS)
    arguments["activation"] = activation_of(arguments["activation"])
    arguments["intermediate_dim"] = arguments["intermediate_dim"] or 4 * arguments["hidden_dim"]
    if not isinstance(arguments["end_id"], int):
        raise ValueError(f"Expected one eos_token_id, received {arguments['end_id']}.")
    # What ends a text also begins and fills up others, where nothing else does.
    for name in ("start_id", "pad_id"):
        if arguments[name] is None:
            arguments[name] = arguments["end_id"]
    return arguments
