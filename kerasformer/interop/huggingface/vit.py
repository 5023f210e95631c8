"""ViT and DeiT of transformers."""

from typing import Any

from kerasformer.interop.description import label_keys, unnamed
from kerasformer.interop.huggingface.arguments import (
    activation_of,
    check_arguments,
    name_of_activation,
)
from kerasformer.interop.names import Names
from kerasformer.layers.sizes import pair
from kerasformer.models import VisionTransformer

TYPES = ("vit", "deit")
MODEL = VisionTransformer

# Arguments that change nothing once a model is trained.
TRAINING = ("name", "trainable", "dtype", "stochastic_depth", "num_classes")


def make(config: dict[str, Any]) -> VisionTransformer:
    """Makes the model of a config, built.

    Raises:
        ValueError: for a config that no `VisionTransformer` can be.
    """
    model = VisionTransformer(**_arguments(config), name=config["model_type"])
    model.build((None, *model.image_size, config.get("num_channels", 3)))
    return model


def names(config: dict[str, Any]) -> Names:
    """Returns the table of the weights of a config."""
    kind, hidden_dim, tokens = config["model_type"], config["hidden_size"], _tokens(config)
    patch_size, (height, width) = config["patch_size"], _image_size(config)
    num_patches = (height // patch_size) * (width // patch_size)
    return Names(
        pairs=(
            ("^patch_embedding/dense", "embeddings/patch_embeddings/projection"),
            ("^prefix_tokens/tokens", f"embeddings/{'+'.join(tokens)}"),
            ("^grid_positions/table", "embeddings/position_embeddings"),
            ("^encoder/block_", "encoder/layer/"),
            ("^encoder/final_norm", "layernorm"),
            ("self_attention/norm", "layernorm_before"),
            (
                "self_attention/attention/query_key_value_dense",
                "attention/attention/query+key+value",
            ),
            ("self_attention/attention/output_dense", "attention/output/dense"),
            ("feed_forward/norm", "layernorm_after"),
            ("feed_forward/feed_forward/inner_dense", "intermediate/dense"),
            ("feed_forward/feed_forward/output_dense", "output/dense"),
            ("^(embeddings|encoder|layernorm)", rf"{kind}/\1"),
            ("^distillation_head", "distillation_classifier"),
            ("^head", "cls_classifier" if _has_teacher(config) else "classifier"),
        ),
        prefix=f"{kind}.",
        unused=("^pooler[.]",),
        shapes={
            **dict.fromkeys(tokens, (1, 1, hidden_dim)),
            "position_embeddings": (1, num_patches + len(tokens), hidden_dim),
            "patch_embeddings.projection.weight": (
                hidden_dim,
                config.get("num_channels", 3),
                patch_size,
                patch_size,
            ),
            f"layer.{config['num_hidden_layers'] - 1}.intermediate.dense.weight": (
                config["intermediate_size"],
                hidden_dim,
            ),
        },
    )


def config_of(model: VisionTransformer) -> dict[str, Any]:
    """Makes the config of a model.

    Raises:
        ValueError: for a model with an argument that no ViT of transformers has.
    """
    kind = "deit" if model.num_prefix_tokens == 2 else "vit"
    architecture = "Model"
    if model.num_classes:
        teacher = "WithTeacher" if model.distillation else ""
        architecture = f"ForImageClassification{teacher}"
    height, width = pair("patch_size", model.patch_size or 1)
    config = {
        "architectures": [{"deit": "DeiT", "vit": "ViT"}[kind] + architecture],
        "model_type": kind,
        "image_size": list(pair("image_size", model.image_size)),
        "patch_size": height,
        "num_channels": 3,
        "num_hidden_layers": model.num_layers,
        "hidden_size": model.hidden_dim,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.intermediate_dim,
        "hidden_act": name_of_activation(model.activation),
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "layer_norm_eps": model.epsilon,
        "qkv_bias": True,
    }
    check_arguments(model, VisionTransformer(**_arguments(config)), TRAINING)
    if model.num_classes:
        config["id2label"] = label_keys(unnamed(model.num_classes))["id2label"]
    config["num_channels"] = model.patch_embedding.dense.kernel.shape[0] // (height * width)
    return config


def _arguments(config):
    """Returns the arguments of the `VisionTransformer` of a config."""
    has_head = not config["architectures"][0].endswith("Model")
    if not config.get("qkv_bias", True):
        raise ValueError("Expected qkv_bias=True, received qkv_bias=False.")
    return {
        "image_size": _image_size(config),
        "num_layers": config["num_hidden_layers"],
        "hidden_dim": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "intermediate_dim": config["intermediate_size"],
        "num_classes": len(config.get("id2label", (0, 1))) if has_head else None,
        "patch_size": config["patch_size"],
        "distillation": _has_teacher(config),
        "num_prefix_tokens": len(_tokens(config)),
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.0),
        "activation": activation_of(config.get("hidden_act", "gelu")),
        "epsilon": config.get("layer_norm_eps", 1e-12),
    }


def _image_size(config):
    return pair("image_size", config["image_size"])


def _tokens(config):
    """Lists the tensors of the tokens before the patches."""
    tokens = ["cls_token", "distillation_token"]
    return tokens if config["model_type"] == "deit" else tokens[:1]


def _has_teacher(config):
    return config["architectures"][0].endswith("WithTeacher")
