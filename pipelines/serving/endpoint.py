"""One signature of a SavedModel, called by many threads at once and computed in batches.

The batches are made inside TensorFlow, by `tf.nondifferentiable_batch_function`. A signature is
batched if its inputs and outputs have a row for each instance, of a size that is known; another
one, such as the alignment of words, runs for each request alone.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from pipelines.error_sentence import sentence
from pipelines.images.files import count_pixels, fault
from pipelines.serving.payload import Refused

IMAGE, PIXELS = "image", "_pixels"
PIXELS_AT_ONCE = 64_000_000  # of the images that all requests together hold
DECODE = "decode"  # the signature from image files to what a signature `..._pixels` takes
# What signatures are tried on before they are ready: a letter, or the smallest picture.
TRIALS = (b"a", tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)).numpy())


class Batching(NamedTuple):
    """How requests are brought together.

    Attributes:
        max_size: int. Most instances in a batch.
        wait: float. Seconds that the first request of a batch waits for others, or `None`: see
            `seconds`.
        threads: int. Batches of one endpoint that are computed at the same time, or as many as it
            has queues.
        lengths: int for each bound between buckets of sentences, in bytes: a sentence waits for
            none that is in a bucket of longer ones.
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


class Limits(NamedTuple):
    """What a request may ask for.

    Attributes:
        instances: int. Sentences, images or other rows of a request.
        characters: int. Of a sentence.
        pixels: int. Height times width of the images of a request, read before they are decoded.
    """

    instances: int = 128
    characters: int = 2000
    pixels: int = 16_000_000


class Measured(NamedTuple):
    """What became of a call.

    Attributes:
        queue: float. Seconds until its batch was begun; its images are decoded in them.
        compute: float. Seconds until that was done.
        batches: int for each batch that this call was the first of: the instances in it.
    """

    queue: float
    compute: float
    batches: tuple[int, ...]


class Budget:
    """Shares out what many threads may hold at once; who finds too little left waits.

    Args:
        total: int.
    """

    def __init__(self, total: int):
        self._total, self._left, self._changed = total, total, threading.Condition()

    @contextlib.contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Holds an amount in a `with` block; more than the total means all of it."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


class Endpoint:
    """A signature with a queue of its own.

    Args:
        name: str, of the signature.
        signatures: the signatures of the model, by name. With `decode` and `NAME_pixels` among
            them, each request decodes its image files, and pixels are what is batched: a file
            that is no image harms no other request.
        batching: how requests are brought together, or `None` for one by one.
        limits: what a request may ask for.
    """

    _unique = itertools.count()
    _pixels = Budget(PIXELS_AT_ONCE)

    def __init__(self, name: str, signatures: Mapping, batching: Batching | None, limits: Limits):
        function = signatures[name]
        self.name = name
        self.specs = dict(function.structured_input_signature[1])
        self._limits = limits
        self._files = [key for key, x in self.specs.items() if key == IMAGE and _is_text(x)]
        self._texts = [key for key, x in self.specs.items() if key != IMAGE and _is_text(x)]
        self.outputs = frozenset(function.structured_outputs)
        self._function, batched, self._decode = function, function, None
        if self._files and {DECODE, name + PIXELS} <= signatures.keys():
            self._decode, batched = signatures[DECODE], signatures[name + PIXELS]
        self._batching = batching if _has_rows(batched) else None
        self._bounds = batching.lengths if self._batching and self._texts else ()
        queues = len(self._bounds) + 1 if self._batching else 0
        threads = max(1, batching.threads // queues) if queues else 0
        self._queues = [self._queue(batched, threads) for _ in range(queues)]

    def call(self, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Measured]:
        """Calls the signature; safe from any thread.

        Args:
            inputs: arrays by name, of the types and shapes in `specs`.

        Returns:
            Tuple of the outputs by name and what the call took.

        Raises:
            Refused: for more than the limits allow, an image that cannot be decoded, what the
                model itself refuses, and, with status 503, when the queue is full.
        """
        pixels = self._check(inputs)
        lengths = [len(text) for name in self._texts for text in inputs[name].flat]
        bucket = sum(max(lengths, default=0) > bound for bound in self._bounds)
        with self._pixels.hold(pixels):
            return self._call(bucket, inputs)

    def _call(self, bucket: int, inputs: Mapping[str, np.ndarray]) -> tuple[dict, Measured]:
        tensors = {name: tf.constant(x, self.specs[name].dtype) for name, x in inputs.items()}
        try:
            return self._in_batch(bucket, tensors) if self._queues else self._alone(tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise Refused(400, self._fault(inputs, error)) from None
        except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError):
            raise Refused(503, "The queue of this model is full; try again later.") from None

    def _in_batch(self, bucket: int, tensors: Mapping[str, tf.Tensor]) -> tuple[dict, Measured]:
        try:
            return self._queues[bucket](tensors)
        except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError):
            raise
        except tf.errors.OpError:
            return self._alone(tensors)  # The fault may lie in another's rows.

    def _alone(self, tensors: Mapping[str, tf.Tensor]) -> tuple[dict, Measured]:
        began = time.time()
        outputs = {name: _numpy(x) for name, x in self._function(**tensors).items()}
        return outputs, Measured(0.0, time.time() - began, (1,))

    def _fault(self, inputs: Mapping[str, np.ndarray], error: tf.errors.OpError) -> str:
        """Says what is wrong, and with which image."""
        for index, contents in enumerate(inputs[IMAGE] if self._decode else ()):
            try:
                self._decode(image=tf.constant([contents]))
            except tf.errors.InvalidArgumentError as found:
                return f"Image {index} cannot be used: {sentence(found)}"
        return sentence(error)

    def warm_up(self) -> None:
        """Calls the signature in all sizes, so that the first request finds nothing left to do.

        Raises:
            Exception: of any kind, when the model does not run.
        """
        sizes = [1]
        if self._batching:
            sizes = [n for n in self._batching.sizes() if n <= self._limits.instances]
        kinds = [(0, size) for size in sizes] + [(n, 1) for n in range(1, len(self._queues))]
        for number, text in enumerate(TRIALS):
            try:
                for bucket, size in kinds:
                    self._call(bucket, _trial(self.specs, text, size))
                return
            except Refused as error:
                if number + 1 == len(TRIALS):
                    logging.warning("Signature %s is not warmed up: %s", self.name, error)

    def _check(self, inputs: Mapping[str, np.ndarray]) -> int:
        """Refuses what is beyond the limits; returns the number of pixels."""
        most = self._limits
        many = [name for name, x in self.specs.items() if x.shape.rank and x.shape[0] is None]
        rows = max((len(inputs[name]) for name in many), default=1)
        if not 0 < rows <= most.instances:
            raise Refused(400, f"Expected 1 to {most.instances} instances, received {rows}.")
        for text in (text for name in self._texts for text in inputs[name].flat):
            if len(text) <= most.characters:
                continue  # It has no more characters than bytes.
            length = len(text.decode(errors="replace"))
            if length > most.characters:
                text = f"Expected at most {most.characters} characters, received {length}."
                raise Refused(400, text)
        pixels = 0
        for index, contents in enumerate(x for name in self._files for x in inputs[name].flat):
            found = fault(contents, most.pixels)
            if found:
                raise Refused(400, f"Image {index} cannot be used: {found}.")
            pixels += count_pixels(contents)
        if pixels > most.pixels:
            raise Refused(400, f"Expected at most {most.pixels} pixels, received {pixels}.")
        return pixels

    def _queue(self, function: Callable, threads: int) -> Callable:
        """Returns a function of tensors whose rows wait for those of other threads."""
        batching, names = self._batching, list(function.structured_outputs)
        keys = list(function.structured_input_signature[1])
        numbers = itertools.count()

        @tf.nondifferentiable_batch_function(
            threads,
            # What a request may bring; the largest of the sizes is what is computed at once.
            max(batching.max_size, self._limits.instances),
            round(1e6 * batching.seconds(bool(self._texts))),
            batching.sizes(),
            max_enqueued_batches=2**20,  # The threads that may wait are the bound.
            autograph=False,
        )
        def batch(number, *rows):
            began = tf.timestamp()
            with tf.control_dependencies([began]):
                rows = [tf.identity(x) for x in rows]
            outputs = function(**dict(zip(keys, rows, strict=True)))
            with tf.control_dependencies(list(outputs.values())):
                ended = tf.timestamp()
            # Rows that fill up a batch repeat others, their numbers too.
            size = tf.size(tf.unique(number)[0])
            facts = [began, ended, *(tf.cast(x, tf.float64) for x in (size, number[0]))]
            return [*(outputs[key] for key in names), tf.tile([facts], [tf.size(number), 1])]

        # Two functions with the same scope would share a queue, and answer for each other.
        scope = f"queue_{next(self._unique)}"

        def enqueue(number, *inputs):
            tensors = dict(zip(self.specs, inputs, strict=True))
            rows = self._decode(**tensors) if self._decode else tensors
            with tf.name_scope(scope):
                return batch(number, *(rows[key] for key in keys))

        signature = [tf.TensorSpec([None], tf.int64), *self.specs.values()]
        enqueue = tf.function(enqueue, signature, autograph=False).get_concrete_function()

        def call(tensors):
            rows = [tensors[key] for key in self.specs]
            own = tf.constant([next(numbers) for _ in range(len(rows[0]))], tf.int64)
            asked = time.time()
            *outputs, facts = (x.numpy() for x in enqueue(own, *rows))
            began, ended, sizes, firsts = facts.T
            batches = tuple(sizes[firsts == own.numpy()].astype(int).tolist())
            waited, computed = began.min() - asked, ended.max() - began.min()
            measured = Measured(max(0.0, waited), computed, batches)
            return dict(zip(names, outputs, strict=True)), measured

        return call


def _trial(specs: Mapping[str, tf.TensorSpec], text: bytes, size: int) -> dict[str, np.ndarray]:
    """Makes up `size` instances: a text again and again, or zeros."""
    trial = {}
    for name, spec in specs.items():
        shape = [n or 1 for n in spec.shape.as_list()] if spec.shape.rank else []
        shape[:1] = [spec.shape[0] or size] if shape else []
        kind = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
        trial[name] = np.full(shape, text if kind is object else 0, kind)
    return trial


def _numpy(tensor: tf.Tensor) -> np.ndarray:
    return np.array(tensor.numpy(), tensor.dtype.as_numpy_dtype)  # One string comes as `bytes`.


def _is_text(spec: tf.TensorSpec) -> bool:
    return spec.dtype == tf.string


def _has_rows(function: Callable) -> bool:
    specs = list(function.structured_input_signature[1].values())
    return bool(specs) and all(
        spec.shape.rank and spec.shape[0] is None and spec.shape[1:].is_fully_defined()
        for spec in [*specs, *function.structured_outputs.values()]
    )
