"""What a config of masked images holds, and what is refused."""

import copy
import dataclasses
from typing import Any

import ml_collections

from kerasformer.layers.sizes import check_sizes
from pipelines.images.augmentation import Recipe, read_recipe
from pipelines.images.files import MAX_PIXELS
from pipelines.images.labelled import IMAGE_KEYS
from pipelines.runs.config import check_choices, check_keys, check_ranges
from pipelines.tasks.masked_images import models
from pipelines.training import settings

METRICS: tuple[str, ...] = ("loss",)
PREPARED: tuple[str, ...] = ("images.json",)
FIXED_KEYS: tuple[str, ...] = ("data", "model", "decoder", "mask")
FREE_KEYS: tuple[str, ...] = ("data.test", "serve")
LOCAL_KEYS: tuple[str, ...] = ("data.folder", "data.data_dir", "data.download")
DEFAULTS: dict[str, Any] = {
    "task": "masked_images",
    "seed": 1,
    "weights": "last",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "digits",
        "classes": (),  # Names of those to keep; all when it is empty.
        "labels": "none",
        "on_bad_image": "stop",  # Or "skip": it is named, counted and left out.
        "max_pixels": MAX_PIXELS,
    },
    "augment": dataclasses.asdict(Recipe(min_area=0.2, flip=0.5)),
    "model": {  # Of the encoder, as a classification config has it.
        "name": "vit",
        "variant": "ViT-Lite-7/4",
        "image_size": 32,
        "positions": "sinusoidal_mae",
        "attention_dropout": 0.0,
        "stochastic_depth": 0.0,
    },
    "decoder": {"num_layers": 2, "hidden_dim": 128, "num_heads": 4},
    "mask": {
        "ratio": 0.75,  # Share of the patches that is hidden.
        "normalize_targets": True,  # Each patch by its own mean and deviation.
    },
    "train": {
        **settings.DEFAULTS,
        "batch_size": 256,
        "learning_rate": 0.00015,  # Of the paper, for each 256 images of a batch.
        "schedule": "cosine",
        "warmup_steps": 1000,
        "beta_1": 0.9,
        "beta_2": 0.95,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "best_metric": "loss",
    },
    "serve": {
        "crop": 1.0,  # Share of the shorter side that is looked at.
        "batch_size": 256,  # Of an evaluation.
    },
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    `model` describes the encoder in the words of a classification config, so that such a run can
    begin with its weights: `name`, `variant`, `image_size` and any argument of its model. `decoder`
    and `mask` are arguments of `MaskedAutoencoder`; `data` is what `images.labelled.read_images`
    reads, and `augment` the fields of `images.augmentation.Recipe`.
    """
    config = ml_collections.ConfigDict(copy.deepcopy(DEFAULTS), type_safe=False).lock()
    for part in (config.data, config.model):
        part.unlock()  # These take more keys; elsewhere, one that nothing reads is a mistake.
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot be, before anything is read or trained.

    Raises:
        ValueError: naming the first of them.
    """
    sizes = {f"{part}.batch_size": config[part].batch_size for part in ("train", "serve")}
    if None in sizes.values():
        raise ValueError(f"Expected a size of the batches, received {sizes}.")
    check_sizes(**sizes)
    read_recipe(config)
    check_ranges({"serve.crop": (config.serve.crop, 0.1, 1)})
    check_keys(config.data, IMAGE_KEYS - {"class_weights", "sampling"})
    check_choices({"data.labels": (config.data.labels, ("none",))})
    models.check(config)
