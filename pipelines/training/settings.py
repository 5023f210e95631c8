"""The keys of `config.train`, their defaults and their ranges."""

import functools
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import ml_collections
import tensorflow as tf

from kerasformer import schedules
from pipelines.runs.checkpoints import WEIGHTS
from pipelines.runs.config import check_choices, check_ranges

# The keys of `config.train` that the loop reads, whatever the task.
DEFAULTS: dict[str, Any] = {
    "steps": None,  # Either the number of steps,
    "epochs": None,  # or how often the training data are read.
    "learning_rate": 0.0007,
    "schedule": "inverse_square_root",
    "warmup_steps": 4000,  # Or a share of the run, such as "5%"; a tenth where they are too many.
    "optimizer": "adamw",  # Or "sgd", whose momentum is beta_1.
    "beta_1": 0.9,
    "beta_2": 0.98,
    "epsilon": 1e-9,
    "weight_decay": 0.0,  # Of matrices alone, decoupled (AdamW).
    "weight_decay_end": None,  # What it becomes along half a cosine; None leaves it as it is.
    "layer_decay": 1.0,  # Factor of the learning rate from each block to the one below.
    "clip_norm": 1.0,  # 0 turns clipping off.
    "precision": "float32",  # "auto" is the fastest that the processor or GPU multiplies itself.
    "jit_compile": False,
    "accumulate": 1,  # Batches whose gradients are summed for a step.
    "remat": False,  # Compute each block again for its gradient, to save memory.
    "ema": 0.0,  # Momentum of the moving average of the weights; 0 turns it off.
    "steps_per_call": 10,
    "log_every": 50,
    "validate_every": 500,  # This and the two beside it are steps, or shares such as "5%".
    "checkpoint_every": 500,
    "keep_checkpoints": 10,
    "best_metric": "loss",  # One of METRICS of the task.
    "patience": 0,  # Validations without progress before the run stops; 0 is never.
}
# The keys, beside those of the task, that a run never changes.
FIXED_KEYS = ("task", "seed", "train.ema", "train.optimizer", "train.precision")
# Those that may change at any time, because they change no weights.
FREE_KEYS = (
    "weights",
    "train.steps_per_call",
    "train.log_every",
    "train.validate_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.best_metric",
    "train.patience",
)
# Of these two keys one has a value.
EITHER = {"train.steps": "train.epochs", "train.epochs": "train.steps"}
OPTIMIZERS = ("adamw", "sgd")
PERIODS = ("log_every", "validate_every", "checkpoint_every")
SHARES = ("warmup_steps", *PERIODS)  # They may be shares of the run.
NOT_NEGATIVE = ("warmup_steps", "clip_norm", "patience", "weight_decay", "weight_decay_end")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


# The schedules of the learning rate, of a `config.train` that is `in_steps`.
SCHEDULES: dict[str, Callable[[ml_collections.ConfigDict], Any]] = {
    "constant": lambda train: train.learning_rate,
    "inverse_square_root": lambda train: schedules.InverseSquareRoot(
        train.learning_rate, max(1, train.warmup_steps)
    ),
    "linear": lambda train: schedules.WarmUpLinear(
        train.learning_rate, train.steps, train.warmup_steps
    ),
    "cosine": lambda train: schedules.WarmUpCosine(
        train.learning_rate, train.steps, train.warmup_steps
    ),
}


def weight_decay(train: ml_collections.ConfigDict) -> float | Callable[[Any], Any]:
    """Returns the weight decay of a `config.train` that is `in_steps`, or its schedule."""
    if train.weight_decay_end is None:
        return train.weight_decay
    ends = {"start": train.weight_decay, "end": train.weight_decay_end}
    return functools.partial(schedules.half_cosine, **ends, total_steps=train.steps)


def in_steps(
    config: ml_collections.ConfigDict, batches_per_epoch: float
) -> ml_collections.ConfigDict:
    """Returns a config whose epochs, shares and too long warm-up are steps.

    Steps that were given are epochs there too, so that a task can say how long an epoch is.

    Args:
        config: a config that `check` accepts.
        batches_per_epoch: float.

    Example:

    >>> train = ml_collections.ConfigDict({**DEFAULTS, "epochs": 3, "warmup_steps": "5%"})
    >>> train = in_steps(ml_collections.ConfigDict({"train": train}), 200.0).train
    >>> train.steps, train.warmup_steps, train.validate_every
    (600, 30, 500)
    """
    config = config.copy_and_resolve_references()
    train = config.train
    if train.epochs is not None:
        train.steps = max(1, round(train.epochs * batches_per_epoch / train.accumulate))
    else:
        train.epochs = train.steps * train.accumulate / batches_per_epoch
    for key in SHARES:
        share = _share(train[key])
        if share is not None:
            train[key] = max(int(key in PERIODS), round(share * train.steps))
    if train.warmup_steps >= train.steps:
        train.warmup_steps = train.steps // 10
    return config


def _share(value: int | str) -> float | None:
    """Reads a share such as "5%", or returns `None` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value) if isinstance(value, str) else None
    return float(match[1]) / 100 if match and 0 <= float(match[1]) <= 100 else None


def check(
    config: ml_collections.ConfigDict, strategy: tf.distribute.Strategy, metrics: Collection[str]
) -> None:
    """Refuses a config that contradicts itself, the strategy or the metrics of its task.

    Raises:
        ValueError: naming the first value that cannot be.
    """
    train = config.train
    _check_length(train)
    counts = ("steps_per_call", "accumulate", "keep_checkpoints", *PERIODS)
    least = dict.fromkeys(counts, 1) | dict.fromkeys(NOT_NEGATIVE, 0)
    end = train.weight_decay_end
    if end is not None and (isinstance(end, bool) or not isinstance(end, int | float)):
        raise ValueError(
            "Expected train.weight_decay_end to be a number or None, received "
            f"train.weight_decay_end={end!r}."
        )
    numbers = {key: train[key] for key in least if not isinstance(train[key], str | None)}
    check_ranges({f"train.{key}": (numbers[key], least[key], math.inf) for key in numbers})
    # Not every task smooths labels.
    shares = [key for key in ("ema", "beta_1", "beta_2", "label_smoothing") if key in train]
    check_ranges({f"train.{key}": (train[key], 0, 1) for key in shares}, includes_end=False)
    check_ranges({"train.layer_decay": (train.layer_decay, 1e-6, 1)})
    choices = {
        "weights": (config.weights, WEIGHTS),
        "train.best_metric": (train.best_metric, metrics),
        "train.optimizer": (train.optimizer, OPTIMIZERS),
        "train.precision": (train.precision, (*PRECISIONS, "auto")),
        "train.schedule": (train.schedule, SCHEDULES),
    }
    check_choices(choices)
    SCHEDULES[train.schedule](in_steps(config, 1000.0).train)  # Checks its arguments.
    if train.jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Expected train.jit_compile=False with several replicas, received "
            f"train.jit_compile=True with {strategy.num_replicas_in_sync}."
        )


def _check_length(train: ml_collections.ConfigDict) -> None:
    """Refuses a run without a length, or with two, and shares that are none."""
    lengths = {key: train[key] for key in ("steps", "epochs") if train[key] is not None}
    if len(lengths) != 1:
        raise ValueError(
            "Expected either train.steps or train.epochs, received "
            f"train.steps={train.steps!r} and train.epochs={train.epochs!r}."
        )
    for key, value in lengths.items():
        kinds, what = (int, "a whole number") if key == "steps" else (int | float, "a number")
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"Expected train.{key} to be {what}, received train.{key}={value!r}.")
        least = 1 if key == "steps" else 1e-6
        check_ranges({f"train.{key}": (value, least, math.inf)})
    for key in SHARES:
        if isinstance(train[key], str) and _share(train[key]) is None:
            raise ValueError(
                f'Expected train.{key} to be steps or a share such as "5%", '
                f"received train.{key}={train[key]!r}."
            )
