"""The keys of `config.train`, their defaults and their ranges."""

import math
from collections.abc import Callable, Collection
from typing import Any

import ml_collections
import tensorflow as tf

from kerasformer import schedules
from pipelines.runs.checkpoints import WEIGHTS
from pipelines.runs.config import check_choices, check_ranges

# The keys of `config.train` that the loop reads, whatever the task.
DEFAULTS: dict[str, Any] = {
    "steps": 100_000,
    "learning_rate": 0.0007,
    "schedule": "inverse_square_root",
    "warmup_steps": 4000,
    "beta_1": 0.9,
    "beta_2": 0.98,
    "epsilon": 1e-9,
    "weight_decay": 0.0,  # Of matrices alone, decoupled (AdamW).
    "layer_decay": 1.0,  # Factor of the learning rate from each block to the one below.
    "clip_norm": 1.0,  # 0 turns clipping off.
    "precision": "float32",
    "jit_compile": False,
    "accumulate": 1,  # Batches whose gradients are summed for a step.
    "remat": False,  # Compute each block again for its gradient, to save memory.
    "ema": 0.0,  # Momentum of the moving average of the weights; 0 turns it off.
    "steps_per_call": 10,
    "log_every": 50,
    "validate_every": 500,
    "checkpoint_every": 500,
    "keep_checkpoints": 10,
    "best_metric": "loss",  # One of METRICS of the task.
    "patience": 0,  # Validations without progress before the run stops; 0 is never.
}
# The keys, beside those of the task, that a run never changes.
FIXED_KEYS = ("task", "seed", "train.ema", "train.precision")
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
PERIODS = ("log_every", "validate_every", "checkpoint_every")
NOT_NEGATIVE = ("warmup_steps", "clip_norm", "patience", "weight_decay")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def warmup_steps(train: ml_collections.ConfigDict) -> int:
    """Returns the steps of the warm-up: a tenth of a run that would end before its warm-up does."""
    return train.steps // 10 if train.warmup_steps >= train.steps else train.warmup_steps


SCHEDULES: dict[str, Callable[[ml_collections.ConfigDict], Any]] = {
    "constant": lambda train: train.learning_rate,
    "inverse_square_root": lambda train: schedules.InverseSquareRoot(
        train.learning_rate, max(1, warmup_steps(train))
    ),
    "linear": lambda train: schedules.WarmUpLinear(
        train.learning_rate, train.steps, warmup_steps(train)
    ),
    "cosine": lambda train: schedules.WarmUpCosine(
        train.learning_rate, train.steps, warmup_steps(train)
    ),
}


def check(
    config: ml_collections.ConfigDict, strategy: tf.distribute.Strategy, metrics: Collection[str]
) -> None:
    """Refuses a config that contradicts itself, the strategy or the metrics of its task.

    Raises:
        ValueError: naming the first value that cannot be.
    """
    train = config.train
    counts = ("steps", "steps_per_call", "accumulate", "keep_checkpoints", *PERIODS)
    least = dict.fromkeys(counts, 1) | dict.fromkeys(NOT_NEGATIVE, 0)
    check_ranges({f"train.{key}": (train[key], least[key], math.inf) for key in least})
    # Not every task smooths labels.
    shares = [key for key in ("ema", "beta_1", "beta_2", "label_smoothing") if key in train]
    check_ranges({f"train.{key}": (train[key], 0, 1) for key in shares}, includes_end=False)
    check_ranges({"train.layer_decay": (train.layer_decay, 1e-6, 1)})
    choices = {
        "weights": (config.weights, WEIGHTS),
        "train.best_metric": (train.best_metric, metrics),
        "train.precision": (train.precision, PRECISIONS),
        "train.schedule": (train.schedule, SCHEDULES),
    }
    check_choices(choices)
    SCHEDULES[train.schedule](train)  # Checks its arguments.
    if train.jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Expected train.jit_compile=False with several replicas, received "
            f"train.jit_compile=True with {strategy.num_replicas_in_sync}."
        )
