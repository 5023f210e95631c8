"""What a config of self-distillation holds, and what is refused."""

import copy
import dataclasses
import math
from typing import Any

import ml_collections

from pipelines.images import models
from pipelines.images.files import MAX_PIXELS
from pipelines.images.labelled import IMAGE_KEYS
from pipelines.images.views import MultiCrop, read_multi_crop
from pipelines.runs.config import check_keys, check_ranges
from pipelines.training import settings

KNN = "knn_top1"  # Of classes, which only some data have.
METRICS: tuple[str, ...] = ("loss", KNN)
PREPARED: tuple[str, ...] = ("images.json",)
FIXED_KEYS: tuple[str, ...] = ("data", "model", "head")
FREE_KEYS: tuple[str, ...] = ("data.test", "neighbours", "serve")
LOCAL_KEYS: tuple[str, ...] = ("data.folder", "data.data_dir", "data.download")
DEFAULTS: dict[str, Any] = {
    "task": "self_distillation",
    "seed": 1,
    "weights": "last",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "digits",
        "classes": (),  # Names of those to keep; all when it is empty.
        "labels": "one",  # Classes are for scores alone. "none" reads images that have none.
        "on_bad_image": "stop",  # Or "skip": it is named, counted and left out.
        "max_pixels": MAX_PIXELS,
    },
    "views": dataclasses.asdict(MultiCrop()),
    "model": {
        "name": "vit",
        "variant": "S/16",
        "image_size": 224,
        "stochastic_depth": 0.1,  # Of the student alone.
    },
    "head": {  # Arguments of `ProjectionHead`.
        "output_dim": 65_536,
        "intermediate_dim": 2048,
        "bottleneck_dim": 256,
        "num_layers": 3,
    },
    "teacher": {
        "momentum": 0.996,  # It rises to 1 along half a cosine.
        "warmup_temperature": 0.04,  # It rises to `temperature`.
        "temperature": 0.07,
        "warmup_epochs": 30.0,
        "center_momentum": 0.9,
    },
    "student": {
        "temperature": 0.1,
        "frozen_epochs": 1.0,  # In which the last layer of the head does not learn.
    },
    "train": {
        **settings.DEFAULTS,
        "batch_size": 256,
        "learning_rate": 0.0005,  # Of the paper, for each 256 images of a batch.
        "schedule": "cosine",
        "warmup_steps": "10%",
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.04,
        "weight_decay_end": 0.4,
        "clip_norm": 3.0,
        "best_metric": "loss",  # Or "knn_top1", where the images have classes.
    },
    "neighbours": {
        "count": 20,
        "temperature": 0.07,  # Of their votes.
    },
    "serve": {
        "crop": 1.0,  # Share of the shorter side that is looked at.
        "batch_size": 256,  # Of an evaluation.
    },
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    `model` describes the encoder in the words of a classification config, so that such a run can
    begin with its weights; `data` is what `images.labelled.read_images` reads, and `views` the
    fields of `images.views.MultiCrop`. The defaults are those of DINO for photographs.
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
    models.check(config)
    read_multi_crop(config)
    teacher, student, head = config.teacher, config.student, config.head
    check_ranges(
        {
            **{f"head.{key}": (head[key], 1, math.inf) for key in head},
            "train.batch_size": (config.train.batch_size, 1, math.inf),
            "neighbours.count": (config.neighbours.count, 1, math.inf),
            "serve.batch_size": (config.serve.batch_size, 1, math.inf),
            "serve.crop": (config.serve.crop, 0.1, 1),
            "teacher.momentum": (teacher.momentum, 0, 1),
            "teacher.center_momentum": (teacher.center_momentum, 0, 1),
            "teacher.warmup_epochs": (teacher.warmup_epochs, 0, math.inf),
            "student.frozen_epochs": (student.frozen_epochs, 0, math.inf),
            **{
                key: (temperature, 1e-3, math.inf)
                for key, temperature in {
                    "teacher.temperature": teacher.temperature,
                    "teacher.warmup_temperature": teacher.warmup_temperature,
                    "student.temperature": student.temperature,
                    "neighbours.temperature": config.neighbours.temperature,
                }.items()
            },
        }
    )
    check_keys(config.data, IMAGE_KEYS)
    if config.train.ema:
        raise ValueError(
            "Expected train.ema=0 with the task self_distillation, whose teacher is the moving "
            f"average, received train.ema={config.train.ema}."
        )
    if config.model.get("weights"):
        raise ValueError(
            "Expected no model.weights with the task self_distillation, which learns from nothing, "
            f"received model.weights={config.model.weights!r}."
        )
    if config.train.best_metric == KNN and config.data.labels == "none":
        raise ValueError(
            f'Expected train.best_metric="loss" with data.labels="none", received '
            f"train.best_metric={KNN!r}."
        )
