"""The one training loop. It knows no task by name: it is handed a task module.

One step, in this order: gradients of a loss summed over real items; sum over all replicas of the
gradients and of the item count; division by the global count; one finiteness check; one global
clip; apply. One or many replicas then give the same numbers.
"""

import contextlib
import math
import sys
import time
from typing import NamedTuple

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerasformer import schedules
from pipelines import run_folder
from pipelines.checkpoints import Checkpoints

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


class Data(NamedTuple):
    """What a task's `datasets` returns.

    Attributes:
        train: function `(epoch, batch) -> tf.data.Dataset` of endless batches from there on.
        validation: `tf.data.Dataset` of batches, read once a validation.
        batches_per_epoch: int.
        items: what a loss is summed over, in the plural: `"tokens"`.
    """

    train: object
    validation: object
    batches_per_epoch: int
    items: str


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
    _check(config.train, strategy)
    run_folder.start(workdir, config)
    task.prepare(config, workdir)
    keras.utils.set_random_seed(config.seed)
    data = task.datasets(config, workdir, strategy.num_replicas_in_sync)
    with strategy.scope():
        model = task.build(config, workdir)
        trainer = Trainer(task, config, model, strategy)
    loop = _Loop(trainer, data, workdir)
    return loop.run()


def _check(train_config, strategy):
    if train_config.schedule not in SCHEDULES:
        raise ValueError(
            f"Expected train.schedule to be one of {sorted(SCHEDULES)}, "
            f"received train.schedule={train_config.schedule!r}."
        )
    if train_config.precision not in ("float32", "mixed_bfloat16"):
        raise ValueError(
            "Expected train.precision to be 'float32' or 'mixed_bfloat16', "
            f"received train.precision={train_config.precision!r}."
        )
    if train_config.jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Expected train.jit_compile=False with several replicas, received "
            f"train.jit_compile=True with {strategy.num_replicas_in_sync}."
        )


class Trainer:
    """Owns model, optimizer and moving average, and runs their steps as one `tf.function`.

    Args:
        task: module of a task.
        config: the resolved config.
        model: a built Keras model, made inside the strategy's scope.
        strategy: `tf.distribute.Strategy`.
    """

    def __init__(self, task, config, model, strategy):
        self.task, self.config, self.model, self.strategy = task, config, model, strategy
        self.learning_rate = SCHEDULES[config.train.schedule](config.train)
        self.optimizer = keras.optimizers.Adam(
            self.learning_rate,
            beta_1=config.train.beta_1,
            beta_2=config.train.beta_2,
            epsilon=config.train.epsilon,
        )
        self.optimizer.build(model.trainable_variables)
        self.ema = None
        if config.train.ema:
            self.ema = [tf.Variable(v.value, trainable=False) for v in model.trainable_variables]
        self._gradients = (
            tf.function(self._replica_gradients, jit_compile=True)
            if config.train.jit_compile
            else self._replica_gradients
        )

    @tf.function(reduce_retracing=True)
    def steps(self, iterator, count):
        """Runs `count` steps; returns the sums of losses and items, and the last gradient norm."""
        loss = items = norm = tf.constant(0.0)
        for _ in tf.range(count):
            step_loss, step_items, norm = self._step(next(iterator))
            loss, items = loss + step_loss, items + step_items
        return loss, items, norm

    def _step(self, batch):
        gradients, loss, items = self.strategy.run(self._gradients, (batch,))
        gradients, loss, items = self._sum_over_replicas((gradients, loss, items))
        gradients = [gradient / tf.maximum(items, 1.0) for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        factor = tf.where(tf.math.is_finite(norm), 1.0, 0.0)
        if self.config.train.clip_norm:
            factor *= self.config.train.clip_norm / tf.maximum(norm, self.config.train.clip_norm)
        # A gradient that is not finite must not reach the moments: infinity times zero is not 0.
        gradients = [tf.where(tf.math.is_finite(norm), g * factor, 0.0) for g in gradients]
        self.optimizer.apply(gradients, self.model.trainable_variables)
        if self.ema is not None:
            rate = 1.0 - self.config.train.ema
            for average, variable in zip(self.ema, self.model.trainable_variables, strict=True):
                average.assign_add(rate * (variable.value - average))
        return tf.where(tf.math.is_finite(norm), loss, math.nan), items, norm

    def _replica_gradients(self, batch):
        context = tf.distribute.get_replica_context()
        replicas = self.strategy.num_replicas_in_sync
        if replicas > 1:
            first = context.replica_id_in_sync_group
            batch = tf.nest.map_structure(lambda x: x[first::replicas], batch)
        with tf.GradientTape() as tape:
            loss, items = self.task.loss(self.model, batch, self.config)
        gradients = tape.gradient(loss, self.model.trainable_weights)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], loss, items

    def _sum_over_replicas(self, values):
        if self.strategy.num_replicas_in_sync == 1:
            return values
        flat = tf.nest.flatten(values)
        flat = [self.strategy.reduce(tf.distribute.ReduceOp.SUM, x, axis=None) for x in flat]
        return tf.nest.pack_sequence_as(values, flat)

    @tf.function(reduce_retracing=True)
    def _batch_metrics(self, batch):
        return self.task.metrics(self.model, batch, self.config)

    def validate(self, dataset) -> dict[str, float]:
        """Computes the task's metrics over a dataset, with the averaged weights if there are."""
        totals = {}
        with self.averaged_weights():
            for batch in dataset:
                for name, (value, count) in self._batch_metrics(batch).items():
                    old_value, old_count = totals.get(name, (0.0, 0.0))
                    totals[name] = (old_value + float(value), old_count + float(count))
        return {name: value / count for name, (value, count) in totals.items()}

    @contextlib.contextmanager
    def averaged_weights(self):
        """Puts the moving average into the model for the length of a `with` block."""
        if self.ema is None:
            yield
            return
        own = [variable.numpy() for variable in self.model.trainable_variables]
        for variable, average in zip(self.model.trainable_variables, self.ema, strict=True):
            variable.assign(average.numpy())
        try:
            yield
        finally:
            for variable, value in zip(self.model.trainable_variables, own, strict=True):
                variable.assign(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all state as numpy arrays by name: model, optimizer, moving average."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Sets all state from the arrays of a checkpoint."""
        assign(self._variables(), arrays)

    def _variables(self):
        averages = {f"ema/{index:04d}": v for index, v in enumerate(self.ema or [])}
        return {
            **model_variables(self.model),
            **{f"optimizer/{i:04d}": v for i, v in enumerate(self.optimizer.variables)},
            **averages,
        }


def model_variables(model: keras.Model) -> dict:
    """Names a model's variables by their order, random states included.

    Args:
        model: a built Keras model.

    Returns:
        Dict from names such as `model/0007` to the variables.
    """
    return {f"model/{index:04d}": variable for index, variable in enumerate(model.variables)}


def assign(variables: dict, arrays: dict[str, np.ndarray]) -> None:
    """Sets variables by name, all or none.

    Args:
        variables: Keras or TensorFlow variables by name.
        arrays: numpy arrays by name; further names are ignored.

    Raises:
        ValueError: when an array is missing or of another shape; nothing has been set then.
    """
    for name, variable in variables.items():
        found = arrays[name].shape if name in arrays else None
        if found != tuple(variable.shape):
            raise ValueError(
                f"The checkpoint does not fit the model: expected {name} of shape "
                f"{tuple(variable.shape)}, received {found}."
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


class _Loop:
    """Walks from checkpoint to checkpoint: steps, logs, validations, early stop."""

    def __init__(self, trainer, data, workdir):
        self.trainer, self.data, self.workdir = trainer, data, workdir
        self.config = trainer.config.train
        self.checkpoints = Checkpoints(f"{workdir}/checkpoints", self.config.keep_checkpoints)
        self.best = Checkpoints(f"{workdir}/checkpoints/best", keep=1)
        self.state = {"step": 0, "epoch": 0, "batch": 0, "seconds": 0.0}
        self.state |= {"best_value": None, "best_step": 0, "stale": 0}
        found = self.checkpoints.load_newest()
        if found:
            arrays, state = found
            trainer.restore(arrays)
            self.state = {key: state[key] for key in self.state}
            print(f"Going on from step {self.state['step']} in {workdir}.", flush=True)
        self.log = run_folder.MetricsLog(workdir, self.state["step"])
        self.scalars = tf.summary.create_file_writer(str(workdir))

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
            if self._due(config.checkpoint_every):
                self.checkpoints.save(state["step"], self.trainer.arrays(), state)
        bar.close()
        return {
            "steps": state["step"],
            "seconds": round(state["seconds"], 1),
            "best_step": state["best_step"],
            f"validation_{config.best_metric}": state["best_value"],
        }

    def _run_until_log(self, iterator, bar):
        """Runs to the next multiple of `log_every`; returns loss sum, items, last norm."""
        state, config = self.state, self.config
        loss_sum = item_sum = norm = 0.0
        stop = min(state["step"] - state["step"] % config.log_every + config.log_every, config.steps)
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
                metrics |= trainer.task.validation_score(
                    trainer.model, trainer.config, self.workdir
                )
        if self.config.best_metric not in metrics:
            raise ValueError(
                f"Expected train.best_metric to be one of {sorted(metrics)}, "
                f"received train.best_metric={self.config.best_metric!r}."
            )
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
        bar.set_postfix(loss=shown["loss"], refresh=False)
        if bar.disable:
            minutes, seconds = divmod(round(left), 60)
            print(f"{line} ETA {minutes}:{seconds:02d}", flush=True)
        elif any(name.startswith("validation") for name in record):
            bar.write(line)
