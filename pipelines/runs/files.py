"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | os.PathLike, write: Callable[[str], object]) -> None:
    """Writes a file under a temporary name beside it and renames it.

    Args:
        path: the file.
        write: function that writes the file of the name it is given; the name has the suffix of
            `path`.
    """
    path = Path(path)
    # Always of the same name, so that the next write replaces what a killed one left.
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        write(str(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file atomically."""
    write_atomically(path, lambda name: Path(name).write_bytes(content))
