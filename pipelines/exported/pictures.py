"""The files that pictures of several answers go to."""

import os
from pathlib import Path

from kerasformer.explain.pictures import PICTURES


def picture_paths(flag: str, path: str | os.PathLike, count: int) -> list[Path]:
    """Lists a path for each of `count` pictures: `a.png` itself, or `a-1.png`, `a-2.png` and so on.

    Args:
        flag: str. The flag that gave the path, for errors.
        path: where the picture is to be, if there is one only.
        count: int. Number of pictures.

    Raises:
        ValueError: when they cannot be written, before any work is done.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"--{flag}={path} should end in one of {PICTURES}.")
    if not path.parent.is_dir():
        raise ValueError(f"--{flag}={path} cannot be written: {path.parent} is no folder.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--{flag}={path} cannot be written there.")
    if count == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{number}") for number in range(1, count + 1)]
