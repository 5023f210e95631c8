"""One signature of a SavedModel, called by many threads at once and computed in batches.

A signature is batched if its inputs and outputs have a row for each instance, of a size that is
known; another one, such as the alignment of words, runs for each request alone.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from pipelines.error_sentence import sentence
from pipelines.images.files import count_pixels, fault
from pipelines.serving.cancellation import Cancellation
from pipelines.serving.payload import RequestError
from pipelines.serving.queue import Batching, Measured, Queue

IMAGE, PIXELS = "image", "_pixels"
PIXELS_AT_ONCE = 64_000_000  # of the images that are decoded at the same time
DECODE = "decode"  # the signature from image files to what a signature `..._pixels` takes
# Inputs that signatures are warmed up with: a letter, or the smallest picture.
TRIALS = (b"a", tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)).numpy())


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


class Budget:
    """Limits what many threads hold together: a thread waits until enough is left.

    Args:
        total: int.
    """

    def __init__(self, total: int):
        self._total, self._left, self._changed = total, total, threading.Condition()

    @contextlib.contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Takes an amount, at most the total, and gives it back after the `with` block."""
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
    """A signature with queues of its own, one for each range of lengths.

    Args:
        name: str, of the signature.
        signatures: the signatures of the model, by name. With `decode` and `NAME_pixels` among
            them, each request decodes its own image files and the pixels are batched, so that a
            file that is no image harms no other request.
        batching: how requests are brought together, or `None` for one by one.
        limits: what a request may ask for.
        pixels: budget of pixels, shared with other endpoints.
    """

    def __init__(
        self,
        name: str,
        signatures: Mapping,
        batching: Batching | None,
        limits: Limits,
        pixels: Budget,
    ):
        function = signatures[name]
        self.name = name
        self.specs = dict(function.structured_input_signature[1])
        self._limits, self._pixels = limits, pixels
        self._files = [key for key, x in self.specs.items() if key == IMAGE and _is_text(x)]
        self._texts = [key for key, x in self.specs.items() if key != IMAGE and _is_text(x)]
        self.outputs = frozenset(function.structured_outputs)
        self._function, batched, self._decode = function, function, None
        if self._files and {DECODE, name + PIXELS} <= signatures.keys():
            self._decode, batched = signatures[DECODE], signatures[name + PIXELS]
        self._batching = batching if _has_rows(batched) else None
        self._bounds: tuple[int, ...] = ()
        self._queues: list[Queue] = []
        if self._batching:
            self._bounds = self._batching.lengths if self._texts else ()
            self._queues = self._make_queues(batched, self._batching)

    def call(
        self, inputs: Mapping[str, np.ndarray], cancellation: Cancellation | None = None
    ) -> tuple[dict[str, np.ndarray], Measured]:
        """Calls the signature; safe from any thread.

        Args:
            inputs: arrays by name, of the types and shapes in `specs`.
            cancellation: of the call, or `None` for one that is not cancelled.

        Returns:
            Tuple of the outputs by name and what the call took.

        Raises:
            Cancelled: when the call was cancelled before it was computed.
            RequestError: when the inputs exceed the limits, an image cannot be decoded, or the
                model refuses them; with status 503, when the queue is full.
        """
        pixels = self._check(inputs)
        lengths = [len(text) for name in self._texts for text in inputs[name].flat]
        bucket = sum(max(lengths, default=0) > bound for bound in self._bounds)
        with self._pixels.hold(pixels):
            return self._call(bucket, inputs, cancellation or Cancellation())

    def _call(
        self, bucket: int, inputs: Mapping[str, np.ndarray], cancellation: Cancellation
    ) -> tuple[dict, Measured]:
        cancellation.check()  # Its turn may have come late.
        tensors = {name: tf.constant(x, self.specs[name].dtype) for name, x in inputs.items()}
        try:
            if self._queues:
                return self._in_batch(bucket, tensors, cancellation)
            return self._alone(tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise RequestError(400, self._explain(inputs, error)) from None
        except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError):
            raise RequestError(503, "The queue of this model is full; try again later.") from None

    def _in_batch(
        self, bucket: int, tensors: Mapping[str, tf.Tensor], cancellation: Cancellation
    ) -> tuple[dict, Measured]:
        try:
            return self._queues[bucket](tensors, cancellation)
        except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError):
            raise
        except tf.errors.OpError:
            cancellation.check()
            return self._alone(tensors)  # Rows of another request may have caused the error.

    def _alone(self, tensors: Mapping[str, tf.Tensor]) -> tuple[dict, Measured]:
        began = time.time()
        outputs = {name: _numpy(x) for name, x in self._function(**tensors).items()}
        return outputs, Measured(0.0, time.time() - began, (1,))

    def _explain(self, inputs: Mapping[str, np.ndarray], error: tf.errors.OpError) -> str:
        """Finds the image that cannot be decoded, and explains the error in one sentence."""
        if self._decode is None:
            return sentence(error)
        for index, contents in enumerate(inputs[IMAGE]):
            try:
                self._decode(image=tf.constant([contents]))
            except tf.errors.InvalidArgumentError as own_error:
                return f"Image {index} cannot be used: {sentence(own_error)}"
        return sentence(error)

    def warm_up(self) -> None:
        """Calls the signature in all sizes, so that no request waits for a first call.

        Raises:
            Exception: of any kind, when the model does not run.
        """
        sizes = [1]
        if self._batching:
            sizes = [n for n in self._batching.sizes() if n <= self._limits.instances]
        calls = [(0, size) for size in sizes] + [(n, 1) for n in range(1, len(self._queues))]
        for number, text in enumerate(TRIALS):
            try:
                for bucket, size in calls:
                    self._call(bucket, _trial(self.specs, text, size), Cancellation())
                return
            except RequestError as error:
                if number + 1 == len(TRIALS):
                    logging.warning("Signature %s is not warmed up: %s", self.name, error)

    def _check(self, inputs: Mapping[str, np.ndarray]) -> int:
        """Refuses what is beyond the limits, and returns the number of pixels."""
        limits = self._limits
        many = [name for name, x in self.specs.items() if x.shape.rank and x.shape[0] is None]
        rows = max((len(inputs[name]) for name in many), default=1)
        if not 0 < rows <= limits.instances:
            raise RequestError(400, f"Expected 1 to {limits.instances} instances, received {rows}.")
        for text in (text for name in self._texts for text in inputs[name].flat):
            if len(text) <= limits.characters:
                continue  # A text has no more characters than bytes.
            length = len(text.decode(errors="replace"))
            if length > limits.characters:
                text = f"Expected at most {limits.characters} characters, received {length}."
                raise RequestError(400, text)
        pixels = 0
        for index, contents in enumerate(x for name in self._files for x in inputs[name].flat):
            reason = fault(contents, limits.pixels)
            if reason:
                raise RequestError(400, f"Image {index} cannot be used: {reason}.")
            pixels += count_pixels(contents)
        if pixels > limits.pixels:
            raise RequestError(400, f"Expected at most {limits.pixels} pixels, received {pixels}.")
        return pixels

    def _make_queues(
        self, function: tf.types.experimental.ConcreteFunction, batching: Batching
    ) -> list[Queue]:
        """Makes the queue of each bucket of lengths; they share the threads."""
        count = len(self._bounds) + 1
        return [
            Queue(
                function,
                self._decode,
                self.specs,
                batching,
                seconds=batching.seconds(bool(self._texts)),
                threads=max(1, batching.threads // count),
                max_rows=self._limits.instances,
            )
            for _ in range(count)
        ]


def _trial(specs: Mapping[str, tf.TensorSpec], text: bytes, size: int) -> dict[str, np.ndarray]:
    """Makes `size` instances of one text, or of zeros."""
    trial = {}
    for name, spec in specs.items():
        shape = [n or 1 for n in spec.shape.as_list()] if spec.shape.rank else []
        shape[:1] = [spec.shape[0] or size] if shape else []
        dtype = object if _is_text(spec) else spec.dtype.as_numpy_dtype
        trial[name] = np.full(shape, text if _is_text(spec) else 0, dtype)
    return trial


def _numpy(tensor: tf.Tensor) -> np.ndarray:
    return np.array(tensor.numpy(), tensor.dtype.as_numpy_dtype)  # One string comes as `bytes`.


def _is_text(spec: tf.TensorSpec) -> bool:
    return spec.dtype == tf.string


def _has_rows(function: tf.types.experimental.ConcreteFunction) -> bool:
    specs = list(function.structured_input_signature[1].values())
    return bool(specs) and all(
        spec.shape.rank and spec.shape[0] is None and spec.shape[1:].is_fully_defined()
        for spec in [*specs, *function.structured_outputs.values()]
    )
