"""One training step on one or many replicas, and the state that it changes.

In this order: gradients of a loss summed over real items; sum over all replicas of the gradients
and of the item count; division by the global count; one finiteness check; one global clip; apply;
the task's `after_step`. One or many replicas then give the same numbers.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.distribution.workers import Workers
from pipelines.runs.weights import assign, model_variables
from pipelines.training.batch_statistics import moving_averages
from pipelines.training.loss_scale import LossScale
from pipelines.training.optimizers import make_optimizer
from pipelines.training.settings import SCHEDULES, weight_decay
from pipelines.training.task import Task

SEED_STEP = 1_000_003  # between the seeds of two replicas


class Steps(NamedTuple):
    """The result of some steps.

    Attributes:
        count: number of steps taken; the last of them changed nothing if `loss` is not finite.
        loss, items: sums over them.
        norm: norm of the last gradient before it was clipped.
        waited: seconds of waiting for a batch.
        is_asked_to_end: whether any process was asked to end.
    """

    count: tf.Tensor
    loss: tf.Tensor
    items: tf.Tensor
    norm: tf.Tensor
    waited: tf.Tensor
    is_asked_to_end: tf.Tensor


class Trainer:
    """Owns model, optimizer and moving average, and runs their steps as one `tf.function`.

    Args:
        task: `Task`.
        config: the resolved config.
        model: a built Keras model, made inside the strategy's scope.
        strategy: `tf.distribute.Strategy`.
    """

    def __init__(
        self,
        task: Task,
        config: ml_collections.ConfigDict,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
    ):
        self.task, self.config, self.model, self.strategy = task, config, model, strategy
        self.workers = Workers(strategy)
        self.learning_rate = SCHEDULES[config.train.schedule](config.train)
        self.optimizer = make_optimizer(
            config.train,
            self.learning_rate,
            model.trainable_variables,
            weight_decay(config.train),
        )
        self._moving = moving_averages(model)
        # With the weights, because the means and variances of the last ones would not fit.
        self._averaged = [*model.trainable_variables, *self._moving]
        self.ema = None
        if config.train.ema:
            self.ema = [tf.Variable(v.value, trainable=False) for v in self._averaged]
        self.loss_scale = LossScale() if config.train.precision == "mixed_float16" else None
        self._gradients = (
            tf.function(self._replica_gradients, jit_compile=True)
            if config.train.jit_compile
            else self._replica_gradients
        )
        self._spread_random_states()

    @tf.function(reduce_retracing=True)
    def steps(self, iterator, count, is_asked_to_end=False) -> Steps:
        """Runs steps, each of `config.train.accumulate` batches, until one is not finite.

        None is run when a process was asked to end.

        Args:
            iterator: iterator of this process's part of each batch.
            count: int tensor, the number of steps.
            is_asked_to_end: bool tensor. Whether this process was.

        Returns:
            `Steps`, the same in every process.
        """
        loss = items = norm = waited = tf.constant(0.0)
        is_asked_to_end = self._over_replicas(tf.cast(is_asked_to_end, tf.int32)) > 0
        done, is_finite = tf.constant(0), tf.constant(True)
        for _ in tf.range(count):
            if is_finite and not is_asked_to_end:
                batch, seconds = self._read(iterator, loss)
                waited += seconds
                moving = self._keep_moving()
                sums = self.strategy.run(self._gradients, (batch,))
                if self.config.train.accumulate > 1:  # Or the graph would hold the model twice.
                    for _ in tf.range(self.config.train.accumulate - 1):
                        batch, seconds = self._read(iterator, waited)
                        waited += seconds
                        sums = self.strategy.run(self._add_gradients, (sums, batch))
                step_loss, step_items, norm = self._step(*self._over_replicas(sums))
                self._restore_moving(moving, ~tf.math.is_finite(norm))
                loss, items, done = loss + step_loss, items + step_items, done + 1
                is_finite = tf.math.is_finite(loss)
        return Steps(done, loss, items, norm, waited, is_asked_to_end)

    def _keep_moving(self):
        """Reads each replica's moving averages of batch normalisation, which the loss changes."""
        if not self._moving:
            return []
        return self.strategy.run(lambda: [tf.identity(x.value) for x in self._moving])

    def _restore_moving(self, values, is_broken):
        def restore(values):
            for variable, value in zip(self._moving, values, strict=True):
                variable.assign(value)

        if self._moving:
            if is_broken:  # A tensor, unlike the list.
                self.strategy.run(restore, (values,))

    def _read(self, iterator, after):
        """Reads a batch; returns it and the seconds that this took."""
        with tf.control_dependencies([after]):
            start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch)):
            end = tf.timestamp()
        with tf.control_dependencies([end]):  # Or a single thread may compute first.
            batch = tf.nest.map_structure(tf.identity, batch)
        return batch, tf.cast(end - start, tf.float32)

    def _over_replicas(self, values):
        """Sums values over the replicas of all processes."""
        if self.strategy.num_replicas_in_sync == 1:
            return values

        def total(values):
            values = tf.nest.map_structure(tf.identity, values)  # Each replica's own.
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        # Every replica has the same sums; the first one's are enough.
        return tf.nest.map_structure(self.workers.first, self.strategy.run(total, (values,)))

    def _step(self, gradients, loss, items):
        gradients = [gradient / tf.maximum(items, 1.0) for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        finite, clip_norm = tf.math.is_finite(norm), self.config.train.clip_norm
        if finite:  # Otherwise nothing changes, on no replica.
            factor = clip_norm / tf.maximum(norm, clip_norm) if clip_norm else 1.0
            self._apply([gradient * factor for gradient in gradients])
        if self.loss_scale is None:
            is_broken = ~finite
        else:
            self.loss_scale.update(finite)
            is_broken = self.loss_scale.is_hopeless
        return tf.where(is_broken, math.nan, loss), items, norm

    def _apply(self, gradients):
        self.optimizer.apply(gradients, self.model.trainable_variables)
        if self.ema is not None:
            # Without the bias towards the first weights, as Adam corrects its moments: the sum of
            # the weights of the average is 1 - ema^t after t steps.
            momentum, taken = self.config.train.ema, tf.cast(self.optimizer.iterations, tf.float32)
            rate = (1.0 - momentum) / -tf.math.expm1(taken * math.log(momentum))
            for average, variable in zip(self.ema, self._averaged, strict=True):
                average.assign_add(rate * (variable.value - average))
        self.task.after_step(self.model, self.config)

    def _replica_gradients(self, batch):
        batch = self._rows_of_replica(batch, self.workers.local_replicas)
        with tf.GradientTape() as tape:
            loss, items = self.task.loss(self.model, batch, self.config)
            # The scale is that of a mean, because a sum over many items would overflow float16.
            scale = 1.0 if self.loss_scale is None else self.loss_scale.value / tf.maximum(items, 1)
            scaled = loss * scale
        gradients = tape.gradient(scaled, self.model.trainable_weights)
        dense = [
            # Zeros for a weight that the loss does not use; those of embeddings are sparse.
            tf.zeros_like(weight.value) if gradient is None else tf.convert_to_tensor(gradient)
            for weight, gradient in zip(self.model.trainable_weights, gradients, strict=True)
        ]
        return [gradient / scale for gradient in dense], loss, items

    def _rows_of_replica(self, batch, count):
        """Takes the rows of this replica out of a batch that `count` replicas share."""
        if count == 1:
            return batch
        # `count` is the number of all replicas, or of those of this process, which are numbered
        # in a row.
        first = tf.distribute.get_replica_context().replica_id_in_sync_group % count
        return tf.nest.map_structure(lambda x: x[first::count], batch)

    def _add_gradients(self, sums, batch):
        return tf.nest.map_structure(tf.add, sums, self._gradients(batch))

    @tf.function(reduce_retracing=True)
    def _batch_metrics(self, batch):
        def replica_metrics(batch):
            batch = self._rows_of_replica(batch, self.strategy.num_replicas_in_sync)
            return self.task.metrics(self.model, batch, self.config)

        return self._over_replicas(self.strategy.run(replica_metrics, (batch,)))

    def validate(self, dataset: tf.data.Dataset) -> dict[str, float]:
        """Computes the task's metrics over a dataset, with the averaged weights if there are."""
        sums: Any = None
        with self.averaged_weights():
            for batch in dataset:
                new = tf.nest.map_structure(_as_float64, self._batch_metrics(batch))
                sums = new if sums is None else tf.nest.map_structure(np.add, sums, new)
        if sums is None:
            raise ValueError("Expected validation data, received a dataset without batches.")
        return {name: float(value) for name, value in self.task.finish(sums).items()}

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the moving average into the model for the length of a `with` block."""
        if self.ema is None:
            yield
            return
        trained = [variable.numpy() for variable in self._averaged]
        for variable, average in zip(self._averaged, self.ema, strict=True):
            variable.assign(average.numpy())
        try:
            yield
        finally:
            for variable, value in zip(self._averaged, trained, strict=True):
                variable.assign(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all state as numpy arrays by name: model, optimizer, moving average."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Sets all state from the arrays of a checkpoint."""
        # Checkpoints of earlier versions have no `ema/` of what batch normalisation counts.
        own = {f"ema/{name}": arrays[name] for name in self._names(self._moving) if name in arrays}
        assign(self._variables(), {**own, **arrays})
        self._spread_random_states()

    def from_chief(self) -> None:
        """Sets all state in every process to the chief's."""
        if self.workers.count == 1:
            return
        mine = self.arrays()
        arrays = self.workers.arrays_from_chief(list(mine.values()))
        self.restore(dict(zip(mine, arrays, strict=True)))

    def _spread_random_states(self):
        """Makes every replica draw other random numbers; checkpoints hold the first one's state."""
        if self.strategy.num_replicas_in_sync == 1:
            return
        first = self.workers.index * self.workers.local_replicas
        for variable in self.model.non_trainable_variables:
            if variable.name == "seed_generator_state":
                parts = self.strategy.experimental_local_results(variable.value)
                for replica, part in enumerate(parts, first):
                    part.assign(part + tf.constant([replica * SEED_STEP, 0], part.dtype))

    def _names(self, variables):
        names = {id(variable): name for name, variable in model_variables(self.model).items()}
        return [names[id(variable)] for variable in variables]

    def _variables(self):
        averages = zip(self._names(self._averaged), self.ema, strict=True) if self.ema else ()
        # Without a constant learning rate, because that is in the config.
        optimized = [v for v in self.optimizer.variables if v.name != "learning_rate"]
        return {
            **model_variables(self.model),
            **{f"optimizer/{i:04d}": v for i, v in enumerate(optimized)},
            **{f"ema/{name}": average for name, average in averages},
            **({} if self.loss_scale is None else self.loss_scale.variables()),
        }


def _as_float64(tensor) -> np.ndarray:
    return np.asarray(tensor, np.float64)
