"""What comes before the first step: data, model and optimizer, and the state to resume from."""

import json
import sys

import keras
import ml_collections
import numpy as np

from pipelines.distribution.workers import Workers
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.config import (
    complete,
    differences,
    fill_chosen,
    is_among,
    read_config,
    write_config,
)
from pipelines.runs.config_file import check_types
from pipelines.runs.folder import (
    has_begun,
    prepared_hashes,
    read_prepared,
    saved_hashes,
    start,
    write_prepared,
)
from pipelines.training import precision, settings
from pipelines.training.batch_statistics import synchronize
from pipelines.training.rematerialization import rematerialize
from pipelines.training.task import Data, Task
from pipelines.training.trainer import Trainer

SHARED = [f"train.{key}" for key in settings.SHARES]  # They may be text, such as "5%".


def choose(
    task: Task, config: ml_collections.ConfigDict, workdir: str, workers: Workers
) -> ml_collections.ConfigDict:
    """Replaces the values `"auto"` of a config by those of its run, or by what the task chooses.

    Args:
        task: `Task`.
        config: the config, which stays as it is.
        workdir: folder of the run, which need not exist.
        workers: `Workers`. The chief chooses for all.

    Returns:
        The resolved config.

    Raises:
        ValueError: when the task cannot choose.
    """
    config = config.copy_and_resolve_references()
    complete(config, task.default_config(), name="config")
    check_types(config, task.default_config(), SHARED, may_be_auto=True)
    for sentence in task.settle(config):
        if workers.is_chief:
            print(sentence, flush=True)

    def in_chief():
        if has_begun(workdir):
            stored = read_config(workdir)
            if stored.task == config.task:
                complete(stored, task.default_config())
                return stored.to_json()
        chosen = task.resolve(ml_collections.ConfigDict(config.to_dict(), type_safe=False))
        if chosen.train.precision == "auto":
            chosen.train.precision = precision.in_hardware(chosen.train.jit_compile)[0]
        return chosen.to_json()

    chosen = ml_collections.ConfigDict(json.loads(workers.from_chief(in_chief)))
    resolved = fill_chosen(config, chosen)
    if resolved.train.steps is None and resolved.train.epochs is None:
        resolved.train.steps = chosen.train.steps  # A flag gave the run steps instead of epochs.
    if workers.is_chief:
        _print_precision(config.train.precision, resolved.train)
    return resolved


def _print_precision(given: str, train: ml_collections.ConfigDict) -> None:
    """Prints which precision was chosen, or that the chosen one is emulated."""
    if given == "auto":
        print(f"train.precision={train.precision}.", flush=True)
    if train.precision not in precision.in_hardware(train.jit_compile):
        what = "XLA on this processor" if train.jit_compile else "this machine"
        print(
            f"Warning: train.precision={train.precision} is slower than float32, because {what} "
            "does not multiply it in hardware.",
            file=sys.stderr,
            flush=True,
        )


def check(task: Task, config: ml_collections.ConfigDict, workers: Workers) -> None:
    """Refuses a config before anything is read or written.

    Raises:
        ValueError: when it contradicts itself, or that of another process.
    """
    check_types(config, task.default_config(), SHARED)
    settings.check(config, workers.strategy, task.METRICS)
    task.check(config)
    chief = ml_collections.ConfigDict(json.loads(workers.from_chief(config.to_json)))
    for key, (expected, received) in differences(chief, config).items():
        if not is_among(key, task.LOCAL_KEYS):
            raise ValueError(
                f"Expected the config of the chief in every process, received {key}={received!r} "
                f"in process {workers.index} and {key}={expected!r} in the chief."
            )


def prepare(
    task: Task,
    config: ml_collections.ConfigDict,
    workdir: str,
    workers: Workers,
    allow_changes: bool = False,
) -> tuple[Trainer, Data, dict | None]:
    """Reads the data, and makes the model, its optimizer and the state to resume from.

    Args:
        task: `Task`.
        config: the resolved config, which `check` accepts.
        workdir: folder of the run, which exists; for a process that is not the chief, an empty one.
        workers: `Workers`.
        allow_changes: whether a run may resume with another config, or other data.

    Returns:
        Tuple of the trainer, the data, and the state of the loop that the newest checkpoint holds;
        `None` for a new run.

    Raises:
        ValueError: for a config or data that contradict the folder.
    """
    workers.from_chief(
        lambda: start(
            workdir,
            config,
            default=task.default_config(),
            fixed_keys=(*settings.FIXED_KEYS, *task.FIXED_KEYS),
            free_keys=(*settings.FREE_KEYS, *task.FREE_KEYS, *task.LOCAL_KEYS),
            prepared=task.PREPARED,
            allow_changes=allow_changes,
        )
    )
    keras.utils.set_random_seed(config.seed)
    data = _read_data(task, config, workdir, workers)
    given, config = config, settings.in_steps(config, data.batches_per_epoch)
    if workers.is_chief:
        _print_steps(given.train, config.train)
    newest = None

    def load():
        nonlocal newest
        newest = load_newest(workdir, data, allow_changes)
        return newest and newest[1]

    state = workers.from_chief(load)
    with workers.strategy.scope():
        model = task.begin(task.build(config, workdir), config, workdir, state is None)
        if config.train.remat:
            rematerialize(model)
        if workers.strategy.num_replicas_in_sync > 1:
            synchronize(model)
        trainer = Trainer(task, config, model, workers.strategy)
    if newest:  # In the chief; the other processes get the variables from it.
        trainer.restore(newest[0])
    trainer.from_chief()
    if workers.is_chief:
        write_config(workdir, given)
    return trainer, data, state


def _print_steps(given: ml_collections.ConfigDict, train: ml_collections.ConfigDict) -> None:
    """Prints what epochs and a warm-up that is too long are made of."""
    if given.epochs is not None:
        print(f"train.epochs={given.epochs} are {train.steps} steps.", flush=True)
    is_too_long = isinstance(given.warmup_steps, int) and given.warmup_steps >= train.steps
    if is_too_long and train.schedule != "constant":
        print(
            f"The warm-up takes {train.warmup_steps} steps, because train.warmup_steps="
            f"{given.warmup_steps} is not below train.steps={train.steps}.",
            flush=True,
        )


def _read_data(task, config, workdir, workers) -> Data:
    """Reads the data, in the chief first; the other processes get the files it has made of them."""
    in_chief: list[Data] = []

    def read():
        in_chief.append(task.datasets(config, workdir, workers.shard))
        files = read_prepared(workdir, task.PREPARED)
        return {"data": in_chief[0].fingerprint, "files": files}

    chief = workers.from_chief(read)
    if workers.is_chief:
        data = in_chief[0]
    else:
        write_prepared(workdir, chief["files"])
        data = task.datasets(config, workdir, workers.shard)
        for name, digest in data.fingerprint.items():
            if digest != chief["data"][name]:
                raise ValueError(f"Process {workers.index} reads other {name} than the chief.")
    replicas = {"number of replicas": workers.strategy.num_replicas_in_sync}
    fingerprint = {**data.fingerprint, **replicas}
    return data._replace(fingerprint=fingerprint, prepared=prepared_hashes(chief["files"]))


def load_newest(
    workdir: str, data: Data, allow_changes: bool
) -> tuple[dict[str, np.ndarray], dict] | None:
    """Loads the checkpoint that a run resumes from.

    Args:
        workdir: folder of the run.
        data: the run's, with the hashes of its parts.
        allow_changes: whether the checkpoint may be of other data.

    Returns:
        Tuple of its arrays and its state; `None` when there is no checkpoint.

    Raises:
        ValueError: when it is of other data, or all checkpoints are damaged.
    """
    folders = [Checkpoints(f"{workdir}/checkpoints{part}") for part in ("", "/preempted")]
    loaded = [folder.load_newest() for folder in folders]
    newest = max(filter(None, loaded), key=lambda pair: pair[1]["step"], default=None)
    if newest is None:
        if any(folder.paths() for folder in folders):
            raise ValueError(
                f"There is no whole checkpoint in {workdir}/checkpoints: delete it to begin anew."
            )
        return None
    state = newest[1]
    old = {**state["data"], **saved_hashes(state)}
    for name, value in {**data.fingerprint, **data.prepared}.items():
        if old.get(name) != value and not allow_changes:
            raise ValueError(
                f"{workdir} holds a run with another {name}, which was changed or "
                "replaced: choose another --workdir, or give --allow_changes."
            )
    return newest
