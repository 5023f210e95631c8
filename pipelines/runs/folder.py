"""The folder of one run: `config.json`, `metrics.jsonl`, `curves.png`, all written atomically."""

import base64
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import ml_collections

from pipelines.runs.config import (
    FIXED_KEYS,
    FREE_KEYS,
    differences,
    is_among,
    read_config,
    write_config,
)

# What a task makes of its data before the first step.
PREPARED = ("tokenizer.model", "images.json")


def start(
    workdir: str | os.PathLike, config: ml_collections.ConfigDict, allow_changes: bool = False
) -> None:
    """Makes the folder of a run, or checks that it belongs to the same run.

    A run without a checkpoint or an export, say for a wrong path in its config, is begun anew; that
    of a run that goes on is written when all is known to fit (`write_config`).

    Args:
        workdir: folder of the run.
        config: the resolved config.
        allow_changes: whether keys may change that decide how a model is trained.

    Raises:
        ValueError: when the folder cannot be written, or holds a run of another task, other data
            or another model; the sentence names the first key that differs.
    """
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if any(workdir.glob("checkpoints/**/step-*")) or any(workdir.glob("export*/*")):
            for key, (old, new) in differences(read_config(workdir), config).items():
                if is_among(key, FREE_KEYS):
                    continue
                hint = "choose another --workdir or the same config"
                if not is_among(key, FIXED_KEYS):
                    if allow_changes:
                        continue
                    hint += ", or give --allow_changes"
                raise ValueError(f"{workdir} holds a run with {key}={old!r}, not {new!r}: {hint}.")
            return
        if (workdir / "config.json").exists():
            changed = differences(read_config(workdir), config)
            if any(is_among(key, FIXED_KEYS) for key in changed):
                for name in PREPARED:
                    (workdir / name).unlink(missing_ok=True)
        write_config(workdir, config)
    except OSError as error:
        raise ValueError(f"The folder {workdir} cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def locked(workdir: str | os.PathLike) -> Iterator[None]:
    """Keeps every other process from training in a folder, for the length of a `with` block.

    Raises:
        ValueError: when one does so already.
    """
    with open(Path(workdir) / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"Another process trains in {workdir} already.") from None
        yield


def read_prepared(workdir: str | os.PathLike) -> dict[str, str]:
    """Reads what a task has made of its data: base64 by the name of the file."""
    found = {name: Path(workdir, name) for name in PREPARED}
    return {
        name: base64.b64encode(path.read_bytes()).decode()
        for name, path in found.items()
        if path.exists()
    }


def write_prepared(workdir: str | os.PathLike, files: dict[str, str]) -> None:
    """Writes what `read_prepared` has read in another folder."""
    for name, text in files.items():
        Path(workdir, name).write_bytes(base64.b64decode(text))
