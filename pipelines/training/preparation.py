"""What comes before the first step: data, model and optimizer, and the state to go on from."""

import hashlib
import json

import keras
import ml_collections

from pipelines.distribution.workers import Workers
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.config import PLACES, differences, write_config
from pipelines.runs.folder import read_prepared, start, write_prepared
from pipelines.training.rematerialization import rematerialize
from pipelines.training.settings import check
from pipelines.training.task import Data
from pipelines.training.trainer import Trainer


def prepare(
    task,
    config: ml_collections.ConfigDict,
    workdir: str,
    workers: Workers,
    allow_changes: bool = False,
) -> tuple[Trainer, Data, dict | None]:
    """Reads the data, and makes the model and all that changes with it.

    Args:
        task: module of a task.
        config: the resolved config.
        workdir: folder of the run; for a process that is not the chief, an empty one.
        workers: `Workers`.
        allow_changes: whether a run may go on with another config, or other data.

    Returns:
        Tuple of the trainer, the data, and the state of the loop that the newest checkpoint holds;
        `None` for a run that begins.

    Raises:
        ValueError: for a config that contradicts itself or the folder.
    """
    check(config, workers.strategy, task.METRICS)
    task.check(config)
    _require_equal_configs(config, workers)
    workers.from_chief(lambda: start(workdir, config, allow_changes))
    keras.utils.set_random_seed(config.seed)
    data = _read_data(task, config, workdir, workers)
    found = _Found(workdir)
    state = workers.from_chief(lambda: found.load(data.fingerprint, allow_changes))
    with workers.strategy.scope():
        model = task.build(config, workdir)
        if data.begin is not None:
            model = data.begin(model, state is None)
        if config.train.remat:
            rematerialize(model)
        trainer = Trainer(task, config, model, workers.strategy)
    if found.arrays:
        trainer.restore(found.arrays)
    trainer.from_chief()
    if workers.is_chief:
        write_config(workdir, config)
    return trainer, data, state


def _require_equal_configs(config, workers):
    """Refuses to train with processes that would do different things."""
    chief = ml_collections.ConfigDict(json.loads(workers.from_chief(config.to_json)))
    for key, (other, own) in differences(chief, config).items():
        if key not in PLACES:
            raise ValueError(
                f"Expected the config of the chief in every process, received {key}={own!r} in "
                f"process {workers.index} and {key}={other!r} in the chief."
            )


def _read_data(task, config, workdir, workers):
    """Reads the data, in the chief first; the others get the files that it has made of them."""
    data = None

    def read():
        nonlocal data
        data = task.datasets(config, workdir, workers.shard)
        return {"data": data.fingerprint, "files": read_prepared(workdir)}

    chief = workers.from_chief(read)
    if not workers.is_chief:
        write_prepared(workdir, chief["files"])
        data = task.datasets(config, workdir, workers.shard)
        for name, hashed in data.fingerprint.items():
            if hashed != chief["data"][name]:
                raise ValueError(f"Process {workers.index} reads other {name} than the chief.")
    hashes = {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in chief["files"].items()
    }
    replicas = {"number of replicas": workers.strategy.num_replicas_in_sync}
    return data._replace(fingerprint=data.fingerprint | hashes | replicas)


class _Found:
    """The checkpoint that a run goes on from."""

    def __init__(self, workdir):
        self.workdir, self.arrays = workdir, None

    def load(self, fingerprint, allow_changes):
        """Loads the newest; returns its state, or `None`.

        Raises:
            ValueError: when it is of other data.
        """
        folders = (f"{self.workdir}/checkpoints", f"{self.workdir}/checkpoints/preempted")
        found = [Checkpoints(folder).load_newest() for folder in folders]
        found = max(filter(None, found), key=lambda pair: pair[1]["step"], default=None)
        if found is None:
            if any(Checkpoints(folder).paths() for folder in folders):
                raise ValueError(
                    f"There is no whole checkpoint in {folders[0]}: delete it to begin anew."
                )
            return None
        self.arrays, state = found
        for name, new in fingerprint.items():
            if state["data"].get(name) != new and not allow_changes:
                raise ValueError(
                    f"{self.workdir} holds a run with another {name}, which was changed or "
                    "replaced: choose another --workdir, or give --allow_changes."
                )
        return state
