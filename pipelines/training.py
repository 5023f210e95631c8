"""The one training loop. It knows no task by name: it is handed a task module."""

import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import ml_collections
import tensorflow as tf
from tqdm import tqdm

from pipelines import run_folder
from pipelines.checkpoints import Checkpoints
from pipelines.trainer import Trainer, check

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
    "ema": 0.0,  # Momentum of the moving average of the weights; 0 turns it off.
    "steps_per_call": 10,
    "log_every": 50,
    "validate_every": 500,
    "checkpoint_every": 500,
    "keep_checkpoints": 10,
    "best_metric": "loss",  # One of METRICS of the task.
    "patience": 0,  # Validations without progress before the run stops; 0 is never.
}


class Data(NamedTuple):
    """What a task's `datasets` returns.

    Attributes:
        train: function `(epoch, batch) -> tf.data.Dataset` of endless batches from there on.
        validation: `tf.data.Dataset` of batches, read once a validation.
        batches_per_epoch: int.
        items: what a loss is summed over, in the plural: `"tokens"` or `"images"`.
        fingerprint: a hash of the data; a run does not go on with other data.
        begin: what is done with a fresh model before it is trained, such as giving it the weights
            of another run: function `(model, is_new)`, which of a run that goes on is not new. The
            result is what is trained and saved.
    """

    train: object
    validation: object
    batches_per_epoch: int
    items: str
    fingerprint: str = ""
    begin: Callable[[keras.Model, bool], keras.Model] | None = None


def train(task, config: ml_collections.ConfigDict, workdir: str, strategy=None) -> dict:
    """Trains a model, or goes on with its training, until `config.train.steps` or no progress.

    Args:
        task: module with the functions of a task (`datasets`, `build`, `loss`, `metrics`, ...).
        config: the resolved config.
        workdir: folder of the run; checkpoints found in it are gone on from.
        strategy: `tf.distribute.Strategy`, or `None` for one device.

    Returns:
        Dict with `steps`, `seconds`, `best_step` and the best value under its metric's name.

    Raises:
        ValueError: for a config that contradicts itself or the folder.
        FloatingPointError: when the loss is not finite any more; checkpoints stay as they were.
    """
    strategy = strategy or tf.distribute.get_strategy()
    check(config, strategy, task.METRICS)
    task.check(config)
    run_folder.start(workdir, config)
    keras.utils.set_random_seed(config.seed)
    data = task.datasets(config, workdir, strategy.num_replicas_in_sync)
    checkpoints = Checkpoints(f"{workdir}/checkpoints", config.train.keep_checkpoints)
    found = checkpoints.load_newest()
    with strategy.scope():
        model = task.build(config, workdir)
        if data.begin is not None:
            model = data.begin(model, found is None)
        trainer = Trainer(task, config, model, strategy)
    loop = _Loop(trainer, data, workdir, checkpoints, found)
    return loop.run()


class _Loop:
    """Walks from checkpoint to checkpoint: steps, logs, validations, early stop."""

    def __init__(self, trainer, data, workdir, checkpoints, found):
        self.trainer, self.data, self.workdir = trainer, data, workdir
        self.config = trainer.config.train
        self.checkpoints = checkpoints
        self.best = Checkpoints(f"{workdir}/checkpoints/best", keep=1)
        self.state = {"step": 0, "epoch": 0, "batch": 0, "seconds": 0.0}
        nothing = {"metric": self.config.best_metric, "best_value": None, "best_step": 0}
        self.state |= nothing | {"stale": 0, "data": data.fingerprint}
        if found:
            arrays, state = found
            if state["data"] != data.fingerprint:
                raise ValueError(
                    f"{workdir} holds a run on other data, of which the files were changed or "
                    "replaced: choose another --workdir."
                )
            trainer.restore(arrays)
            self.state = {key: state[key] for key in self.state}
            if state["metric"] != self.config.best_metric:  # Their values cannot be compared.
                self.state |= nothing | {"stale": 0}
            # Other batches than before may be fewer.
            self.state["batch"] = min(self.state["batch"], data.batches_per_epoch)
            print(f"Going on from step {self.state['step']} in {workdir}.", flush=True)
        self.log = run_folder.MetricsLog(workdir, self.state["step"])
        self.scalars = tf.summary.create_file_writer(str(workdir))
        self.score = None

    def run(self) -> dict:
        state, config = self.state, self.config
        iterator = iter(self.data.train(state["epoch"], state["batch"]))
        started = time.perf_counter() - state["seconds"]
        bar = tqdm(
            total=config.steps,
            initial=state["step"],
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        while state["step"] < config.steps and not self._is_stale():
            clock = time.perf_counter()
            first = state["step"]
            loss, items, norm = self._run_until_log(iterator, bar)
            seconds = time.perf_counter() - clock
            state["seconds"] = time.perf_counter() - started
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss is not finite between steps {first} and {state['step']}; the last "
                    f"checkpoint in {self.checkpoints.folder} is from before."
                )
            rate = items / seconds
            record = {"loss": loss / items, "gradient_norm": norm}
            record["learning_rate"] = float(self.trainer.optimizer.learning_rate)
            record[f"{self.data.items}_per_second"] = rate
            if self._due(config.validate_every):
                record |= self._validate()
            self._report(record, bar)
            if self._due(config.checkpoint_every) or self._is_stale():
                self.checkpoints.save(state["step"], self.trainer.arrays(), state)
        bar.close()
        return {
            "steps": state["step"],
            "seconds": round(state["seconds"], 1),
            "best_step": state["best_step"],
            f"validation_{config.best_metric}": state["best_value"],
        }

    def _run_until_log(self, iterator, bar):
        """Runs until something is due; returns loss sum, items, last norm."""
        state, config = self.state, self.config
        loss_sum = item_sum = norm = 0.0
        periods = (config.log_every, config.validate_every, config.checkpoint_every)
        stop = min(config.steps, *((state["step"] // n + 1) * n for n in periods))
        while state["step"] < stop:
            count = min(config.steps_per_call, stop - state["step"])
            loss, items, norm = self.trainer.steps(iterator, tf.constant(count))
            loss_sum, item_sum = loss_sum + float(loss), item_sum + float(items)
            state["step"] += count
            position = state["epoch"] * self.data.batches_per_epoch + state["batch"] + count
            state["epoch"], state["batch"] = divmod(position, self.data.batches_per_epoch)
            bar.update(count)
        return loss_sum, item_sum, float(norm)

    def _due(self, every):
        return self.state["step"] % every == 0 or self.state["step"] >= self.config.steps

    def _is_stale(self):
        return 0 < self.config.patience <= self.state["stale"]

    def _validate(self):
        """Validates, keeps the best checkpoint, and counts validations without progress."""
        trainer, state = self.trainer, self.state
        metrics = trainer.validate(self.data.validation)
        if self.config.best_metric not in metrics:
            with trainer.averaged_weights():
                self.score = self.score or trainer.task.validation_scorer(
                    trainer.model, trainer.config, self.workdir
                )
                metrics |= self.score()
        value = metrics[self.config.best_metric]
        sign = 1 if self.config.best_metric.endswith("loss") else -1
        if state["best_value"] is None or sign * value < sign * state["best_value"]:
            state |= {"best_value": value, "best_step": state["step"], "stale": 0}
            self.best.save(state["step"], trainer.arrays(), state)
        else:
            state["stale"] += 1
        return {f"validation_{name}": number for name, number in metrics.items()}

    def _report(self, record, bar):
        state = self.state
        self.log.append({"step": state["step"], "seconds": round(state["seconds"], 2), **record})
        with self.scalars.as_default(step=state["step"]):
            for name, value in record.items():
                tf.summary.scalar(name, value)
        self.scalars.flush()
        if any(name.startswith("validation") for name in record):
            self.log.draw()
        left = (self.config.steps - state["step"]) * state["seconds"] / max(state["step"], 1)
        shown = {name: f"{value:.4g}" for name, value in record.items() if name != "gradient_norm"}
        epoch = state["epoch"] + state["batch"] / self.data.batches_per_epoch
        line = f"step {state['step']}/{self.config.steps} epoch {epoch:.2f} " + " ".join(
            f"{name}={value}" for name, value in shown.items()
        )
        rate = f"{self.data.items}_per_second"
        bar.set_postfix({"loss": shown["loss"], rate: shown[rate]}, refresh=False)
        if bar.disable:
            minutes, seconds = divmod(round(left), 60)
            print(f"{line} ETA {minutes}:{seconds:02d}", flush=True)
        elif any(name.startswith("validation") for name in record):
            bar.write(line)
