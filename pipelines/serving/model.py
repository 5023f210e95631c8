"""A model that is served: the versions in a folder, loaded as they appear, and their answers."""

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from pipelines.exported.models import versions
from pipelines.serving import payload
from pipelines.serving.cancellation import CANCELLED, Cancellation, Cancelled
from pipelines.serving.endpoint import PIXELS_AT_ONCE, Budget
from pipelines.serving.payload import RequestError
from pipelines.serving.version import Loader, Settings, Version

DEFAULT = "serving_default"
PREDICT, CLASSIFY, REGRESS = "predict", "classify", "regress"
CLASSES, SCORES = "class_names", "probabilities"  # the outputs of a signature that classifies


class Answer(NamedTuple):
    """The answer to a request, and what it took.

    Attributes:
        body: bytes of JSON.
        version: int, of the model.
        signature: str.
        instances: int.
        batches: int for each batch in which the request had the first row: the instances in it.
        seconds: float for each stage, by name.
    """

    body: bytes
    version: int
    signature: str
    instances: int
    batches: tuple[int, ...]
    seconds: Mapping[str, float]


class Model:
    """The versions of a model that are served.

    Args:
        name: str, as in the URL.
        folder: path of a SavedModel, or of a folder of numbered versions that may come and go.
        settings: how it is served.
        labels: version by label.
        pixels: budget of the pixels that are decoded at the same time, for all models that share
            the memory of a machine; unset, the model has one of its own.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: Settings,
        labels: Mapping[str, int] | None = None,
        pixels: Budget | None = None,
    ):
        self.name, self._folder, self._settings = name, folder, settings
        self._labels = dict(labels or {})
        self._pixels = pixels or Budget(PIXELS_AT_ONCE)
        self.versions: dict[int, Version] = {}
        self._loader, self._looked = Loader(name, settings, self._pixels), False
        self._threads = ThreadPoolExecutor(settings.waiting, f"model-{name}")
        self._slots = threading.BoundedSemaphore(settings.waiting)

    def refresh(self) -> None:
        """Loads versions that are new or replaced, and drops those that newer ones follow.

        A version that cannot be loaded is reported in the log and in `status`, and tried again
        later and when its files have changed; the versions before it go on.
        """
        folders = dict(sorted(versions(self._folder).items(), reverse=True))
        wanted: dict[int, Version] = {}
        for number, folder in folders.items():
            if len(wanted) < self._settings.versions or number in self._labels.values():
                version = self._loader.version(number, folder)
                wanted |= {number: version} if version else {}
        self._loader.keep(wanted or self.versions, folders)
        if wanted and wanted != self.versions:
            if self._looked and wanted.keys() != self.versions.keys():
                # Worth a line in any log, so not only an `info`.
                gone = sorted(self.versions.keys() - wanted.keys())
                logging.warning("%s: serving %s, gone %s.", self.name, sorted(wanted), gone)
            self.versions = wanted  # In one step: requests that have begun keep their version.
        self._looked = True

    def find(self, number: int | None = None, label: str | None = None) -> Version:
        """Finds the newest version, or that of a number or a label, or raises a `RequestError`."""
        if label is not None and label not in self._labels:
            raise RequestError(404, f"Model '{self.name}' has no version with the label '{label}'.")
        number = self._labels[label] if label is not None else number
        versions = self.versions  # Another thread may replace them.
        if not versions:
            empty = "has no version in its folder" if self._looked else "is loading"
            state = "has no version that could be loaded" if self._loader.errors else empty
            raise RequestError(503, f"Model '{self.name}' {state}; try again later.")
        if number is None:
            return versions[max(versions)]
        if number not in versions:
            raise RequestError(404, f"Model '{self.name}' has no version {number} that is served.")
        return versions[number]

    def load_error(self) -> str:
        """Explains why there is no version to serve."""
        errors = self._loader.errors
        if not errors:
            return f"{self._folder} holds no SavedModel, nor numbered folders with one."
        return "; ".join(f"version {n}: {text}" for n, text in errors.items())

    async def metadata(self, number: int | None, label: str | None) -> dict[str, Any]:
        """Describes the signatures of a version as `GetModelMetadataResponse` does."""
        return self.find(number, label).metadata(self.name)

    async def status(self, number: int | None, label: str | None) -> dict[str, Any]:
        """Describes versions as `GetModelStatusResponse` does: one, or all, newest first."""
        versions, errors = self.versions, self._loader.errors
        numbers = {*versions, *errors}
        if label is not None or number not in {None, *errors} or not numbers:
            numbers = {self.find(number, label).number}
        elif number is not None:
            numbers = {number}
        states = [_state(n, n in versions, errors.get(n)) for n in sorted(numbers, reverse=True)]
        return {"model_version_status": states}

    async def answer(self, verb: str, number: int | None, label: str | None, body: bytes) -> Answer:
        """Answers a request. When it is cancelled before it is computed, it is not computed.

        Args:
            verb: `"predict"`, `"classify"` or `"regress"`.
            number, label: of the version; the newest where both are `None`.
            body: bytes of JSON.

        Raises:
            RequestError: when it cannot be answered.
        """
        version = self.find(number, label)
        if not self._slots.acquire(blocking=False):
            text = f"Too many requests wait for model '{self.name}'; try again later."
            raise RequestError(503, text)
        try:
            limits, cancellation = self._settings.limits, Cancellation()
            future = self._threads.submit(
                _answer, verb, version, body, limits.instances, cancellation
            )
        except RuntimeError:  # The system gives no more threads.
            self._slots.release()
            raise RequestError(503, "The server has no thread for this; try again later.") from None
        # A caller who gives up keeps the slot until the work is done.
        future.add_done_callback(self._end)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    def _end(self, future: Future) -> None:
        self._slots.release()
        if future.cancelled() or isinstance(future.exception(), Cancelled):
            CANCELLED.labels(self.name).inc()


def _state(number: int, is_served: bool, error: str | None) -> dict[str, Any]:
    """Describes a version; one that is served and has an error was replaced by broken files."""
    if error and is_served:
        error = f"its new files cannot be served, and the old ones go on: {error}"
    status = {"error_code": "UNKNOWN" if error else "OK", "error_message": error or ""}
    return {"version": str(number), "state": "AVAILABLE" if is_served else "END", "status": status}


def _answer(
    verb: str, version: Version, body: bytes, max_rows: int, cancellation: Cancellation
) -> Answer:
    cancellation.check()  # Its thread may have begun late.
    began = time.perf_counter()
    request = payload.parse(body)
    if verb != PREDICT:
        request = _rows_of_examples(request)
    signature = payload.name_of(request, DEFAULT)
    endpoint = version.endpoint(signature)
    classifies, regresses = endpoint.outputs >= {CLASSES, SCORES}, len(endpoint.outputs) == 1
    if not {PREDICT: True, CLASSIFY: classifies, REGRESS: regresses}[verb]:
        raise RequestError(400, f"Signature '{signature}' does not {verb}; use :predict.")
    inputs, is_rows = payload.inputs(request, endpoint.specs, max_rows)
    read = time.perf_counter()
    outputs, measured = endpoint.call(inputs, cancellation)
    called = time.perf_counter()
    if verb == PREDICT:
        body = payload.answer(outputs, is_rows)
    else:
        body = payload.dump({"results": _results(verb, outputs)})
    seconds = {"read": read - began, "queue": measured.queue, "compute": measured.compute}
    seconds["write"] = time.perf_counter() - called
    rows = max((len(x) for x in inputs.values() if x.ndim), default=1)
    return Answer(body, version.number, signature, rows, measured.batches, seconds)


def _rows_of_examples(request: Mapping[str, Any]) -> dict[str, Any]:
    """Turns `examples` and `context` into the `instances` of a `:predict`."""
    examples, context = request.get("examples"), request.get("context", {})
    text = "Expected 'examples' to be a list of objects, one for each example."
    if not isinstance(examples, list) or not isinstance(context, dict):
        raise RequestError(400, text)
    if not all(isinstance(example, dict) for example in examples):
        raise RequestError(400, text)
    rows = [context | example for example in examples]
    rows = [
        {name: x[0] if isinstance(x, list) and len(x) == 1 else x for name, x in row.items()}
        for row in rows
    ]
    rest = {name: x for name, x in request.items() if name not in ("examples", "context")}
    return {**rest, payload.ROWS: rows}


def _results(verb: str, outputs: Mapping[str, np.ndarray]) -> list:
    """Lists the answers to `:classify`, pairs for each example, or to `:regress`, a number each."""
    if verb == REGRESS:
        (value,) = outputs.values()
        if value.dtype.kind not in "iuf" or value.shape[1:] not in ((), (1,)):
            raise RequestError(400, "The signature does not give one number for each example.")
        return [x for name, value in outputs.items() for x in payload.plain(name, value.ravel())]
    if outputs[CLASSES].shape != outputs[SCORES].shape or not outputs[CLASSES].ndim:
        raise RequestError(400, f"The signature does not give as many {CLASSES} as {SCORES}.")
    columns = [(key, outputs[key].reshape(len(outputs[key]), -1)) for key in (CLASSES, SCORES)]
    names, scores = (payload.plain(*column) for column in columns)
    return [list(zip(*pair, strict=True)) for pair in zip(names, scores, strict=True)]
