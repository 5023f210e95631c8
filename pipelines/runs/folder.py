"""The lock of a run's folder, the check that it belongs to the run, and its prepared files."""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import ml_collections

from pipelines.runs.config import complete, differences, is_among, read_config, write_config
from pipelines.runs.files import write_bytes

# How often a folder is made anew that another process, whose start fails, removes meanwhile.
TRIES = 100


@contextlib.contextmanager
def locked(
    workdir: str | os.PathLike, name: str = ".lock", verb: str = "trains in", make: bool = False
) -> Iterator[None]:
    """Keeps other processes from the same work in a folder, for the length of a `with` block.

    Work that writes other files has a lock of its own, so that a run can be evaluated and exported
    while it trains.

    Args:
        workdir: folder of a run.
        name: file that stands for the work; it is there only meanwhile.
        verb: what the work is, for the sentence of the error.
        make: whether to make the folder if it does not exist. If it is empty after the block, it is
            removed again.

    Raises:
        ValueError: when another process does this work already, or the folder does not exist or
            cannot be written; nothing in it has changed then.
    """
    path = Path(workdir) / name
    made: set[Path] = set()
    try:
        file = _lock(path, made if make else None)
    except BlockingIOError:
        raise ValueError(f"Another process {verb} {workdir} already.") from None
    except OSError as error:
        if not make and not path.parent.exists():
            raise ValueError(f"{workdir} holds no run: the folder does not exist.") from None
        raise ValueError(f"The folder {workdir} cannot be written: {error.strerror}.") from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # Another process may have put something there.
                for folder in sorted(made, reverse=True):  # The innermost first.
                    folder.rmdir()


@contextlib.contextmanager
def opened(
    find: Callable[[str], Any], workdir: str | os.PathLike, name: str, verb: str
) -> Iterator[tuple[Any, ml_collections.ConfigDict]]:
    """Locks a run for some work and yields its task and its config, for a `with` block.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        name: file that stands for the work, as in `locked`.
        verb: what the work is, as in `locked`.

    Raises:
        ValueError: when another process does this work already, there is no run, or its config is
            not one of this version.
    """
    with locked(workdir, name, verb):
        yield read_run(find, workdir)


def read_run(
    find: Callable[[str], Any], workdir: str | os.PathLike
) -> tuple[Any, ml_collections.ConfigDict]:
    """Reads the task of a run and its config, with the defaults of keys that it lacks.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.

    Raises:
        ValueError: when there is no run, or its config is not one of this version.
    """
    config = read_config(workdir)
    task = find(config.task)
    complete(config, task.default_config())
    return task, config


def _lock(path: Path, made: set[Path] | None) -> IO:
    """Opens a file that no other process has locked, and locks it.

    Args:
        path: the file.
        made: takes the folders that are made; `None` to make none.
    """
    while True:
        file = open(path, "a") if made is None else _open_in_folder(path, made)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that had the lock may have removed the file between the two lines above.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except OSError:
            file.close()
            raise
        file.close()


def _open_in_folder(path: Path, made: set[Path]) -> IO:
    """Opens a file, and makes its folder if it does not exist."""
    left = TRIES
    while True:
        try:
            for folder in reversed(path.parents):
                if not folder.exists():
                    folder.mkdir()
                    made.add(folder)
            return open(path, "a")
        except (FileExistsError, FileNotFoundError):
            left -= 1
            if not left:
                raise


@contextlib.contextmanager
def undone_if_it_fails(workdir: str | os.PathLike, prepared: Collection[str]) -> Iterator[None]:
    """Undoes what a `with` block that fails has done to the config and the prepared files.

    Args:
        workdir: folder of the run.
        prepared: names of the files made of the data.
    """
    paths = [Path(workdir, name) for name in ("config.json", *prepared)]
    new = [path for path in paths if not path.exists()]
    old = {path: path.read_bytes() for path in paths if path.is_file()}
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for path, content in old.items():
            if not path.is_file() or path.read_bytes() != content:
                write_bytes(path, content)
        raise


def has_begun(workdir: str | os.PathLike) -> bool:
    """Tests whether a folder holds a checkpoint or an export, which belong to its config."""
    workdir = Path(workdir)
    return any(workdir.glob("checkpoints/**/step-*")) or any(workdir.glob("export*/*"))


def start(
    workdir: str | os.PathLike,
    config: ml_collections.ConfigDict,
    *,
    default: ml_collections.ConfigDict,
    fixed_keys: Collection[str],
    free_keys: Collection[str],
    prepared: Collection[str],
    allow_changes: bool = False,
) -> None:
    """Writes the config of a new run, or checks that the folder belongs to the same run.

    A run without a checkpoint or an export, for example because of a wrong path in its config, is
    started again; the config of a run that resumes is written when all is known to fit
    (`write_config`).

    Args:
        workdir: folder of the run, which exists.
        config: the resolved config.
        default: the default config of its task, for keys that the run's config or this one lacks.
        fixed_keys: keys that never change, because the model or its checkpoints depend on them.
        free_keys: keys that may change at any time.
        prepared: files made of the data, which a run that is started again with other fixed keys
            makes anew.
        allow_changes: whether the other keys may change, which decide how a model is trained.

    Raises:
        ValueError: when the folder cannot be written, or holds a run of another task, other data
            or another model, or a config that is not of a run; the sentence names the first key
            that differs.
    """
    workdir = Path(workdir)
    try:
        if has_begun(workdir):
            for key, (old, new) in _changes(workdir, config, default).items():
                if is_among(key, free_keys):
                    continue
                hint = "choose another --workdir or the same config"
                if not is_among(key, fixed_keys):
                    if allow_changes:
                        continue
                    hint += ", or give --allow_changes"
                raise ValueError(f"{workdir} holds a run with {key}={old!r}, not {new!r}: {hint}.")
            return
        if (workdir / "config.json").exists():
            changed = _changes(workdir, config, default)
            if any(is_among(key, fixed_keys) for key in changed):
                for name in prepared:
                    (workdir / name).unlink(missing_ok=True)
        write_config(workdir, config)
    except OSError as error:
        raise ValueError(f"The folder {workdir} cannot be written: {error.strerror}.") from error


def _changes(workdir, config, default) -> dict[str, tuple[object, object]]:
    """Returns the `differences` between the config of a run and another one, both completed."""
    stored, config = read_config(workdir), ml_collections.ConfigDict(json.loads(config.to_json()))
    if stored.task == config.task:
        complete(stored, default)
        complete(config, default)
    return differences(stored, config)


def read_prepared(workdir: str | os.PathLike, names: Collection[str]) -> dict[str, str]:
    """Reads the files of some names that are there: base64 by name."""
    paths = {name: Path(workdir, name) for name in names}
    return {
        name: base64.b64encode(path.read_bytes()).decode()
        for name, path in paths.items()
        if path.is_file()
    }


def write_prepared(workdir: str | os.PathLike, files: Mapping[str, str]) -> None:
    """Writes what `read_prepared` has read in another folder to the temporary one of a worker."""
    for name, text in files.items():
        Path(workdir, name).write_bytes(base64.b64decode(text))


def prepared_hashes(files: Mapping[str, str]) -> dict[str, str]:
    """Returns the SHA-256 of the base64 text of each file that `read_prepared` has read."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}


def saved_hashes(state: Mapping) -> Mapping[str, object]:
    """Returns the hash of each prepared file by its name, as the state of a checkpoint holds it."""
    if "prepared" in state:
        return state["prepared"]
    # Version 0.1.0 kept them together with those of the data, such as "set of training pairs".
    data = state.get("data", {})
    return {name: data[name] for name in data if " " not in name and Path(name).suffix}


def require_unchanged(workdir: str | os.PathLike, hashes: Mapping[str, object]) -> None:
    """Refuses files in the folder of a run that are not those of its checkpoint.

    Args:
        workdir: folder of the run.
        hashes: what `saved_hashes` returns.

    Raises:
        ValueError: naming the first file that is missing or differs.
    """
    digests = prepared_hashes(read_prepared(workdir, hashes))
    for name, expected in hashes.items():
        if digests.get(name) != expected:
            what = "was changed or replaced" if name in digests else "is missing"
            raise ValueError(
                f"{Path(workdir, name)} {what}: expected the file that the checkpoint was trained "
                "with."
            )
