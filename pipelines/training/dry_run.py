"""What a run would be: its parameters, its memory and time, and the first batch that it sees."""

import contextlib
import math
import tempfile
import time

import keras
import ml_collections
import tensorflow as tf

from pipelines.distribution.workers import Workers
from pipelines.runs.folder import locked
from pipelines.training.preparation import check, choose, prepare
from pipelines.training.progress import peak_memory
from pipelines.training.task import Task
from pipelines.training.trainer import Trainer

STEPS = 5  # Steps that are timed, after one in which the graph is made.


def dry_run(
    task: Task,
    config: ml_collections.ConfigDict,
    workdir: str,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Prints what a run would be, from a few steps of it, and writes nothing but a picture.

    Args:
        task: `Task`.
        config: the resolved config.
        workdir: folder for the picture of the first batches, `first_batch.png`, where they are of
            images.
        strategy: as in `training.loop.train`.

    Raises:
        ValueError: for a config that contradicts itself, data that cannot be read, or a folder
            in which another process makes a dry run.
    """
    workers = Workers(strategy or tf.distribute.get_strategy())
    config = choose(task, config, workdir, workers)
    check(task, config, workers)
    with contextlib.ExitStack() as stack:
        lock = locked(workdir, ".lock-dry-run", "makes a dry run in", make=True)
        stack.enter_context(lock)
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="kerasformer-dry-run-"))
        trainer, data, _ = prepare(task, config, temporary, workers)
        print(parameter_table(trainer.model))
        batches = data.train(0)
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in next(iter(batches)).items())
        print(f"The first of {data.batches_per_epoch:.4g} batches an epoch: {shapes}")
        print(task.show_batch(batches, config, temporary, f"{workdir}/first_batch.png"))
    sizes = state_sizes(trainer)
    listed = ", ".join(f"{_mebibytes(size)} {name}" for name, size in sizes.items())
    print(f"Memory for the state: {_mebibytes(sum(sizes.values()))} ({listed})", flush=True)
    iterator = iter(data.train(0))
    seconds = [_time_step(trainer, iterator) for _ in range(1 + STEPS)]
    step = sum(seconds[1:]) / STEPS
    steps = trainer.config.train.steps
    minutes, rest = divmod(round(seconds[0] + steps * step), 60)
    print(
        f"Memory of the whole process after {STEPS + 1} steps, at most: "
        f"{_mebibytes(peak_memory())}\n"
        f"Time: {seconds[0]:.1f} s to begin, {step:.3g} s a step; {steps} steps take "
        f"{minutes}:{rest:02d} (minutes:seconds), validation and checkpoints not counted"
    )


def parameter_table(model: keras.Model) -> str:
    """Lists the parameters of each part of a model that are trained and that are not."""
    parts: dict[str, list[int]] = {}
    for variable in model.variables:
        if variable.name != "seed_generator_state":
            part = "/".join(variable.path.split("/")[1:3]) or variable.path
            counts = parts.setdefault(part, [0, 0])
            counts[not variable.trainable] += math.prod(variable.shape)
    parts["in all"] = [sum(counts) for counts in zip(*parts.values(), strict=True)]
    width = max(map(len, parts))
    rows = [f"{'part':{width}} {'parameters':>13} {'not trained':>13}"]
    rows += [
        f"{part:{width}} {trained:>13,} {fixed:>13,}" for part, (trained, fixed) in parts.items()
    ]
    return "\n".join(rows)


def state_sizes(trainer: Trainer) -> dict[str, int]:
    """Counts the bytes of the state of a training and of the gradients of a step."""
    sizes = {
        "weights": trainer.model.variables,
        "gradients": trainer.model.trainable_variables,
        "optimizer": trainer.optimizer.variables,
        "moving average": trainer.ema or [],
    }
    return {
        name: sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)
        for name, variables in sizes.items()
    }


def _time_step(trainer, iterator):
    start = time.perf_counter()
    trainer.steps(iterator, tf.constant(1)).count.numpy()  # Waits for the step.
    return time.perf_counter() - start


def _mebibytes(size):
    return f"{size / 2**20:.1f} MiB"
