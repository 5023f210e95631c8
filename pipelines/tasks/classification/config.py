"""What a classification config holds, and what is refused."""

import copy
import dataclasses
import math
from typing import Any

import ml_collections

from kerasformer.layers.embeddings.patches import pair
from kerasformer.models.vit_variants import VARIANTS
from pipelines.images.augmentation import Recipe
from pipelines.images.files import MAX_PIXELS
from pipelines.images.labelled import KEYS
from pipelines.runs.config import check_choices, check_keys, check_ranges
from pipelines.training import settings

METRICS: tuple[str, ...] = ("loss", "top1", "top5")
PREPARED: tuple[str, ...] = ("images.json",)
FIXED_KEYS: tuple[str, ...] = ("data", "model", "start", "teacher")
FREE_KEYS: tuple[str, ...] = ("data.test", "serve")
LOCAL_KEYS: tuple[str, ...] = (
    "data.folder",
    "data.data_dir",
    "data.download",
    "start.workdir",
)
DEFAULTS: dict[str, Any] = {
    "task": "classification",
    "seed": 1,
    "weights": "last",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "digits",
        "classes": (),  # Names of those to keep; all when it is empty.
        "on_bad_image": "stop",  # Or "skip": it is named, counted and left out.
        "max_pixels": MAX_PIXELS,
    },
    "augment": dataclasses.asdict(Recipe()),
    "model": {"variant": "ViT-Lite-7/4", "image_size": 32},
    "start": {
        "workdir": "",  # A run whose weights this one begins with.
        "freeze": False,  # Whether only the heads are trained (a linear probe).
    },
    "teacher": {
        "model": "",  # A run's folder or a .keras file; the student learns from it too.
        "kind": "hard",  # Or "soft".
        "alpha": 0.5,  # Share of the teacher in the loss.
        "temperature": 1.0,  # Of the soft kind.
    },
    "train": {
        **settings.DEFAULTS,
        "batch_size": 128,
        "learning_rate": 0.001,
        "schedule": "cosine",
        "warmup_steps": 1000,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "best_metric": "top1",
    },
    "serve": {
        "crop": 1.0,  # Share of the shorter side that is looked at.
        "batch_size": 256,  # Of an evaluation.
    },
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    A config file changes what it needs to. `model` holds a variant, an `image_size` and any
    argument of `VisionTransformer`; `data` is what `images.labelled.read_images` reads; `augment`
    the fields of `images.augmentation.Recipe`.
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
    recipe(config)
    check_choices(
        {
            "teacher.kind": (config.teacher.kind, ("hard", "soft")),
            "model.variant": (config.model.variant, VARIANTS),
        }
    )
    ranges = {
        "train.batch_size": (config.train.batch_size, 1, math.inf),
        "serve.batch_size": (config.serve.batch_size, 1, math.inf),
        "serve.crop": (config.serve.crop, 0.1, 1),
        "teacher.alpha": (config.teacher.alpha, 0, 1),
        "teacher.temperature": (config.teacher.temperature, 1e-3, math.inf),
    }
    check_ranges(ranges)
    check_keys(config.data, KEYS)
    if config.start.freeze and not config.start.workdir:
        raise ValueError("Expected a start.workdir with start.freeze=True, received none.")


def recipe(config: ml_collections.ConfigDict) -> Recipe:
    """Returns the augmentation that a config describes.

    Raises:
        ValueError: when it cannot be.
    """
    try:
        return Recipe(**config.augment.to_dict())
    except ValueError as error:
        raise ValueError(f"config.augment is wrong: {error}") from error


def image_size(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Returns the height and width of the model's images."""
    return pair("model.image_size", config.model.image_size)
