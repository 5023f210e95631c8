"""The models that a classification config may name. Nothing else in the task knows their names."""

from collections.abc import Collection
from typing import Any, NamedTuple

import ml_collections

from kerasformer.models import (
    GMLP,
    CaiT,
    ConvMixer,
    ConvolutionalNetwork,
    GCViT,
    MLPMixer,
    PerformerViT,
    VisionTransformer,
)
from kerasformer.models.applications import KerasApplication

# Arguments of a Transformer that configs hold whatever their model: see `Family.unread`.
OF_ATTENTION = ("num_heads", "attention_dropout")
OF_BLOCKS = (*OF_ATTENTION, "intermediate_dim", "stochastic_depth")
OF_SIZES = (*OF_BLOCKS, "num_layers", "hidden_dim")


class Family(NamedTuple):
    """A family of models.

    Attributes:
        model: what has `VARIANTS` and `from_variant(variant, image_size, num_classes,
            **overrides)`, which makes a Keras model that is built for images, answers with logits,
            has `features(images)` and a layer `head`. A model whose `has_attention_scores` is true
            has `encode` and `pooling` as `VisionTransformer`.
        small: the variant that suits pictures of about 32 x 32 pixels.
        large: the variant that suits those of 224 x 224 pixels.
        unread: arguments of `VisionTransformer` that configs often hold and that say nothing to
            this family, so that one config serves several families. All others are refused.
    """

    model: Any
    small: str
    large: str
    unread: Collection[str] = ()


MODELS = {
    "vit": Family(VisionTransformer, "CCT-4/3x3", "CCT-4/7x2"),
    "cait": Family(CaiT, "Lite-4/4", "Lite-4/16"),
    "performer": Family(PerformerViT, "Lite-4/4", "Lite-4/16"),
    "gcvit": Family(GCViT, "Lite", "xx-tiny", ("intermediate_dim",)),
    "mixer": Family(MLPMixer, "Lite-4/4", "Lite-4/16", OF_ATTENTION),
    "gmlp": Family(GMLP, "Lite-4/4", "Lite-4/16", OF_ATTENTION),
    "conv_mixer": Family(ConvMixer, "Lite-4/2", "Lite-4/14", OF_BLOCKS),
    "convolutional": Family(ConvolutionalNetwork, "ResNet-20", "ResNet-20", OF_SIZES),
    "keras": Family(KerasApplication, "MobileNetV2", "MobileNetV2", OF_SIZES),
}


def family(config: ml_collections.ConfigDict) -> Family:
    """Returns the family that a config names.

    Raises:
        ValueError: for an unknown name.
    """
    name = config.model.name
    if name not in MODELS:
        raise ValueError(
            f"Expected model.name to be one of {', '.join(MODELS)}, received model.name={name!r}."
        )
    return MODELS[name]


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses an unknown name, and a variant or weights that the named family does not have.

    Raises:
        ValueError: naming it.
    """
    variants = family(config).model.VARIANTS
    if config.model.variant not in variants:
        raise ValueError(
            f"Expected model.variant to be one of {', '.join(variants)} with "
            f"model.name={config.model.name!r}, received model.variant={config.model.variant!r}."
        )
    weights = config.model.get("weights")
    if weights and not hasattr(family(config).model, "load_published"):
        raise ValueError(
            f"Expected no model.weights with model.name={config.model.name!r}, of which there are "
            f"no published ones, received model.weights={weights!r}."
        )


def left_out(config: ml_collections.ConfigDict) -> list[str]:
    """Lists the keys of `config.model` that say nothing to the named family."""
    return [key for key in config.model if key in family(config).unread]


def make(config: ml_collections.ConfigDict, num_classes: int):
    """Makes the model that a config describes, unbuilt, with fresh weights.

    Args:
        config: the resolved config; `model` holds `name`, `variant`, `image_size` and any argument
            of the named model, and `train.precision` is its dtype policy.
        num_classes: int. Number of classes.

    Returns:
        A Keras model, called as its family is.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    # A run that has begun has weights of its own; `objective.begin` loads the published ones.
    unread = ("weights", *left_out(config))
    arguments = {k: v for k, v in config.model.items() if k not in unread}
    name, variant, image_size = (arguments.pop(key) for key in ("name", "variant", "image_size"))
    try:
        return family(config).model.from_variant(
            variant, image_size, num_classes, name=name, dtype=config.train.precision, **arguments
        )
    except TypeError as error:
        raise ValueError(f"config.model={config.model.to_dict()} is wrong: {error}.") from error
