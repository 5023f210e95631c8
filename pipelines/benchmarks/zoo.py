"""Families of image models, each trained on CIFAR-10 for the same time, and their scores.

A model gets as many steps as this machine takes in the time, and at most the epochs of the config.
With a part of the images it gets as many steps as with all of them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines.benchmarks.turns import time_in_turn
from pipelines.benchmarks.vision import make_step
from pipelines.configs import cifar10_zoo
from pipelines.images.models import make
from pipelines.training.precision import in_hardware

UNITS = {"parameters": "parameters", "speed": "img/s", "steps": "steps", "top1": "share of right"}


def measured(
    families: Sequence[str], minutes: float, percents: Sequence[int], workdir: str
) -> Iterator[dict]:
    """Trains and scores models, and yields records.

    A training that was killed goes on when the same is measured again, and one that has ended is
    only scored.

    Args:
        families: keys of `cifar10_zoo.FAMILIES`.
        minutes: float. The time of a training.
        percents: ints. Percentages of the training images, each a training.
        workdir: path of the folder of the runs.

    Yields:
        Dict of `work`, `peer`, `value` and `unit`.

    Raises:
        ChildProcessError: when a program fails.
        ValueError: for an unknown family.
    """
    configs = {family: cifar10_zoo.get_config(family) for family in families}
    folders = {family: Path(workdir) / f"{family}-{minutes:g}-minutes" for family in families}
    # All speeds are measured one after the other, so that they can be compared.
    plans = {family: kept_plan(folders[family], configs[family], minutes) for family in families}
    for family, planned in plans.items():
        folder = folders[family]
        for percent in percents:
            top1 = train(family, planned["steps"], percent, folder / f"{percent}-percent")
            for key, value in {**planned, "top1": top1}.items():
                work = f"cifar10, {percent} % of the images"
                yield {"work": work, "peer": family, "value": value, "unit": UNITS[key]}


def kept_plan(folder: Path, config: Any, minutes: float) -> dict[str, int]:
    """Reads the plan of a folder, or makes it: a run that has begun keeps its steps."""
    path = folder / "plan.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "plan.json.part"
        part.write_text(json.dumps(plan(config, minutes)))
        part.rename(path)
        keras.backend.clear_session()  # The graph of the step holds its model.
    return json.loads(path.read_text())


def plan(config: Any, minutes: float) -> dict[str, int]:
    """Counts the parameters of a model, measures its speed, and computes its steps.

    Args:
        config: the config, whose `train.steps` are the most.
        minutes: float. The time of the training.

    Returns:
        Dict of `parameters`, `speed` (images a second) and `steps`.
    """
    size, random = config.train.batch_size, np.random.default_rng(0)
    if config.train.precision == "auto":
        config.train.precision = in_hardware()[0]
    model = make(config, num_classes=10)
    model.build((None, 32, 32, 3))
    images, labels = random.random((size, 32, 32, 3), "float32"), random.integers(0, 10, size)
    step = make_step(model, images, labels, is_training=True)
    speed = size / time_in_turn([step], warm_up=2, rounds=9)[0]
    steps = min(config.train.steps, max(1, int(60 * minutes * speed / size)))
    return {"parameters": model.count_params(), "speed": round(speed), "steps": steps}


def train(family: str, steps: int, percent: int, folder: Path) -> float:
    """Trains a model by the program, and returns the share of the test images that are right.

    Raises:
        ChildProcessError: when a program fails.
    """
    keys = {
        "data.train": f"train[:{475 * percent}]",
        "train.steps": steps,
        "train.warmup_steps": "3%",
        "train.validate_every": "10%",
        "train.checkpoint_every": "10%",
    }
    _run(
        "apps.train",
        f"--config=cifar10_zoo:{family}",
        f"--workdir={folder}",
        *(f"--config.{key}={value}" for key, value in keys.items()),
    )
    return json.loads(_run("apps.evaluate", f"--workdir={folder}"))["top1"]


def _run(module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise ChildProcessError(f"{module} {' '.join(arguments)} ended with {done.returncode}.")
    return done.stdout.splitlines()[-1]
