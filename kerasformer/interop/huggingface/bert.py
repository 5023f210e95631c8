"""BERT and DistilBERT of transformers, MiniLM and other makers of sentence vectors included.

Heads that fill in masked words are left out, because a `BERT` has none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasformer.interop.description import label_keys, unnamed
from kerasformer.interop.huggingface.arguments import (
    activation_of,
    architecture_of,
    check_fixed,
    check_text_model,
    name_of_activation,
    read_arguments,
)
from kerasformer.interop.huggingface.sentences import read_modules, write_modules
from kerasformer.interop.names import Names
from kerasformer.models import BERT

TYPES = ("bert", "distilbert")
MODEL = BERT

# What each library calls the arguments of ours.
BOTH = {
    "vocabulary_size": "vocab_size",
    "max_length": "max_position_embeddings",
    "pad_id": "pad_token_id",
}
KEYS = {
    "bert": {
        **BOTH,
        "num_layers": "num_hidden_layers",
        "hidden_dim": "hidden_size",
        "num_heads": "num_attention_heads",
        "intermediate_dim": "intermediate_size",
        "num_token_types": "type_vocab_size",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "activation": "hidden_act",
        "epsilon": "layer_norm_eps",
    },
    "distilbert": {
        **BOTH,
        "num_layers": "n_layers",
        "hidden_dim": "dim",
        "num_heads": "n_heads",
        "intermediate_dim": "hidden_dim",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "activation": "activation",
    },
}
# Of keys that a config may lack.
DEFAULTS = {
    "pad_id": 0,
    "num_token_types": 2,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation": "gelu",
    "epsilon": 1e-12,
}
# What must be so in a config, where it is said.
FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
CLASSIFIER, TAGGER = "ForSequenceClassification", "ForTokenClassification"
ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction")
POOLERS = {"bert": "tanh", "distilbert": "relu"}
STEMS = {"bert": "Bert", "distilbert": "DistilBert"}

# The tables of names, first what is equal in both.
EMBEDDINGS = (
    ("^token_embedding", "embeddings/word_embeddings"),
    ("^token_type_embedding", "embeddings/token_type_embeddings"),
    ("^positions", "embeddings/position_embeddings"),
    ("^embedding_norm", "embeddings/LayerNorm"),
)
PAIRS = {
    "bert": (
        *EMBEDDINGS,
        ("^encoder/block_", "encoder/layer/"),
        ("self_attention/norm", "attention/output/LayerNorm"),
        ("self_attention/attention/query_key_value_dense", "attention/self/query+key+value"),
        ("self_attention/attention/output_dense", "attention/output/dense"),
        ("feed_forward/norm", "output/LayerNorm"),
        ("feed_forward/feed_forward/inner_dense", "intermediate/dense"),
        ("feed_forward/feed_forward/output_dense", "output/dense"),
        ("^pooler_dense", "pooler/dense"),
        ("^(embeddings|encoder|pooler)", r"bert/\1"),
        ("^head", "classifier"),
    ),
    "distilbert": (
        *EMBEDDINGS,
        ("^encoder/block_", "transformer/layer/"),
        ("self_attention/norm", "sa_layer_norm"),
        ("self_attention/attention/query_key_value_dense", "attention/q_lin+k_lin+v_lin"),
        ("self_attention/attention/output_dense", "attention/out_lin"),
        ("feed_forward/norm", "output_layer_norm"),
        ("feed_forward/feed_forward/inner_dense", "ffn/lin1"),
        ("feed_forward/feed_forward/output_dense", "ffn/lin2"),
        ("^(embeddings|transformer)", r"distilbert/\1"),
        ("^pooler_dense", "pre_classifier"),
        ("^head", "classifier"),
    ),
}
INNER = {"bert": "intermediate.dense.weight", "distilbert": "ffn.lin1.weight"}
UNUSED = (
    "position_ids$",
    "(^|[.])pooler[.]",  # Where something else makes the vector of a sentence.
    "^cls[.]",
    "^vocab_(transform|layer_norm|projector)[.]",
)
# Of files that older versions wrote.
ALIASES = (("LayerNorm[.]gamma$", "LayerNorm.weight"), ("LayerNorm[.]beta$", "LayerNorm.bias"))


def arguments_of(
    folder: Path, config: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Returns the arguments of a model that its folder says, and not its config.

    Args:
        folder: path.
        config: dict, the content of its `config.json`.
        shapes: dict of the shapes of its tensors by name.

    Returns:
        Dict of arguments of `BERT`: how a vector is made of a text, as `modules.json` of
        sentence-transformers says; else by the pooler, where there is one.

    Raises:
        ValueError: for modules that a `BERT` lacks.
    """
    if not _is_encoder(config):
        return {}
    has_pooler = config["model_type"] == "bert" and any(
        name.endswith("pooler.dense.weight") for name in shapes
    )
    pooler = {"pool": "class", "pooler_activation": "tanh"} if has_pooler else {}
    return read_modules(folder) or pooler


def make(config: dict[str, Any], **others: Any) -> BERT:
    """Makes the model of a config, built.

    Args:
        config: dict.
        **others: what `arguments_of` returned.

    Returns:
        A `BERT`.

    Raises:
        ValueError: for a config that no `BERT` can be.
    """
    model = BERT(**{**_arguments(config), **others}, name=config["model_type"])
    model.build()
    return model


def names(config: dict[str, Any]) -> Names:
    """Returns the table of the weights of a config.

    Args:
        config: dict.

    Returns:
        `Names`.

    Raises:
        ValueError: for a config that no `BERT` can be.
    """
    kind, sizes = config["model_type"], _arguments(config)
    hidden_dim, last = sizes["hidden_dim"], sizes["num_layers"] - 1
    shapes = {
        "word_embeddings.weight": (sizes["vocabulary_size"], hidden_dim),
        "position_embeddings.weight": (sizes["max_length"], hidden_dim),
        f"layer.{last}.{INNER[kind]}": (sizes["intermediate_dim"], hidden_dim),
    }
    if sizes["num_token_types"]:
        shapes["token_type_embeddings.weight"] = (sizes["num_token_types"], hidden_dim)
    return Names(
        pairs=PAIRS[kind],
        prefix=f"{kind}.",
        unused=UNUSED,
        aliases=ALIASES,
        shapes=shapes,
    )


def config_of(model: BERT) -> dict[str, Any]:
    """Makes the config of a model.

    Args:
        model: `BERT`.

    Returns:
        Dict that JSON can hold.

    Raises:
        ValueError: for a model with an argument that no BERT of transformers has.
    """
    kind = "bert" if model.num_token_types else "distilbert"
    config = {
        "architectures": [STEMS[kind] + _ending(model, kind)],
        "model_type": kind,
        **{theirs: getattr(model, ours) for ours, theirs in KEYS[kind].items()},
    }
    config[KEYS[kind]["activation"]] = name_of_activation(model.activation)
    if model.num_classes:
        config.update(label_keys(unnamed(model.num_classes)))
    others = ()
    if _is_encoder(config):
        others = ("pool", "pooler_activation", "normalize")
    check_text_model(model, BERT(**_arguments(config)), others)
    return config


def write_beside(model: BERT, folder: Path) -> None:
    """Writes how the vector of a sentence is made, as sentence-transformers reads it.

    Args:
        model: `BERT`. Nothing is written of one that makes no such vectors, or by its pooler.
        folder: path that exists.
    """
    if model.pool and not model.pooler_activation and not model.num_classes:
        write_modules(folder, model.pool, model.normalize, model.hidden_dim, model.max_length)


def _ending(model, kind):
    """Returns what the name of the class in transformers ends with."""
    if model.num_classes and model.pool is None:
        return TAGGER
    has_pooler = model.pool == "class" and model.pooler_activation == POOLERS[kind]
    if model.num_classes and has_pooler:
        return CLASSIFIER
    is_vector = has_pooler and kind == "bert" and not model.normalize
    if model.num_classes or (model.pooler_activation and not is_vector):
        raise ValueError(
            f"No {STEMS[kind]} of transformers has pool={model.pool!r} with "
            f"pooler_activation={model.pooler_activation!r}, normalize={model.normalize} and "
            f"num_classes={model.num_classes}."
        )
    return "Model"


def _is_encoder(config):
    return _architecture(config) in ENCODERS


def _architecture(config):
    return architecture_of(config, STEMS[config["model_type"]], (*ENCODERS, CLASSIFIER, TAGGER))


def _arguments(config):
    """Returns the arguments of the `BERT` of a config."""
    kind, architecture = config["model_type"], _architecture(config)
    check_fixed(config, FIXED)
    arguments = {"num_token_types": None, "epsilon": DEFAULTS["epsilon"]}
    arguments |= read_arguments(config, KEYS[kind], DEFAULTS)
    arguments["activation"] = activation_of(arguments["activation"])
    arguments["pad_id"] = arguments["pad_id"] or 0  # It may be null.
    if architecture in (CLASSIFIER, TAGGER):
        arguments["num_classes"] = len(config.get("id2label", (0, 1)))
    if architecture == CLASSIFIER:
        arguments.update(pool="class", pooler_activation=POOLERS[kind])
    return arguments
