"""The API keys of a server: their file, and who may pass without one."""

import hmac
import os
import stat
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from absl import logging
from starlette.responses import Response

from pipelines.error_sentence import sentence

SECONDS = 1.0  # between two looks at the file
# Need no key: health, and the page of the routes, which holds nothing secret.
OPEN = ("/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json")
PAGE_FILES = "/static-offline-docs/"
SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer"},
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class Keys:
    """The keys in a file, one in each line, which is read again when it has changed.

    A changed file that cannot be read, or holds no keys, is reported in the log; the keys before it
    stay.

    Args:
        path: path of the file.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it has no key, or a line that is none.
    """

    def __init__(self, path: str | os.PathLike):
        self._path, self._looked = Path(path), time.monotonic()
        self._state = self._fingerprint()
        self._digests = self._read()

    def know(self, shown: bytes) -> bool:
        """Tells whether a key is one of the file's."""
        now = time.monotonic()
        if not 0 <= now - self._looked < SECONDS:
            self._looked = now
            self._refresh()
        digest = sha256(shown).digest()
        # With each of them and as digests, so that the time tells nothing, nor of their lengths.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def _refresh(self) -> None:
        state = self._fingerprint()
        if state == self._state:
            return
        self._state = state
        try:
            if state is None:  # A pipe would be waited for.
                raise ValueError(f"--api_keys={self._path} is no file any more.")
            self._digests = self._read()
        except (OSError, ValueError) as error:
            logging.error("The API keys stay as they were: %s", sentence(error))
        else:
            logging.warning("Read --api_keys=%s again: %d keys.", self._path, len(self._digests))

    def _fingerprint(self) -> Any:
        """Describes the state of the file; a pipe, which can be read only once, never changes."""
        try:
            found = self._path.stat()
        except OSError as error:
            return str(error)
        if not stat.S_ISREG(found.st_mode):
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read(self) -> list[bytes]:
        text = self._path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # which some editors write
        lines = [line.strip() for line in text.splitlines()]
        for number, line in enumerate(lines, 1):
            if any(byte < 32 or byte == 127 for byte in line):
                raise ValueError(f"--api_keys={self._path} has control codes in line {number}.")
        if not any(lines):
            raise ValueError(f"--api_keys={self._path} has no key in it.")
        return [sha256(line).digest() for line in dict.fromkeys(filter(None, lines))]


class Guard:
    """An ASGI application that asks for a key, `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Args:
        app: the ASGI application.
        keys: the keys that open it.
        refuse: makes the answer to a request without a key that is known.
    """

    def __init__(self, app, keys: Keys, refuse: Callable[[], Response]):
        self._app, self._keys, self._refuse = app, keys, refuse

    async def __call__(self, scope, receive, send):
        """Handles one connection or request."""
        app = self._app
        if scope["type"] == "http" and not _is_open(scope["path"]):
            headers = dict(scope["headers"])
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            token = headers.get(b"x-api-key", token if scheme.lower() == b"bearer" else b"")
            app = app if self._keys.know(token) else self._refuse()
        await app(scope, receive, send)


def describe(schema: Mapping[str, Any]) -> None:
    """Adds to an OpenAPI description how keys are shown, and which routes ask for one."""
    schema["components"]["securitySchemes"] = SCHEMES
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if _is_open(path) else [{name: []} for name in SCHEMES]


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(PAGE_FILES)
