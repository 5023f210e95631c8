"""Checkpoints: numbered folders that are whole or absent, newest last.

A checkpoint is a folder `step-00001000` with `arrays.npz` (numpy, nothing pickled) and
`state.json` (numbers, and the SHA-256 of these and of the arrays). It is written under a temporary
name and renamed, so that a run killed at any moment leaves either the whole of it or nothing.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# The weights of a run that can be evaluated: the average of the kept checkpoints, those of the best
# one by validation, or of the last one.
WEIGHTS = ("average", "best", "last")


class Checkpoints:
    """Saves, lists, loads and averages the checkpoints of one folder.

    Args:
        folder: path. Made when the first checkpoint is saved.
        keep: int. Number of newest checkpoints that are kept.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 3):
        if keep < 1:
            raise ValueError(f"Expected to keep at least one checkpoint, received keep={keep}.")
        self.folder = Path(folder)
        self.keep = keep

    def paths(self) -> list[Path]:
        """Lists the checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping) -> Path:
        """Writes a checkpoint and drops those that are too old, and those of later steps.

        Args:
            step: int. Number of finished training steps.
            arrays: numpy arrays by name.
            state: what JSON can hold.

        Returns:
            The checkpoint's folder.

        Raises:
            OSError: when the disk is full or the folder cannot be written; older checkpoints stay.
        """
        path = self.folder / f"step-{step:08d}"
        temporary = self.folder / f".tmp-step-{step:08d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write_synced(
                temporary / "arrays.npz", lambda file: np.savez(file, allow_pickle=False, **arrays)
            )
            record = {**state, "step": step}
            record["sha256"] = _sha256(temporary / "arrays.npz", record)
            text = json.dumps(record, indent=1)
            _write_synced(temporary / "state.json", lambda file: file.write(text.encode()))
            _remove(path)
            os.rename(temporary, path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        # Later checkpoints are left over, for example because they are damaged.
        self.clean(path.name)
        return path

    def clean(self, newest: str = "step-9") -> None:
        """Removes checkpoints that a kill left half written, are too old, or newer than `newest`.

        Args:
            newest: name of the newest checkpoint that may stay.
        """
        for path in self.folder.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)
        kept = [path for path in self.paths() if path.name <= newest][-self.keep :]
        for path in set(self.paths()).difference(kept):
            _remove(path)

    def load(self, path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
        """Reads one checkpoint.

        Args:
            path: folder of the checkpoint.

        Returns:
            Tuple of the arrays by name and the state.

        Raises:
            ValueError: when a file is missing, cut short or altered.
        """
        path = Path(path)
        try:
            state = json.loads((path / "state.json").read_text())
            if _sha256(path / "arrays.npz", state) != state.pop("sha256"):
                raise ValueError("the checksum differs")
            with np.load(path / "arrays.npz", allow_pickle=False) as file:
                return {name: file[name] for name in file.files}, state
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Checkpoint {path} is damaged: {error}.") from error

    def load_newest(self) -> tuple[dict[str, np.ndarray], dict] | None:
        """Reads the newest whole checkpoint; damaged ones are named in the log and passed over."""
        for path in reversed(self.paths()):
            try:
                return self.load(path)
            except ValueError as error:
                logging.warning("%s The one before it is used.", error)
        return None

    def average(self, last: int) -> tuple[dict[str, np.ndarray], dict]:
        """Averages weights, and their moving averages, over the newest checkpoints, in float64.

        Args:
            last: int. Number of checkpoints; fewer are used when there are fewer.

        Returns:
            Tuple of the averages by name, each of the dtype of the arrays, and the state of the
            newest checkpoint.

        Raises:
            ValueError: when there is no checkpoint, one of them is damaged, or one lacks an array.

        References:
            - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 6.1
        """
        paths = self.paths()[-last:]
        if not paths:
            raise ValueError(f"There is no checkpoint in {self.folder}; train first.")
        sums: dict[str, np.ndarray] = {}
        for path in paths:
            try:
                arrays, state = self.load(path)
            except ValueError:
                if path.exists():
                    raise
                return self.average(last)  # The run trains, and has replaced it meanwhile.
            new = {name: array for name, array in arrays.items() if _is_averaged(name)}
            old = sums or new
            if any(name.startswith("model/") for name in old.keys() ^ new.keys()):
                raise ValueError(f"Checkpoint {path} holds other arrays than those before it.")
            # One of an earlier version may lack some moving averages, which are left out then.
            sums = {
                name: sums.get(name, 0.0) + array.astype(np.float64)
                for name, array in new.items()
                if name in old
            }
        averages = {name: (x / len(paths)).astype(arrays[name].dtype) for name, x in sums.items()}
        return averages, state


def _is_averaged(name: str) -> bool:
    return name.startswith(("model/", "ema/"))


def _remove(path: Path) -> None:
    """Removes a checkpoint at once: under its name it is whole or absent."""
    if path.exists():
        renamed = path.with_name(f".tmp-gone-{path.name}")
        shutil.rmtree(renamed, ignore_errors=True)
        os.rename(path, renamed)
        shutil.rmtree(renamed, ignore_errors=True)


def _write_synced(path: Path, write) -> None:
    with open(path, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path, state: Mapping) -> str:
    """Hashes a file, and a state without its hash."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    rest = {name: value for name, value in state.items() if name != "sha256"}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()
