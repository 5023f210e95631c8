"""Size, speed and score of what a run exported, side by side: `export.md` in its folder."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from pipelines.data.sources import source_name
from pipelines.runs.files import write_text
from pipelines.runs.formats import FORMATS, Function, Model

TABLE = "export.md"
HEAD = """# Exports

| folder | made with | size, MB | examples a second | score |
| :--- | :--- | ---: | ---: | :--- |
"""
FOOT = """
Scores are of the whole test set, read by the exported files themselves. The speed is theirs alone,
on the machine that made the export: batches as in the evaluation of the run, one after the other.
"""


class Measured(NamedTuple):
    """What an export is like.

    Attributes:
        size: int. Bytes of its files.
        speed: float or `None`. Examples a second.
        score: str. The first score of the evaluation, by name; empty where there is none.
    """

    size: int
    speed: float | None = None
    score: str = ""

    def cells(self) -> list[str]:
        """Returns size, speed and score as text."""
        speed = f"{self.speed:,.1f}" if self.speed else "not measured"
        return [f"{self.size / 1e6:,.2f}", speed, self.score or "not scored"]


class Stopwatch:
    """Runs a function and counts examples and seconds, those of the first call left out.

    Args:
        function: function from a dict of arrays to a dict of arrays.
    """

    def __init__(self, function: Function):
        self.function, self.examples, self.seconds = function, 0, 0.0

    def __call__(self, inputs):
        if not self.examples:
            self.function(inputs)  # What is made once should not count.
        start = time.perf_counter()
        outputs = self.function(inputs)
        self.seconds += time.perf_counter() - start
        self.examples += len(next(iter(inputs.values())))
        return outputs


def measure(model: Model, folder: Path, format: str) -> Measured:
    """Scores an export on the test set, and times it meanwhile.

    Args:
        model: what was exported.
        folder: where its files are.
        format: one of `formats.FORMATS`.

    Returns:
        The size alone where the task has no score of what the files hold.

    Raises:
        ValueError: when the test set cannot be read.
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    watches = []

    def timed(load):
        watches.append(Stopwatch(load()))
        return watches[-1]

    loaders = FORMATS[format].load(folder)
    functions = {name: lambda load=load: timed(load) for name, load in loaders.items()}
    exported = model.task.exported(functions, model.config, model.workdir)
    if exported is None:
        return Measured(size)
    scores = model.task.evaluate(exported, model.config, "test").scores
    name, value = next((name, x) for name, x in scores.items() if isinstance(x, float))
    data = source_name(model.config.get("data", {}), "test") or model.config.task
    speed = sum(watch.examples for watch in watches) / sum(watch.seconds for watch in watches)
    return Measured(size, speed, f"{name} {value:.4g} ({data})")


def section(measured: Measured) -> str:
    """Writes the part of a model card that says what was measured."""
    size, speed, score = measured.cells()
    return (
        f"- size: {size} MB\n- speed: {speed} examples a second on a machine of {os.cpu_count()} "
        f"CPUs\n- score: {score}\n\n`{TABLE}` in the folder of the run has the other exports."
    )


def add_row(workdir: str, folder: Path, made_with: str, measured: Measured) -> None:
    """Writes the table anew, with a row for an export; rows of folders that are gone are dropped.

    Args:
        workdir: folder of the run.
        folder: the new version, in it.
        made_with: str. The weights and what else differs between exports.
        measured: what it is like.
    """
    path = Path(workdir, TABLE)
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| export")}
    rows = {name: row for name, row in rows.items() if Path(workdir, name).is_dir()}
    name = folder.relative_to(workdir).as_posix()
    rows[name] = f"| {' | '.join([name, made_with, *measured.cells()])} |"
    write_text(path, HEAD + "".join(f"{rows[name]}\n" for name in sorted(rows)) + FOOT)
