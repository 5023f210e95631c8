"""The versions of a model: SavedModels that are loaded, tried out, and replaced."""

import hashlib
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_text  # noqa: F401 (it registers the tokenizer's operations)
from absl import logging
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from pipelines.error_sentence import sentence
from pipelines.exported.models import read_saved_model
from pipelines.exported.operations import foreign_operation
from pipelines.serving.endpoint import Budget, Endpoint, Limits
from pipelines.serving.payload import RequestError
from pipelines.serving.queue import Batching

PATIENCE = 300.0  # most seconds between two attempts to load a version
# Files whose contents tell apart what is of one size and time: the checksums of the variables, and
# those of the whole SavedModel.
PARTS = ("saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "variables", "assets")
CONTENTS = ("variables.index", "fingerprint.pb")


class Settings(NamedTuple):
    """How models are served.

    Attributes:
        batching: how requests are brought together, `None` for one by one.
        limits: what a request may ask for.
        versions: int. How many of the newest versions are served.
        waiting: int. Most requests of a model that wait or are computed. Others are refused.
        trust: bool. Whether models may reach files, the network and Python.
    """

    batching: Batching | None = Batching()
    limits: Limits = Limits()
    versions: int = 1
    waiting: int = 256
    trust: bool = False


class Version:
    """One SavedModel.

    Args:
        folder: path of the SavedModel.
        number: int.
        settings: how it is served.
        pixels: budget of pixels, as in `Model`.

    Raises:
        Exception: of any kind, when the folder cannot be loaded; a `ValueError` before anything of
            the model runs, when it has operations that `settings.trust` does not allow.
    """

    def __init__(self, folder: Path, number: int, settings: Settings, pixels: Budget):
        self.number = number
        saved = read_saved_model(folder)
        foreign = None if settings.trust else foreign_operation(saved)
        if foreign:
            raise ValueError(
                f"it has {foreign}, which may reach files, the network or Python; "
                "--trust_model serves it nevertheless"
            )
        self._signatures = _signature_def(saved)
        self._loaded = tf.saved_model.load(str(folder))  # owns the variables
        loaded = self._loaded.signatures
        if not loaded:
            raise ValueError("it has no signatures")
        self._rules = settings.limits, pixels
        self.endpoints = {
            name: Endpoint(name, loaded, settings.batching, *self._rules) for name in loaded
        }

    def warm_up(self, is_careful: bool = False) -> None:
        """Calls every signature in all sizes.

        Args:
            is_careful: bool. Whether to call each by itself first. TensorFlow never frees a queue,
                so a version that has failed should fail again before it has any.

        Raises:
            Exception: of any kind, when the model does not run.
        """
        for name in self.endpoints if is_careful else ():
            Endpoint(name, self._loaded.signatures, None, *self._rules).warm_up()
        for endpoint in self.endpoints.values():
            endpoint.warm_up()

    def metadata(self, name: str) -> dict[str, Any]:
        """Describes the signatures as `GetModelMetadataResponse` does."""
        spec = {"name": name, "signature_name": "", "version": str(self.number)}
        return {"model_spec": spec, "metadata": {"signature_def": self._signatures}}

    def endpoint(self, name: str) -> Endpoint:
        """Finds a signature, or raises a `RequestError`."""
        if name not in self.endpoints:
            raise RequestError(400, f"There is no signature '{name}': {sorted(self.endpoints)}.")
        return self.endpoints[name]


class _Known:
    """What is known of a numbered folder.

    Attributes:
        version: what is served, `None` before anything could be loaded.
        tried: fingerprint of the files that were last loaded, or could not be.
        seen: fingerprint of the files at the last look.
        error: why they could not be loaded, empty if they could.
        pause, again: seconds until the next attempt, and when that is.
    """

    version: Version | None = None
    tried: Any = None
    seen: Any = None
    error: str = ""
    pause: float = 0.5
    again: float = 0.0


class Loader:
    """Loads the versions of a model, again when their files change, or later when they failed.

    Args:
        name: str, of the model.
        settings: how it is served.
        pixels: budget of pixels, as in `Model`.
        clock: returns seconds.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        pixels: Budget,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._name, self._settings, self._pixels, self._clock = name, settings, pixels, clock
        self._known: dict[int, _Known] = {}

    @property
    def errors(self) -> Mapping[int, str]:
        """Why versions could not be loaded, by number, also those whose older files are served."""
        return {number: one.error for number, one in dict(self._known).items() if one.error}

    def version(self, number: int, folder: Path) -> Version | None:
        """Returns the version of a folder, `None` if it has none that can be served.

        It is loaded when it is new; when its files have been replaced, and rest since the last
        look; and again after a failure, with a pause that doubles up to five minutes. Until then
        the one from before is returned.
        """
        known = self._known.setdefault(number, _Known())
        try:
            files, before = fingerprint(folder), known.seen
        except OSError as error:  # One may not be read; loading says which.
            files, before = [(sentence(error),)], known.seen
        known.seen = files
        if files == known.tried:
            if not known.error or self._clock() < known.again:
                return known.version
        elif known.tried is not None and files != before:
            return known.version  # Somebody may be writing.
        else:
            known.pause = _Known.pause
        known.tried = files
        self._load(known, number, folder)
        return known.version

    def keep(self, served: Container[int], present: Container[int]) -> None:
        """Forgets all versions but those that are served, and failures whose folders are there."""
        self._known = {
            number: one
            for number, one in self._known.items()
            if number in served or (number in present and not one.version)
        }

    def _load(self, known: _Known, number: int, folder: Path) -> None:
        began, had = self._clock(), known.version
        try:
            version = Version(folder, number, self._settings, self._pixels)
            if fingerprint(folder) != known.tried:
                return  # They have changed meanwhile, and the next look sees that.
            version.warm_up(is_careful=bool(known.error))
        except Exception as error:  # A damaged file may raise anything, IndexError too.
            known.error = sentence(error)
            known.pause = min(2 * known.pause, PATIENCE)
            known.again = self._clock() + known.pause
            when = f"it is tried again in {known.pause:g} s, or when its files change"
            reason = known.error.rstrip(".")
            logging.error("%s: %s cannot be served: %s; %s.", self._name, folder, reason, when)
            return
        known.version, known.error = version, ""
        seconds = self._clock() - began
        logging.info("%s: version %d is ready after %.1f s.", self._name, number, seconds)
        if had:
            logging.warning("%s: version %d was replaced by other files.", self._name, number)


def fingerprint(folder: Path) -> list[tuple]:
    """Describes the files of a SavedModel by names, sizes, times and what tells their contents.

    Other files in the folder, such as notes and logs, are left out.
    """
    found = []
    paths = (path for path in folder.rglob("*") if path.relative_to(folder).parts[0] in PARTS)
    for path in sorted(path for path in paths if path.is_file()):
        contents = path.read_bytes() if path.name in CONTENTS else b""
        digest, facts = hashlib.blake2b(contents).digest(), path.stat()
        name = str(path.relative_to(folder))
        found.append((name, facts.st_size, facts.st_mtime_ns, digest))
    return found


def _signature_def(saved: saved_model_pb2.SavedModel) -> dict[str, Any]:
    """Reads the signatures of a SavedModel as JSON."""
    options = {"always_print_fields_with_no_presence": True, "preserving_proto_field_name": True}
    signatures = saved.meta_graphs[0].signature_def
    return {
        "signature_def": {
            name: json_format.MessageToDict(signatures[name], **options) for name in signatures
        }
    }
