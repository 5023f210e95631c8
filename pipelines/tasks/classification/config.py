"""What a classification config holds, and what is refused."""

import copy
import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import ml_collections

from pipelines.images import models
from pipelines.images.augmentation import BICUBIC, INTERPOLATIONS, Recipe, read_recipe
from pipelines.images.files import MAX_PIXELS
from pipelines.images.labelled import IMAGE_KEYS
from pipelines.images.run_images import check_batches
from pipelines.runs.choice import AUTO
from pipelines.runs.config import check_choices, check_keys, check_ranges
from pipelines.training import settings

MEAN_PRECISION = "mean_average_precision"  # Of several labels alone.
OF_PIXELS = {"mean", "deviation", "interpolation"}
METRICS: tuple[str, ...] = ("loss", "top1", "top5", MEAN_PRECISION)
PREPARED: tuple[str, ...] = ("images.json",)
FIXED_KEYS: tuple[str, ...] = ("data", "model", "start", "teacher")
FREE_KEYS: tuple[str, ...] = ("data.test", "serve")
LOCAL_KEYS: tuple[str, ...] = (
    "data.folder",
    "data.data_dir",
    "data.download",
    "start.workdir",
    "start.weights",
)
DEFAULTS: dict[str, Any] = {
    "task": "classification",
    "seed": 1,
    "weights": "last",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "digits",
        "classes": (),  # Names of those to keep; all when it is empty.
        "labels": "one",  # Or "multi": an image may have any number of them, in a table.
        "class_weights": None,  # Of the loss: "balanced", or a number for each class.
        "sampling": "all",  # Of an epoch; or "balanced", each class equally often.
        "on_bad_image": "stop",  # Or "skip": it is named, counted and left out.
        "max_pixels": MAX_PIXELS,
        "mean": None,  # Of the levels of each channel, to normalise by; the training images' own.
        "deviation": None,
        "interpolation": BICUBIC,  # How images are resized.
    },
    "augment": dataclasses.asdict(Recipe()),
    "model": {"name": "vit", "variant": "ViT-Lite-7/4", "image_size": 32},
    "start": {
        "workdir": "",  # A run whose weights this one begins with.
        "weights": "",  # Or weights of another library: a folder, hf://owner/name, timm://name.
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
        "best_metric": "top1",  # Or "loss", "top5", or the "mean_average_precision" of "multi".
    },
    "serve": {
        "crop": 1.0,  # Share of the shorter side that is looked at.
        "batch_size": 256,  # Of an evaluation.
    },
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    A config file changes what it needs to. `model` holds the `name` of a family of `images.models`,
    a `variant` of it, an `image_size` and any argument of its models; `data` is what
    `images.labelled.read_images` reads; `augment` the fields of `images.augmentation.Recipe`.
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
    check_numbers(config)
    read_recipe(config)
    check_choices(
        {
            "data.labels": (config.data.labels, ("one", "multi")),
            "data.sampling": (config.data.sampling, ("all", "balanced")),
            "teacher.kind": (config.teacher.kind, ("hard", "soft")),
            "data.interpolation": (config.data.interpolation, INTERPOLATIONS),
        }
    )
    models.check(config)
    starts = {
        "model.weights": config.model.get("weights"),
        "start.workdir": config.start.workdir,
        "start.weights": config.start.weights,
    }
    given = {key: value for key, value in starts.items() if value}
    if len(given) > 1:
        raise ValueError(
            f"Expected either {' or '.join(given)}, received "
            f"{' and '.join(f'{key}={value!r}' for key, value in given.items())}."
        )
    check_batches(config)
    ranges = {
        "teacher.alpha": (config.teacher.alpha, 0, 1),
        "teacher.temperature": (config.teacher.temperature, 1e-3, math.inf),
    }
    check_ranges(ranges)
    check_keys(config.data, IMAGE_KEYS | OF_PIXELS)
    _check_several(config)
    if config.start.freeze and not (config.start.workdir or config.start.weights):
        raise ValueError(
            "Expected a start.workdir or start.weights with start.freeze=True, received neither."
        )


def check_numbers(config: ml_collections.ConfigDict) -> None:
    """Refuses lengths and batches with which nobody can calculate.

    Args:
        config: the config, in which `train.batch_size` and `train.epochs` may still be `"auto"`.

    Raises:
        ValueError: naming the first of them.
    """
    kinds: dict[str, tuple[type, str, tuple]] = {
        "batch_size": (numbers.Integral, "a positive whole number", (AUTO,)),
        "epochs": (numbers.Real, "a positive number", (AUTO, None)),
        "steps": (numbers.Integral, "a positive whole number", (None,)),
    }
    for key, (kind, what, others) in kinds.items():
        value = config.train[key]
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if not (is_number and 0 < value < math.inf) and value not in others:
            raise ValueError(f"Expected train.{key} to be {what}, received train.{key}={value!r}.")


def _check_several(config):
    """Refuses what presumes that an image has one label, where it may have several; and back."""
    if config.train.best_metric == MEAN_PRECISION and config.data.labels != "multi":
        raise ValueError(
            f'Expected data.labels="multi" with train.best_metric="{MEAN_PRECISION}", '
            f"received data.labels={config.data.labels!r}."
        )
    chosen = {
        "teacher.model": config.teacher.model,
        "data.class_weights": config.data.class_weights,
        "data.sampling": config.data.sampling != "all" and config.data.sampling,
    }
    for key, value in chosen.items():
        if config.data.labels == "multi" and value:
            raise ValueError(
                f'Expected no {key} with data.labels="multi", received {key}={value!r}.'
            )


def class_weights(config: ml_collections.ConfigDict, counts: Sequence[int]) -> list[float] | None:
    """Returns the weight of each class in the loss, or `None` where all are equal.

    Args:
        config: the resolved config; `data.class_weights` is `None`, numbers, a text of them
            (`"1,2.5"`), or `"balanced"`: all classes weigh alike, and the mean of the images is 1.
        counts: int for each class, its number of training images.

    Raises:
        ValueError: for something else.
    """
    value = config.data.class_weights
    if value is None or value == "":
        return None
    if value == "balanced":
        present = [count for count in counts if count]
        return [sum(counts) / (len(present) * count) if count else 0.0 for count in counts]
    try:
        weights = [float(x) for x in (value.split(",") if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        weights = []
    if len(weights) != len(counts) or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(
            f'Expected data.class_weights to be "balanced" or a number for each of the '
            f"{len(counts)} classes, received data.class_weights={value!r}."
        )
    return weights
