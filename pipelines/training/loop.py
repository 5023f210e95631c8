"""The one training loop. It knows no task by name: it is handed a task module."""

import contextlib
import math
import signal
import threading
import time

import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.distribution.workers import Workers
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.folder import locked
from pipelines.training.diagnosis import first_not_finite
from pipelines.training.preparation import prepare
from pipelines.training.progress import Progress
from pipelines.training.settings import PERIODS

# What has gathered since the last record.
NO_PERIOD = {"loss": 0.0, "items": 0.0, "seconds": 0.0, "norm": 0.0}
# A loss so many times as large as the first one, or as 1, will not come down again.
DIVERGED = 10.0


class Preempted(Exception):
    """Says that a run was asked to end, and at which step it was saved."""


def train(
    task,
    config: ml_collections.ConfigDict,
    workdir: str,
    strategy: tf.distribute.Strategy | None = None,
    *,
    allow_changes: bool = False,
    profile: tuple[int, int] | None = None,
) -> dict:
    """Trains a model, or goes on with its training, until `config.train.steps` or no progress.

    Args:
        task: module with the functions of a task (`datasets`, `build`, `loss`, `metrics`, ...).
        config: the resolved config.
        workdir: folder of the run; checkpoints found in it are gone on from. Of several processes,
            only the chief reads and writes it.
        strategy: `tf.distribute.Strategy`, or `None` for one device.
        allow_changes: whether a run may go on with another config, or other data.
        profile: steps between which TensorFlow's profiler runs; what it finds is for TensorBoard.

    Returns:
        Dict with `steps`, `seconds`, `best_step`, the best value under its metric's name, items a
        second, and the shares of the time that went into each part of the work.

    Raises:
        ValueError: for a config that contradicts itself or the folder.
        FloatingPointError: when the loss is not finite any more; checkpoints stay as they were.
        Preempted: after SIGTERM, when the step under way has ended and is saved.
        ConnectionError: when another process has ended.
    """
    strategy = strategy or tf.distribute.get_strategy()
    workers = Workers(strategy)
    with workers.together(), workers.folder(workdir) as workdir:
        trainer, data, state = prepare(task, config, workdir, workers, allow_changes)
        profile = workers.from_chief(lambda: profile)
        with locked(workdir):
            return _Loop(trainer, data, workdir, state, profile).run()


class _Loop:
    """Walks from checkpoint to checkpoint: steps, logs, validations, early stop."""

    def __init__(self, trainer, data, workdir, state, profile):
        self.trainer, self.data, self.workdir = trainer, data, workdir
        self.workers, self.config = trainer.workers, trainer.config.train
        folder = f"{workdir}/checkpoints"
        self.checkpoints = Checkpoints(folder, self.config.keep_checkpoints)
        self.best = Checkpoints(f"{folder}/best", keep=1)
        # Apart from the others, for it is at any step and must not count in their average.
        self.preempted = Checkpoints(f"{folder}/preempted", keep=1)
        for checkpoints in (self.checkpoints, self.best, self.preempted):
            checkpoints.clean()
        self.profile, self.is_profiling = profile or (), False
        self.state = {"step": 0, "batch": 0, "items": 0.0, "seconds": 0.0, "period": NO_PERIOD}
        self.state |= {"clock": {"input": 0.0, "validation": 0.0, "checkpoint": 0.0}}
        nothing = {"metric": self.config.best_metric, "best_value": None, "best_step": 0}
        self.state |= nothing | {"stale": 0, "first_loss": None}
        if state:
            self.state = {key: state[key] for key in self.state}
            if state["metric"] != self.config.best_metric:  # Their values cannot be compared.
                self.state |= nothing | {"stale": 0}
            if self.workers.is_chief:
                print(f"Going on from step {self.state['step']} in {workdir}.", flush=True)
        self.state["data"] = data.fingerprint
        self.progress = Progress(workdir, data, self.config, self.state, self.workers.is_chief)
        self.score = None

    def run(self) -> dict:
        state, config = self.state, self.config
        iterator = iter(self.data.train(state["batch"]))
        self.started = time.perf_counter() - state["seconds"]
        with self.progress, self._profiler(), _sigterm() as asked_to_end:
            while state["step"] < config.steps and not self._is_stale():
                ends = self._run_until_record(iterator, asked_to_end)
                self._tick()
                if ends:
                    self._save(self.preempted)
                    raise Preempted(f"Asked to end: the run is saved at step {state['step']}.")
                if any(self._due(config[period]) for period in PERIODS):
                    self._record()
        self._tick()
        return self.progress.summary()

    def _tick(self):
        self.state["seconds"] = time.perf_counter() - self.started

    def _run_until_record(self, iterator, asked_to_end) -> bool:
        """Runs until something is due, or returns that some process is asked to end."""
        state, config = self.state, self.config
        stops = [(state["step"] // config[n] + 1) * config[n] for n in PERIODS]
        stops += [step for step in self.profile if step > state["step"]]
        stop = min(config.steps, *stops)
        self._switch_profiler()
        ends = False
        while state["step"] < stop and not ends:
            clock = time.perf_counter()
            count = min(config.steps_per_call, stop - state["step"])
            asked = tf.constant(asked_to_end.is_set())
            count, loss, items, norm, waited, ends = (
                x.numpy().item() for x in self.trainer.steps(iterator, tf.constant(count), asked)
            )
            period, seconds = state["period"], time.perf_counter() - clock
            state["period"] = {
                "loss": period["loss"] + loss,
                "items": period["items"] + items,
                "seconds": period["seconds"] + seconds,
                "norm": norm if count else period["norm"],
            }
            state["clock"]["input"] += waited
            state["step"] += count
            state["items"] += items
            if not math.isfinite(loss):
                raise FloatingPointError(self._broken(count))
            state["batch"] += count * config.accumulate
            self.progress.update(count)
        self._switch_profiler()
        return ends

    @contextlib.contextmanager
    def _profiler(self):
        """Keeps what was found of a profile that is cut short."""
        try:
            yield
        finally:
            if self.is_profiling:
                tf.profiler.experimental.stop()

    def _switch_profiler(self):
        if not self.profile or not self.workers.is_chief:
            return
        first, last = self.profile
        if self.state["step"] == first and not self.is_profiling:
            tf.profiler.experimental.start(str(self.workdir))
            self.is_profiling = True
        elif self.is_profiling and self.state["step"] >= last:
            tf.profiler.experimental.stop()
            self.is_profiling = False

    def _broken(self, count):
        """Says where the last one of `count` steps is not finite."""
        accumulate = self.config.accumulate
        batches = self.data.train(self.state["batch"] + (count - 1) * accumulate).take(accumulate)
        place = first_not_finite(self.trainer, batches)
        place += " (in its rows of the batch)" if self.workers.count > 1 else ""
        return (
            f"The loss is not finite at step {self.state['step']}: {place}. The checkpoints in "
            f"{self.checkpoints.folder} are from before."
        )

    def _record(self):
        """Logs what has gathered, and validates and saves when it is time."""
        state, config, period = self.state, self.config, self.state["period"]
        state["period"] = NO_PERIOD
        loss = period["loss"] / period["items"]
        state["first_loss"] = loss if state["first_loss"] is None else state["first_loss"]
        if loss > DIVERGED * max(state["first_loss"], 1.0):
            raise FloatingPointError(
                f"The loss diverges: it began at {state['first_loss']:.4g} and is {loss:.4g} at "
                f"step {state['step']}. The checkpoints in {self.checkpoints.folder} are from "
                "before; a lower train.learning_rate may help."
            )
        record = {"loss": loss, "gradient_norm": period["norm"]}
        record["learning_rate"] = float(self.trainer.optimizer.learning_rate)
        record[f"{self.data.items}_per_second"] = period["items"] / period["seconds"]
        if self._due(config.validate_every):
            record |= self._validate()
        self.progress.report(record)
        if self._due(config.checkpoint_every) or self._is_stale():
            self._save(self.checkpoints)

    def _save(self, checkpoints):
        if not self.workers.is_chief:
            return
        self._tick()
        with self._clock("checkpoint"):
            arrays = self.trainer.arrays()
            for name, array in arrays.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise FloatingPointError(
                        f"Numbers of {name} are not finite after step {self.state['step']}. The "
                        f"checkpoints in {self.checkpoints.folder} are from before."
                    )
            checkpoints.save(self.state["step"], arrays, self.state)

    @contextlib.contextmanager
    def _clock(self, kind):
        start = time.perf_counter()
        yield
        self.state["clock"][kind] += time.perf_counter() - start

    def _due(self, every):
        return self.state["step"] % every == 0 or self.state["step"] >= self.config.steps

    def _is_stale(self):
        return 0 < self.config.patience <= self.state["stale"]

    def _validate(self):
        """Validates, keeps the best checkpoint, and counts validations without progress."""
        state = self.state
        with self._clock("validation"):
            metrics = self.trainer.validate(self.data.validation)
            if self.config.best_metric not in metrics:
                metrics |= self.workers.from_chief(self._score)
        value = metrics[self.config.best_metric]
        sign = 1 if self.config.best_metric.endswith("loss") else -1
        if state["best_value"] is None or sign * value < sign * state["best_value"]:
            state |= {"best_value": value, "best_step": state["step"], "stale": 0}
            self._save(self.best)
        else:
            state["stale"] += 1
        return {f"validation_{name}": number for name, number in metrics.items()}

    def _score(self):
        trainer = self.trainer
        with trainer.averaged_weights():
            self.score = self.score or trainer.task.validation_scorer(
                trainer.model, trainer.config, self.workdir
            )
            return self.score()


@contextlib.contextmanager
def _sigterm():
    """Gives an event that SIGTERM sets, instead of ending the program, where that can be."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
