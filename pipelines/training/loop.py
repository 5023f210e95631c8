"""The one training loop. It knows no task by name: it is handed a `Task`."""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.distribution.workers import Workers
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.folder import locked, undone_if_it_fails
from pipelines.training.diagnosis import first_not_finite
from pipelines.training.preparation import check, choose, prepare
from pipelines.training.progress import Progress
from pipelines.training.settings import PERIODS
from pipelines.training.state import Period, State
from pipelines.training.task import Data, Task
from pipelines.training.trainer import Trainer

# A loss this many times as large as the first one, and as 1, will not come down again.
DIVERGED = 10.0


class Preempted(Exception):
    """A run that was asked to end has been saved."""


def train(
    task: Task,
    config: ml_collections.ConfigDict,
    workdir: str,
    strategy: tf.distribute.Strategy | None = None,
    *,
    allow_changes: bool = False,
    profile: tuple[int, int] | None = None,
) -> dict:
    """Trains a model, or resumes its training, until `config.train.steps` or no progress.

    Args:
        task: `Task`.
        config: the resolved config.
        workdir: folder of the run, where a run with checkpoints resumes. Of several processes, only
            the chief reads and writes it.
        strategy: `tf.distribute.Strategy`, or `None` for one device.
        allow_changes: whether a run may resume with another config, or other data.
        profile: steps between which TensorFlow's profiler runs, for TensorBoard.

    Returns:
        Dict with `steps`, `seconds`, `best_step`, the best value under its metric's name, items a
        second, and the shares of the time that went into each part of the work.

    Raises:
        ValueError: for a config that contradicts itself or the folder, or a folder in which
            another process trains.
        FloatingPointError: when the loss is not finite any more; checkpoints stay as they were.
        Preempted: after SIGTERM, when the step under way has ended and is saved.
        ConnectionError: when another process has ended.
    """
    workers = Workers(strategy or tf.distribute.get_strategy())
    with contextlib.ExitStack() as stack:
        stack.enter_context(workers.explained_losses())
        config = choose(task, config, workdir, workers)
        check(task, config, workers)
        workdir = stack.enter_context(workers.folder(workdir))

        def lock():
            stack.enter_context(locked(workdir, make=True))

        workers.from_chief(lock)  # Before anything in the folder is read or written.
        with undone_if_it_fails(workdir, task.PREPARED):
            trainer, data, saved = prepare(task, config, workdir, workers, allow_changes)
        profile = workers.from_chief(lambda: profile)
        return _Loop(trainer, data, workdir, saved, profile).run()


class _Loop:
    """Walks from checkpoint to checkpoint: steps, logs, validations, early stop."""

    def __init__(
        self,
        trainer: Trainer,
        data: Data,
        workdir: str,
        saved: dict | None,
        profile: tuple[int, int] | None,
    ):
        self.trainer, self.data, self.workdir = trainer, data, workdir
        self.workers, self.config = trainer.workers, trainer.config.train
        folder = f"{workdir}/checkpoints"
        self.checkpoints = Checkpoints(folder, self.config.keep_checkpoints)
        self.best = Checkpoints(f"{folder}/best", keep=1)
        # Apart from the others, because it is at any step and must not count in their average.
        self.preempted = Checkpoints(f"{folder}/preempted", keep=1)
        for checkpoints in (self.checkpoints, self.best, self.preempted):
            checkpoints.clean()
        self.profile, self.is_profiling = profile or (), False
        metric = self.config.best_metric
        if saved is None:
            self.state = State(metric, data.fingerprint, data.prepared, counts=data.counts)
        else:
            self.state = State.resumed(saved, metric, data)
            if self.workers.is_chief:
                print(f"Resuming from step {self.state.step} in {workdir}.", flush=True)
        self.progress = Progress(workdir, data, self.config, self.state.step, self.workers.is_chief)
        self.score: Any = None
        self.started = time.perf_counter() - self.state.seconds

    def run(self) -> dict:
        state, config = self.state, self.config
        iterator = iter(self.data.train(state.batch))
        self.started = time.perf_counter() - state.seconds
        with self.progress, self._profiler(), _sigterm() as asked_to_end:
            while state.step < config.steps and not self._is_stale():
                is_asked_to_end = self._run_until_record(iterator, asked_to_end)
                self._measure_time()
                if is_asked_to_end:
                    self._save(self.preempted)
                    raise Preempted(f"Asked to end: the run is saved at step {state.step}.")
                if any(self._is_time_for(config[period]) for period in PERIODS):
                    self._record()
        self._measure_time()
        return self.progress.summary(state)

    def _measure_time(self):
        self.state.seconds = time.perf_counter() - self.started

    def _run_until_record(self, iterator, asked_to_end: threading.Event) -> bool:
        """Runs until it is time for a record, or returns that some process is asked to end."""
        state, config = self.state, self.config
        stops = [(state.step // config[n] + 1) * config[n] for n in PERIODS]
        stops += [step for step in self.profile if step > state.step]
        stop = min(config.steps, *stops)
        self._switch_profiler()
        is_asked_to_end = False
        while state.step < stop and not is_asked_to_end:
            start = time.perf_counter()
            count = min(config.steps_per_call, stop - state.step)
            steps = self.trainer.steps(
                iterator, tf.constant(count), tf.constant(asked_to_end.is_set())
            )
            count, loss, items, norm, waited, is_asked_to_end = (x.numpy().item() for x in steps)
            state.period.loss += loss
            state.period.items += items
            state.period.seconds += time.perf_counter() - start
            state.period.norm = norm if count else state.period.norm
            state.clock["input"] += waited
            state.step += count
            state.items += items
            if not math.isfinite(loss):
                raise FloatingPointError(self._explain_not_finite(count))
            state.batch += count * config.accumulate
            self.progress.update(count)
        self._switch_profiler()
        return is_asked_to_end

    @contextlib.contextmanager
    def _profiler(self):
        """Writes what was profiled, also when the run ends early."""
        try:
            yield
        finally:
            if self.is_profiling:
                tf.profiler.experimental.stop()

    def _switch_profiler(self):
        if not self.profile or not self.workers.is_chief:
            return
        first, last = self.profile
        if self.state.step == first and not self.is_profiling:
            tf.profiler.experimental.start(str(self.workdir))
            self.is_profiling = True
        elif self.is_profiling and self.state.step >= last:
            tf.profiler.experimental.stop()
            self.is_profiling = False

    def _explain_not_finite(self, count: int) -> str:
        """Explains where the last one of `count` steps is not finite."""
        accumulate = self.config.accumulate
        batches = self.data.train(self.state.batch + (count - 1) * accumulate).take(accumulate)
        cause = first_not_finite(self.trainer, batches)
        cause += " (in its rows of the batch)" if self.workers.count > 1 else ""
        return (
            f"The loss is not finite at step {self.state.step}: {cause}. The checkpoints in "
            f"{self.checkpoints.folder} are from before."
        )

    def _record(self):
        """Logs the sums since the last record; validates and saves when it is time."""
        state, config, period = self.state, self.config, self.state.period
        state.period = Period()
        loss = period.loss / period.items
        state.first_loss = loss if state.first_loss is None else state.first_loss
        if loss > DIVERGED * max(state.first_loss, 1.0):
            raise FloatingPointError(
                f"The loss diverges: it began at {state.first_loss:.4g} and is {loss:.4g} at "
                f"step {state.step}. The checkpoints in {self.checkpoints.folder} are from "
                "before; a lower train.learning_rate may help."
            )
        record = {"loss": loss, "gradient_norm": period.norm}
        # A constant one is a variable, of several replicas perhaps.
        record["learning_rate"] = float(tf.convert_to_tensor(self.trainer.optimizer.learning_rate))
        record[f"{self.data.items}_per_second"] = period.items / period.seconds
        if self._is_time_for(config.validate_every):
            record |= self._validate()
        self.progress.report(state, record)
        if self._is_time_for(config.checkpoint_every) or self._is_stale():
            self._save(self.checkpoints)

    def _save(self, checkpoints: Checkpoints):
        if not self.workers.is_chief:
            return
        self._measure_time()
        with self._clock("checkpoint"):
            arrays = self.trainer.arrays()
            for name, array in arrays.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise FloatingPointError(
                        f"Numbers of {name} are not finite after step {self.state.step}. The "
                        f"checkpoints in {self.checkpoints.folder} are from before."
                    )
            checkpoints.save(self.state.step, arrays, dataclasses.asdict(self.state))

    @contextlib.contextmanager
    def _clock(self, work: str):
        start = time.perf_counter()
        yield
        self.state.clock[work] += time.perf_counter() - start

    def _is_time_for(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step >= self.config.steps

    def _is_stale(self) -> bool:
        return 0 < self.config.patience <= self.state.stale

    def _validate(self) -> dict[str, float]:
        """Validates, keeps the best checkpoint, and counts validations without progress."""
        state, config = self.state, self.config
        with self._clock("validation"):
            metrics = self.trainer.validate(self.data.validation)
            if config.best_metric not in metrics:
                metrics |= self.workers.from_chief(self._score)
        value = metrics[config.best_metric]
        sign = 1 if config.best_metric.endswith("loss") else -1
        if state.best_value is None or sign * value < sign * state.best_value:
            state.best_value, state.best_step, state.stale = value, state.step, 0
            self._save(self.best)
        else:
            state.stale += 1
        return {f"validation_{name}": number for name, number in metrics.items()}

    def _score(self) -> dict[str, float]:
        trainer = self.trainer
        with trainer.averaged_weights():
            self.score = self.score or trainer.task.validation_scorer(
                trainer.model, trainer.config, self.workdir
            )
            return self.score()


@contextlib.contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM sets, instead of ending the program.

    In another thread than the main one it is never set, because Python allows no handler there.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
