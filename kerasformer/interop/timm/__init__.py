"""Models of timm: their folders in, as `timm.models.push_to_hf_hub` and `save_for_hf` write them.

A family is a module with `PATTERN`, a regular expression of the names of architectures that it
knows, and two functions of a `Source`: `make` makes a built model, and `names` is the table of its
weights. One that has `completed` changes tensors before they are read.
"""

import math
import os

import keras

from kerasformer.interop.description import Description, Preprocessing
from kerasformer.interop.files import Tensors
from kerasformer.interop.names import read_weights
from kerasformer.interop.timm import cait, conv_mixer, gcvit, mlp_mixer, vit
from kerasformer.interop.timm.source import read_source

FAMILIES = (vit, cait, mlp_mixer, conv_mixer, gcvit)
# What timm calls an interpolation, and what `keras.ops.image.resize` does.
INTERPOLATIONS = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos3",
    "random": "bilinear",  # In training; what is evaluated is resized so.
}


def load(folder, config) -> tuple[keras.Model, Description]:
    """Makes a model of a folder that timm wrote.

    Args:
        folder: path.
        config: dict, the content of its `config.json`.

    Returns:
        Tuple of a Keras model with its weights, and its `Description`.

    Raises:
        ImportError: where safetensors is missing.
        ValueError: for an architecture that is not known, a config that no model of ours can be,
            or tensors that do not fit.
    """
    name = str(config.get("architecture")).partition(".")[0]
    family = next((one for one in FAMILIES if one.PATTERN.fullmatch(name)), None)
    if family is None:
        raise ValueError(
            "Expected an architecture of timm that is a ViT, DeiT, CaiT, MLP-Mixer, ResMLP, gMLP, "
            f"ConvMixer or GC ViT as published, received architecture={name!r} in "
            f"{os.fspath(folder)!r}."
        )
    try:
        tensors = Tensors(folder)
        source = read_source(config, tensors.shapes())
        model = family.make(source)
        if hasattr(family, "completed"):
            tensors = family.completed(source, tensors)
        read_weights(model, tensors, family.names(source))
        return model, describe(config, source.image_size)
    except ValueError as error:
        raise ValueError(f"Cannot read {os.fspath(folder)!r}: {error}") from error


def describe(config, image_size) -> Description:
    """Reads preprocessing and labels of a config of timm.

    Args:
        config: dict, its `config.json`.
        image_size: tuple of int, `(height, width)` of the model.

    Returns:
        A `Description`.

    Raises:
        ValueError: for an interpolation that is not known.
    """
    how = config.get("pretrained_cfg") or {}
    interpolation = how.get("interpolation", "bicubic")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"Expected interpolation to be one of {sorted(INTERPOLATIONS)}, received "
            f"interpolation={interpolation!r}."
        )
    resized = math.floor(min(image_size) / how.get("crop_pct", 0.875))
    preprocessing = Preprocessing(
        tuple(image_size),
        tuple(how.get("mean", (0.485, 0.456, 0.406))),
        tuple(how.get("std", (0.229, 0.224, 0.225))),
        INTERPOLATIONS[interpolation],
        None if how.get("crop_mode") == "squash" else resized,
    )
    labels = config.get("label_names") or how.get("label_names")
    if isinstance(labels, dict):
        labels = [labels[key] for key in sorted(labels, key=int)]
    return Description(config, preprocessing, labels)
