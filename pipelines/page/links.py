"""The links that lead back to what the page showed, and how it writes text into HTML.

A link is a query such as `?model=m30k&text=A+dog.` or `?model=cifar10&picture=<SHA-256>&view=2.3`.
"""

import atexit
import html
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

MAX_CHARACTERS = 2000  # of a text to translate
MAX_PICTURES = 1000  # kept in a folder; beyond that, the least recently used are deleted
DIGEST = re.compile("[0-9a-f]{64}")


class State(NamedTuple):
    """What is shown: a model, and the text or the picture that it was given.

    Fields:
        model: name of the model.
        text: what was to be translated.
        picture: SHA-256 of a picture that is kept.
        view: which of the maps of attention is shown: `"2.3"` is head 3 of layer 2.
    """

    model: str = ""
    text: str = ""
    picture: str = ""
    view: str = ""

    def link(self) -> str:
        """Writes the query that leads back here."""
        return "?" + urlencode({key: value for key, value in self._asdict().items() if value})


def read_link(query: Mapping[str, str]) -> State:
    """Reads the query of a link, and ignores keys that no link has.

    Example:

    >>> read_link({"model": "m30k", "text": "A dog.", "theme": "dark"}).link()
    '?model=m30k&text=A+dog.'
    """
    return State(**{key: query[key] for key in State._fields if key in query})


def alert(sentence: str) -> str:
    """Writes a sentence about what the user did wrong as HTML."""
    return f'<p class="fault" role="alert">{html.escape(sentence)}</p>'


def anchor(state: State, text: str) -> str:
    """Writes a link to a state as HTML."""
    return f'<a class="permanent" href="{html.escape(state.link())}">{html.escape(text)}</a>'


class Pictures:
    """Keeps pictures in a folder under their SHA-256, so that a link can name them.

    Args:
        folder: path, made where it is missing. `None` is a folder that ends with the program.
        limit: int. Number of pictures to keep.
    """

    def __init__(self, folder: str | os.PathLike | None = None, limit: int = MAX_PICTURES):
        if not folder:
            folder = tempfile.mkdtemp(prefix="pictures-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._limit = limit

    def keep(self, contents: bytes) -> str:
        """Keeps a picture, whole or not at all, and returns its SHA-256."""
        name = sha256(contents).hexdigest()
        path = self.folder / f"{name}.png"
        if not _use(path):
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                file.write(contents)
            os.replace(file.name, path)
        # Another thread may delete the same picture at the same moment.
        for old in sorted(self.folder.glob("*.png"), key=_last_used)[: -self._limit]:
            old.unlink(missing_ok=True)
        return name

    def read(self, name: str) -> bytes | None:
        """Reads the picture of a link, or returns `None` where there is none."""
        path = self.folder / f"{name}.png"
        if not DIGEST.fullmatch(name) or not _use(path):
            return None
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _use(path):
    """Marks a picture as used, and returns whether it exists."""
    try:
        os.utime(path)
        return True
    except FileNotFoundError:  # Another thread may just have deleted it.
        return False


def _last_used(path):
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
