"""The processes that train together: what only the chief does, and how all learn of it."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.data.shards import Shard

# The errors that TensorFlow raises when another process does not answer.
NO_ANSWER = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
BLOCK = 2**16  # bytes of a text that are sent at a time


class Workers:
    """Finds out which process of a strategy this is, and sends values of the chief to all.

    Every process must call the same methods in the same order. Nothing but the network is shared,
    so that the chief's folders need not be seen by the others.

    Args:
        strategy: `tf.distribute.Strategy`.

    Attributes:
        count: number of processes.
        index: number of this one; 0 is the chief, which alone writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.count, self.index = 1, 0
        resolver = strategy.cluster_resolver
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and resolver:
            cluster = resolver.cluster_spec().as_dict()
            chiefs = len(cluster.get("chief", ()))
            self.count = max(chiefs + len(cluster.get("worker", ())), 1)
            self.index = (resolver.task_id or 0) + (chiefs if resolver.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    @property
    def shard(self) -> Shard:
        """The part of each batch that this process makes."""
        return Shard(self.index, self.count, self.strategy.num_replicas_in_sync)

    @property
    def local_replicas(self) -> int:
        """Number of replicas of this process."""
        return self.strategy.num_replicas_in_sync // self.count

    @contextlib.contextmanager
    def folder(self, workdir: str) -> Iterator[str]:
        """Yields the folder of the run in the chief, and a temporary one in every other process."""
        if self.is_chief:
            yield workdir
            return
        with tempfile.TemporaryDirectory(prefix="kerasformer-worker-") as temporary:
            yield temporary

    @contextlib.contextmanager
    def explained_losses(self) -> Iterator[None]:
        """Explains in one sentence that another process has ended, for a `with` block.

        Raises:
            ConnectionError: instead of TensorFlow's error.
        """
        try:
            yield
        except NO_ANSWER as error:
            if self.count == 1:
                raise
            why = (error.message.strip() or "TensorFlow does not say why").splitlines()[-1]
            raise ConnectionError(
                f"Another of the {self.count} processes has ended; start all of them again with "
                f"the same commands, and the run resumes from its last checkpoint ({why[:200]})."
            ) from error

    def from_chief(self, make: Callable[[], Any]) -> Any:
        """Calls a function in the chief and returns its result in every process.

        Args:
            make: function without arguments. Its result is what JSON can hold.

        Raises:
            ValueError: in every process, when the function raises one in the chief.
        """
        if self.count == 1:
            return make()
        answer = {}
        if self.is_chief:
            try:
                answer = {"result": make()}
            except (ValueError, OSError) as error:
                answer = {"error": str(error)}
        text = np.frombuffer(json.dumps(answer).encode(), np.uint8)
        (length,) = self.arrays_from_chief([np.array(len(text))])
        # In blocks of one size, so that all texts share one graph.
        blocks = np.resize(text, (-(-length // BLOCK), BLOCK))
        text = np.concatenate([self.arrays_from_chief([block])[0] for block in blocks])
        answer = json.loads(bytes(text[:length]))
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["result"]

    def arrays_from_chief(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns in every process the arrays of the chief.

        Args:
            arrays: numpy arrays, in every process of the same shapes and dtypes.
        """
        if self.count == 1:
            return list(arrays)
        # A sum to which the other processes add zeros; of integers, because -0.0 + 0.0 is 0.0 and
        # the smallest floats are flushed to 0.
        mine = [_as_integers(array) for array in arrays]
        mine = mine if self.is_chief else [np.zeros_like(array) for array in mine]
        sums = tf.nest.map_structure(self.first, self._share([tf.constant(x) for x in mine]))
        return [
            np.frombuffer(x.numpy().tobytes()[: a.nbytes], a.dtype).reshape(a.shape)
            for x, a in zip(sums, arrays, strict=True)
        ]

    @tf.function
    def _share(self, values):
        def replica(values):
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group == 0
            mine = [tf.where(is_first, x, tf.zeros_like(x)) for x in values]
            # One by one, because values that are reduced together must have one dtype.
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, x) for x in mine]

        return self.strategy.run(replica, (values,))

    def first(self, value: Any) -> Any:
        """Returns the value of the first replica of this process."""
        return self.strategy.experimental_local_results(value)[0]


def _as_integers(array):
    """Returns the bytes of an array as at least one int32, because TensorFlow sums these."""
    content = array.tobytes()
    return np.frombuffer(content + bytes(4 - len(content) % 4), np.int32)
