"""The keys of `config.train`, and what is refused."""

import math
from collections.abc import Sequence

import tensorflow as tf

from kerasformer import schedules
from pipelines.runs.checkpoints import WEIGHTS
from pipelines.runs.config import check_choices

# The keys of `config.train` that the loop reads, whatever the task.
DEFAULTS = {
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
PERIODS = ("log_every", "validate_every", "checkpoint_every")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SCHEDULES = {
    "constant": lambda train: train.learning_rate,
    "inverse_square_root": lambda train: schedules.InverseSquareRoot(
        train.learning_rate, train.warmup_steps
    ),
    "linear": lambda train: schedules.WarmUpLinear(
        train.learning_rate, train.steps, train.warmup_steps
    ),
    "cosine": lambda train: schedules.WarmUpCosine(
        train.learning_rate, train.steps, train.warmup_steps
    ),
}


def check(config, strategy: tf.distribute.Strategy, metrics: Sequence[str]) -> None:
    """Refuses a config that contradicts itself, the strategy or the metrics of its task.

    Raises:
        ValueError: naming the first value that cannot be.
    """
    train_config = config.train
    periods = ("log_every", "validate_every", "checkpoint_every")
    for key in ("steps", "steps_per_call", "accumulate", "keep_checkpoints", *periods):
        if train_config[key] < 1:
            raise ValueError(
                f"Expected train.{key} to be at least 1, received train.{key}={train_config[key]}."
            )
    ranges = {"clip_norm": math.inf, "patience": math.inf, "ema": 1.0, "label_smoothing": 1.0}
    ranges |= {"weight_decay": math.inf, "beta_1": 1.0, "beta_2": 1.0}
    for key, end in ranges.items():
        if not 0 <= train_config[key] < end:
            raise ValueError(
                f"Expected 0 <= train.{key} < {end}, received train.{key}={train_config[key]}."
            )
    if not 0 < train_config.layer_decay <= 1:
        raise ValueError(
            "Expected 0 < train.layer_decay <= 1, received "
            f"train.layer_decay={train_config.layer_decay}."
        )
    choices = {
        "weights": (config.weights, WEIGHTS),
        "train.best_metric": (train_config.best_metric, metrics),
        "train.precision": (train_config.precision, PRECISIONS),
        "train.schedule": (train_config.schedule, SCHEDULES),
    }
    check_choices(choices)
    SCHEDULES[train_config.schedule](train_config)  # Checks its arguments.
    if train_config.jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Expected train.jit_compile=False with several replicas, received "
            f"train.jit_compile=True with {strategy.num_replicas_in_sync}."
        )
