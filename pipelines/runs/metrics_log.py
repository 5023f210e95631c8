"""The log of a run: `metrics.jsonl`, and `curves.png` drawn from it."""

import json
import os
from pathlib import Path

from matplotlib.figure import Figure  # Unlike pyplot it opens no window system.

from pipelines.runs.files import write_atomically, write_text


class MetricsLog:
    """Appends records to `metrics.jsonl`, one JSON object with a `step` a line.

    Args:
        workdir: folder of the run.
        step: int. The step that the run resumes from; records of later steps are dropped, so that
            no step is logged twice.
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
