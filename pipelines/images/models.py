"""The families of image models that a config may name. Nothing else in the pipelines knows them."""

import keras
import ml_collections

from kerasformer.layers.sizes import pair
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
from pipelines.images import pretrained
from pipelines.runs.families import Families, Family

# Arguments of a Transformer that configs hold whatever their model.
OF_ATTENTION = ("num_heads", "attention_dropout")
OF_BLOCKS = (*OF_ATTENTION, "intermediate_dim", "stochastic_depth")
OF_SIZES = (*OF_BLOCKS, "num_layers", "hidden_dim")

SMALL_SIDE = 48  # pixels; of pictures up to this side the model sees every pixel


# A model answers images with logits, and has `features(images)` and a layer `head`. One whose
# `has_attention_scores` is true has `encode` and `pooling` as `VisionTransformer`. The small
# variants suit pictures of about 32 x 32 pixels, the large ones those of 224 x 224.
MODELS = Families(
    vit=Family(VisionTransformer, "CCT-4/3x3", "CCT-4/7x2"),
    cait=Family(CaiT, "Lite-4/4", "Lite-4/16"),
    performer=Family(PerformerViT, "Lite-4/4", "Lite-4/16"),
    gcvit=Family(GCViT, "Lite", "xx-tiny", ("intermediate_dim",)),
    mixer=Family(MLPMixer, "Lite-4/4", "Lite-4/16", OF_ATTENTION),
    gmlp=Family(GMLP, "Lite-4/4", "Lite-4/16", OF_ATTENTION),
    conv_mixer=Family(ConvMixer, "Lite-4/2", "Lite-4/14", OF_BLOCKS),
    convolutional=Family(ConvolutionalNetwork, "ResNet-20", "ResNet-20", OF_SIZES),
    keras=Family(KerasApplication, "MobileNetV2", "MobileNetV2", OF_SIZES),
    # Whose arguments are those of `start.weights`, where a run begins with them.
    pretrained=Family(pretrained.Pretrained, "VisionTransformer", "VisionTransformer"),
)


def settle(config: ml_collections.ConfigDict) -> list[str]:
    """Fits a config to the family that it names: a `Task.settle` of images."""
    if config.get("start", {}).get("weights"):
        pretrained.leave_to_source(config)
        return []
    size = config.model.image_size
    is_small = isinstance(size, str) or max(image_size(config)) <= SMALL_SIDE
    return MODELS.settle(config, is_small)


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses an unknown name, and a variant or weights that the named family does not have.

    Raises:
        ValueError: naming it.
    """
    MODELS.check_variant(config)
    weights = config.model.get("weights")
    if weights and not hasattr(MODELS.of(config).model, "load_published"):
        raise ValueError(
            f"Expected no model.weights with model.name={config.model.name!r}, of which there are "
            f"no published ones, received model.weights={weights!r}."
        )


def image_size(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Returns the height and width of the model's images."""
    return pair("model.image_size", config.model.image_size)


def make(config: ml_collections.ConfigDict, num_classes: int | None = None) -> keras.Model:
    """Makes the model that a config describes, unbuilt, with fresh weights.

    Args:
        config: the resolved config.
        num_classes: int, or `None` for a model without a head.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    # A run that has begun has weights of its own; `begin` of a task loads the published ones.
    return MODELS.make(config, without=["weights"], num_classes=num_classes)
