"""A queue of requests from many threads, whose rows are computed in batches inside TensorFlow."""

import contextlib
import itertools
import time
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.serving.cancellation import Cancellation, Cancelled


class Batching(NamedTuple):
    """How requests are brought together.

    Attributes:
        max_size: int. Most instances in a batch.
        wait: float. Seconds that the first request of a batch waits for others, or `None`: see
            `seconds`.
        threads: int. Batches of one endpoint that are computed at the same time, or as many as it
            has queues.
        lengths: int for each bound between buckets of sentences, in bytes. Each bucket has its
            own queue, so that short sentences never wait for long ones.
    """

    max_size: int = 32
    wait: float | None = None
    threads: int = 2
    lengths: tuple[int, ...] = (64, 160)

    def sizes(self) -> list[int]:
        """Lists the sizes that batches are filled up to: the powers of 2, and the largest."""
        powers = itertools.takewhile(lambda n: n < self.max_size, (2**i for i in range(31)))
        return [*powers, self.max_size]

    def seconds(self, is_text: bool) -> float:
        """Returns how long a batch waits: a translation takes long, and gains by fuller batches."""
        default = 0.01 if is_text else 0.002
        return default if self.wait is None else self.wait


class Measured(NamedTuple):
    """What a call took.

    Attributes:
        queue: float. Seconds until its batch began, including the decoding of its images.
        compute: float. Seconds from then until its batch was done.
        batches: int for each batch in which this call had the first row: the instances in it.
    """

    queue: float
    compute: float
    batches: tuple[int, ...]


class Queue:
    """Brings the rows of calls from many threads together and computes them in batches.

    Rows of calls that were cancelled before their batch began are left out of it.

    Args:
        compute: concrete function of a batch, a signature of the model.
        decode: concrete function from the inputs of a call to those of `compute`. It runs for
            each call alone, so that its errors concern that call only. `None` where the inputs
            are the same.
        specs: inputs of a call by name, each with a row for each instance.
        batching: how calls are brought together.
        seconds: float. How long the first call of a batch waits for others.
        threads: int. Batches that are computed at the same time.
        max_rows: int. Most rows of a call.
    """

    def __init__(
        self,
        compute: tf.types.experimental.ConcreteFunction,
        decode: tf.types.experimental.ConcreteFunction | None,
        specs: Mapping[str, tf.TensorSpec],
        batching: Batching,
        seconds: float,
        threads: int,
        max_rows: int,
    ):
        self._compute, self._decode, self._specs = compute, decode, dict(specs)
        self._batch_inputs = list(compute.structured_input_signature[1])
        self._outputs = list(compute.structured_outputs)
        self._numbers = itertools.count()
        self._sizes = batching.sizes()
        self._gone = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
        batch = tf.nondifferentiable_batch_function(
            threads,
            max(batching.max_size, max_rows),  # What is computed at once has one of the sizes.
            round(1e6 * seconds),
            self._sizes,
            max_enqueued_batches=2**20,  # The threads that may wait are the bound.
            autograph=False,
        )
        self._batch = batch(self._compute_batch)
        # TensorFlow finds a queue by its scope; queues of one scope would answer for each other.
        self._scope = f"queue_{uuid.uuid4().hex}"
        signature = [tf.TensorSpec([None], tf.int64), *self._specs.values()]
        enqueue = tf.function(self._enqueue, signature, autograph=False)
        self._call = enqueue.get_concrete_function()

    def __call__(
        self, tensors: Mapping[str, tf.Tensor], cancellation: Cancellation
    ) -> tuple[dict[str, np.ndarray], Measured]:
        """Puts the rows of a call into the queue and waits for their outputs; safe from any thread.

        Args:
            tensors: by name, as in `specs`.
            cancellation: of the call.

        Returns:
            Tuple of the outputs by name and what the call took.

        Raises:
            Cancelled: when the call was cancelled before a batch with its rows began.
        """
        rows = [tensors[name] for name in self._specs]
        numbers = np.fromiter(self._numbers, np.int64, len(rows[0]))
        asked = time.time()
        with self._until_gone(tf.constant(numbers), cancellation) as keys:
            *outputs, facts = (x.numpy() for x in self._call(keys, *rows))
        began, ended, sizes, firsts = facts.T
        if not sizes.all():
            raise Cancelled
        batches = tuple(sizes[firsts == numbers].astype(int).tolist())
        waited, computed = began.min() - asked, ended.max() - began.min()
        measured = Measured(max(0.0, waited), computed, batches)
        return dict(zip(self._outputs, outputs, strict=True)), measured

    @contextlib.contextmanager
    def _until_gone(self, numbers, cancellation):
        """Notes the numbers of a call's rows as gone when it is cancelled, while it waits."""
        noted = []

        def take_back():
            noted.append(numbers)
            self._gone.insert(numbers, tf.ones_like(numbers))

        cancellation.wait(take_back)
        try:
            yield numbers
        finally:
            with contextlib.suppress(Cancelled):
                cancellation.wait(None)
            if noted:
                self._gone.remove(numbers)

    def _enqueue(self, numbers, *rows):
        """Runs for each call: decodes its rows and leaves them to the batch."""
        tensors = dict(zip(self._specs, rows, strict=True))
        tensors = self._decode(**tensors) if self._decode else tensors
        with tf.name_scope(self._scope):
            return self._batch(numbers, *(tensors[name] for name in self._batch_inputs))

    def _compute_batch(self, numbers, *rows):
        """Runs for each batch: computes its rows, and adds facts `(rows, 4)` to the outputs.

        The facts are when the batch began and ended, its size, and the number of its first row. The
        size is 0 for a row that is gone.
        """
        began = tf.timestamp()
        with tf.control_dependencies([began]):
            rows = [tf.identity(x) for x in rows]
            gone = self._gone.lookup(numbers) > 0
        outputs = self._compute_kept(rows, gone)
        with tf.control_dependencies(outputs):
            ended = tf.timestamp()

        def facts(kept):
            # TensorFlow fills a batch up with copies of rows, which have the same numbers.
            counted = [tf.size(tf.unique(kept)[0]), kept[0]]
            row = [began, ended, *(tf.cast(x, tf.float64) for x in counted)]
            return tf.tile([row], [tf.size(numbers), 1])

        def spread():
            """Gives each row that is kept its outputs; what the others get is not used."""
            places = tf.maximum(tf.cumsum(tf.cast(~gone, tf.int32)) - 1, 0)
            kept = tf.concat([tf.gather(numbers, tf.where(~gone)[:, 0]), [-1]], 0)
            told = tf.where(gone[:, None], tf.zeros([], tf.float64), facts(kept) - [0, 0, 1, 0])
            return [*(tf.gather(x, places) for x in outputs), told]

        return tf.cond(tf.reduce_any(gone), spread, lambda: [*outputs, facts(numbers)])

    def _compute_kept(self, rows, gone):
        """Computes the rows of a batch that are not gone, filled up to one of the sizes."""

        def gather():
            kept = tf.where(~gone)[:, 0]
            filled = tf.constant(self._sizes)[tf.searchsorted(self._sizes, [tf.size(kept)])[0]]
            picked = tf.gather(kept, tf.minimum(tf.range(filled), tf.size(kept) - 1))
            return [tf.gather(x, picked) for x in rows]

        def compute():
            outputs = self._compute(**dict(zip(self._batch_inputs, chosen, strict=True)))
            return [outputs[name] for name in self._outputs]

        def nothing():
            specs = [self._compute.structured_outputs[name] for name in self._outputs]
            return [tf.zeros([1, *x.shape[1:]], x.dtype) for x in specs]

        are_all_gone = tf.reduce_all(gone)
        is_smaller = tf.reduce_any(gone) & ~are_all_gone
        chosen = tf.cond(is_smaller, gather, lambda: rows)
        return tf.cond(are_all_gone, nothing, compute)
