"""How training scales, measured with two processes of this machine.

One worker on half of the cores is compared with two on all of them, each with the same batch.
Beside the steps, the all-reduce of their gradients is timed alone, with each of its options.
"""

import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer, VisionTransformer
from pipelines.benchmarks.scaling_prediction import Link, predict, record
from pipelines.configs import cifar10_cpu, multi30k_en_de
from pipelines.distribution import local_workers, strategies
from pipelines.distribution.workers import Workers
from pipelines.training.task import after_step
from pipelines.training.trainer import Trainer

WARM_UP, STEPS, REDUCTIONS = 2, 2, 10  # Calls that do not count; steps or reductions in a call.
OPTIONS = tf.distribute.experimental.CommunicationOptions
REDUCTION_OPTIONS = {
    "all-reduce": {},
    "all-reduce, RING": {"options": OPTIONS(implementation="RING")},
    "all-reduce, packs of 1 MiB": {"options": OPTIONS(bytes_per_pack=2**20)},
    "all-reduce, packs of 32 MiB": {"options": OPTIONS(bytes_per_pack=2**25)},
    "all-reduce, float16": {"dtype": tf.float16},
    "all-reduce, bfloat16": {"dtype": tf.bfloat16},
}


def _vision(rows):
    """Makes a config, its model, and a batch of inputs and labels; 0 rows mean the config's."""
    config, random = cifar10_cpu.get_config(), np.random.default_rng(0)
    shape, options = (32, 32, 3), {"num_classes": 10, "dtype": config.train.precision}
    model = VisionTransformer.from_variant(**config.model.to_dict(), **options)
    model.build((None, *shape))
    rows = rows or config.train.batch_size
    labels = random.integers(0, options["num_classes"], rows, "int32")
    return config, model, (random.random((rows, *shape), "float32"), labels)


def _translation(rows):
    """Makes the same of words: sentences of one length, without padding."""
    config, random = multi30k_en_de.get_config(), np.random.default_rng(0)
    vocabulary_size, length = config.tokenizer.vocabulary_size, 16
    options = {"vocabulary_size": vocabulary_size, "dtype": config.train.precision}
    model = Seq2SeqTransformer.from_variant(**config.model.to_dict(), **options)
    model.build()
    shape = (3, rows or config.train.batch_tokens // length, length)
    source, target, labels = random.integers(4, vocabulary_size, shape, "int32")
    return config, model, ({"source": source, "target": target}, labels)


# The unit of the labels, and what makes a model with its batch.
SUBJECTS = {"cct cifar": ("img", _vision), "translation tiny": ("target tok", _translation)}


class _Task:
    """What a `Trainer` needs of a task."""

    after_step = staticmethod(after_step)

    @staticmethod
    def loss(model, batch, config):
        inputs, labels = batch
        logits = model(inputs, training=True)
        losses = smoothed_cross_entropy(labels, logits, config.train.label_smoothing)
        return tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32)


class _LoneTrainer(Trainer):
    """Leaves out the all-reduce: each process learns from its own batch."""

    def _over_replicas(self, values):
        return tf.nest.map_structure(self.workers.first, values)


def measured(command: Sequence[str], rows: int = 0, rounds: int = 9) -> Iterator[dict]:
    """Starts one worker and then two for each model, and yields the records of both.

    Args:
        command: list of strings that starts a worker. One more is added, which holds the keyword
            arguments of `run_worker` as JSON.
        rows: images or sentences in the batch of a worker; 0 means as many as in the config.
        rounds: calls that count; the result is their median.

    Raises:
        ChildProcessError: when a worker fails.
    """
    threads = max((os.cpu_count() or 1) // 2, 1)
    for work in SUBJECTS:
        job = {"work": work, "rows": rows, "rounds": rounds, "threads": threads}
        yield from _compare(work, *(_run_workers(command, job, count) for count in (1, 2)))


def _run_workers(command, job, count):
    with tempfile.TemporaryDirectory(prefix="kerasformer-scaling-") as folder:
        path = Path(folder) / "result.json"
        code = local_workers.run([*command, json.dumps({**job, "path": str(path)})], count)
        if code:
            raise ChildProcessError(f"A worker of the measurement ended with exit code {code}.")
        return json.loads(path.read_text())


def _compare(work, one, two):
    """Makes records of what one worker and two have measured."""
    unit, items, alone = SUBJECTS[work][0], one["items"], one["seconds"]["step"]
    step, lone = two["seconds"].pop("step"), two["seconds"].pop("lone step")
    reduction = two["seconds"]["all-reduce"]
    network = Link(two["bytes"] / reduction, 0.0)
    rows = [
        ("1 worker", items / alone, f"{unit}/s"),
        ("2 workers", 2 * items / step, f"{unit}/s"),
        ("2 workers without all-reduce", 2 * items / lone, f"{unit}/s"),
        ("2 workers / 2 x 1 worker", alone / step, "efficiency"),
        ("2 workers without all-reduce / 2 x 1 worker", alone / lone, "efficiency"),
        ("2 workers", predict(alone, two["bytes"], 2, network, per_node=1), "share, predicted"),
        ("gradients", two["bytes"] / 1e6, "MB/step"),
        ("all-reduce", reduction / step, "share of the step"),
        ("step - step without all-reduce", (step - lone) / step, "share of the step"),
        *((name, seconds * 1e3, "ms/step") for name, seconds in two["seconds"].items()),
    ]
    return [record(f"scaling {work}", *row) for row in rows]


def run_worker(work: str, rows: int, rounds: int, threads: int, path: str) -> None:
    """Measures as one of the workers; the chief writes the seconds of a step and so on to `path`.

    Raises:
        FloatingPointError: when a loss is not finite, because such steps are left out.
    """
    local_workers.follow_parent()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    strategy = strategies.make("multiworker")
    workers = Workers(strategy)
    is_lone = workers.count == 1  # Then there is nothing to sum, and nobody to wait for.
    task: Any = _Task()  # A step needs no more of a `Task`.
    trainers, calls = {"step": Trainer} | ({} if is_lone else {"lone step": _LoneTrainer}), {}
    for name, make_trainer in trainers.items():
        with strategy.scope():
            config, model, batch = SUBJECTS[work][1](rows)
            trainer = make_trainer(task, config, model, strategy)
        calls[name] = _make_steps(trainer, batch)
    # The gradients, the loss and the number of items.
    values = [tf.zeros(v.shape) for v in model.trainable_variables] + [tf.constant(0.0)] * 2
    for name, options in ({} if is_lone else REDUCTION_OPTIONS).items():
        calls[name] = _make_reduction(strategy, values, **options)
    meet = (lambda: None) if is_lone else _make_reduction(strategy, [tf.constant(0.0)])
    seconds = _time(calls, rounds, meet)
    if workers.is_chief:
        size = 4 * sum(math.prod(value.shape) for value in values)
        result = {"seconds": seconds, "items": batch[1].size, "bytes": size}
        Path(path).write_text(json.dumps(result))


def _make_steps(trainer, batch):
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def call():
        if not math.isfinite(trainer.steps(iterator, tf.constant(STEPS)).loss):
            raise FloatingPointError("The loss is not finite.")
        return STEPS

    return call


def _make_reduction(strategy, values, options=None, dtype=tf.float32):
    def replica(values):
        values = [tf.cast(tf.identity(value), dtype) for value in values]  # The replica's own.
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, values, options)
        return [tf.cast(value, tf.float32) for value in sums]

    @tf.function
    def reduce():
        sums = values
        for _ in tf.range(REDUCTIONS):
            sums = strategy.run(replica, (sums,))
            sums = [strategy.experimental_local_results(value)[0] for value in sums]
        return sums

    reduce = reduce.get_concrete_function()

    def call():
        reduce()[0].numpy()
        return REDUCTIONS

    return call


def _time(calls, rounds, meet):
    """Returns the median seconds of one item of each call; a call returns how many it did.

    All workers meet before each call.
    """
    times = {name: [] for name in calls}
    for _ in range(WARM_UP + rounds):
        for name, call in calls.items():
            meet()
            start = time.perf_counter()
            count = call()
            times[name].append((time.perf_counter() - start) / count)
    return {name: statistics.median(seconds[WARM_UP:]) for name, seconds in times.items()}
