"""The folder of one run: `config.json`, `metrics.jsonl`, `curves.png`, all written atomically."""

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_collections
from matplotlib.figure import Figure  # Unlike pyplot it opens no window system.

# A run never goes on with another model, nor with state that its checkpoints do not have.
FIXED_KEYS = ("task", "seed", "data", "tokenizer", "model", "start", "teacher")
FIXED_KEYS += ("train.ema", "train.precision")
# These may change at any time: where things lie (the loop looks whether the data are the same),
# and what changes no weights.
PLACES = ("data.folder", "data.data_dir", "data.download", "start.workdir")
FREE_KEYS = (*PLACES, "data.test", "weights", "decode", "serve")
FREE_KEYS += tuple(
    f"train.{key}"
    for key in (
        "steps_per_call",
        "log_every",
        "validate_every",
        "checkpoint_every",
        "keep_checkpoints",
        "best_metric",
        "patience",
    )
)
# What a task makes of its data before the first step.
PREPARED = ("tokenizer.model", "images.json")


def write_atomically(path: str | os.PathLike, write: Callable[[str], None]) -> None:
    """Writes a file under a temporary name beside it and renames it.

    Args:
        path: the file.
        write: function that writes the file of the name it is given; the name has the suffix of
            `path`.
    """
    path = Path(path)
    # Of one name, so that the file of a run that was killed is not left for ever.
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        write(str(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file atomically, in UTF-8."""
    write_atomically(path, lambda name: Path(name).write_text(text, encoding="utf-8"))


def read_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """Reads the resolved config of a run.

    Args:
        workdir: folder of the run.

    Returns:
        The config.

    Raises:
        ValueError: when the folder holds no run, or its config cannot be read.
    """
    path = Path(workdir) / "config.json"
    try:
        return ml_collections.ConfigDict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{workdir} holds no run: {path} does not exist.") from None
    except ValueError as error:  # Neither UTF-8 nor JSON.
        raise ValueError(f"{path} cannot be read: {error}.") from error


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
                if _is_among(key, FREE_KEYS):
                    continue
                hint = "choose another --workdir or the same config"
                if not _is_among(key, FIXED_KEYS):
                    if allow_changes:
                        continue
                    hint += ", or give --allow_changes"
                raise ValueError(f"{workdir} holds a run with {key}={old!r}, not {new!r}: {hint}.")
            return
        if (workdir / "config.json").exists():
            changed = differences(read_config(workdir), config)
            if any(_is_among(key, FIXED_KEYS) for key in changed):
                for name in PREPARED:
                    (workdir / name).unlink(missing_ok=True)
        write_config(workdir, config)
    except OSError as error:
        raise ValueError(f"The folder {workdir} cannot be written: {error.strerror}.") from error


def write_config(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Writes the resolved config of a run."""
    write_text(Path(workdir) / "config.json", config.to_json(indent=1))


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


def differences(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> dict[str, tuple[object, object]]:
    """Returns the keys whose values differ with both values, in the order of the alphabet."""
    new = ml_collections.ConfigDict(json.loads(new.to_json()))
    old, new = _flatten(old.to_dict()), _flatten(new.to_dict())
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    }


def _is_among(key, keys):
    parts = key.split(".")
    return any(".".join(parts[:length]) in keys for length in range(1, len(parts) + 1))


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


class MetricsLog:
    """Appends records to `metrics.jsonl`, one JSON object with a `step` a line.

    Args:
        workdir: folder of the run.
        step: int. The step the run goes on from; records of later steps are dropped, so that a
            resumed run logs no step twice.
    """

    def __init__(self, workdir: str | os.PathLike, step: int):
        self.path = Path(workdir) / "metrics.jsonl"
        kept = [record for record in self.records() if record["step"] <= step]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: dict) -> None:
        """Writes one record through to the disk."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict]:
        """Reads all whole records."""
        if not self.path.exists():
            return []
        records = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # A run killed while it wrote leaves half a line at the end.
        return records

    def draw(self) -> None:
        """Draws `curves.png`: losses, learning rate and scores over the steps."""
        records = self.records()
        names = sorted({name for record in records for name in record} - {"step", "seconds"})
        groups = [
            [name for name in names if name.endswith("loss")],
            [name for name in names if not name.endswith("loss")],
        ]
        panels = groups[:1] + [[name] for name in groups[1]] if groups[0] else []
        if not panels:
            return
        figure = Figure(figsize=(6, 2.2 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            for name in panel:
                points = [(r["step"], r[name]) for r in records if name in r]
                axis.plot(*zip(*points, strict=True), label=name, marker=".", markersize=3)
            axis.legend(frameon=False)
            axis.grid(alpha=0.3)
        axes[-1].set_xlabel("step")
        write_atomically(self.path.parent / "curves.png", lambda name: figure.savefig(name))
