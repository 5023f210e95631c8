"""The log of a run: `metrics.jsonl`, and `curves.png` drawn from it."""

import json
import os
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure  # Unlike pyplot it opens no window system.

from kerasformer.explain.fonts import fonts_for
from kerasformer.explain.pictures import save_figure
from kerasformer.explain.words import readable
from pipelines.runs.files import write_atomically, write_text

COLUMNS = 2  # of curves
LONGEST_TITLE = 80  # characters


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

    def draw(self, best_step: int = 0) -> None:
        """Draws `curves.png`: losses, learning rate and scores over the steps.

        Args:
            best_step: int. The step of the best validation, which is marked; 0 for none.
        """
        records = self.records()
        names = sorted({name for record in records for name in record} - {"step", "seconds"})
        losses = [name for name in names if name.endswith("loss")]
        if not losses:
            return
        # Scores in the same unit stand together.
        panels = {
            _unit(name): [other for other in names if _unit(other) == _unit(name)]
            for name in [*losses, *names]
        }.values()
        columns = min(len(panels), COLUMNS)
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(4.5 * columns, 2.6 * rows + 0.4), layout="constrained")
        title = self.path.absolute().parent.name
        with fonts_for([title]):
            # Without parse_math=False a name of dollar signs would be read as a formula.
            figure.suptitle(readable(title, LONGEST_TITLE), parse_math=False)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        axes = grid.ravel()[: len(panels)]
        for axis in grid.ravel()[len(panels) :]:
            axis.remove()
        for axis, panel in zip(axes, panels, strict=True):
            for name in panel:
                points = [(r["step"], r[name]) for r in records if name in r]
                label = name.replace("_", " ") if name != "loss" else "training loss"
                axis.plot(*zip(*points, strict=True), label=label, marker=".", markersize=3)
            axis.set_ylabel(_unit(panel[0]))
            if best_step:
                axis.axvline(best_step, color="gray", linestyle=":")
            axis.legend(frameon=False, fontsize=8)
            axis.tick_params(labelbottom=True)
            axis.grid(alpha=0.3)
        if best_step:
            axes[0].set_title(f"best validation at step {best_step} (dotted)", fontsize=9)
        for axis in axes[-columns:]:
            axis.set_xlabel("step")
        write_atomically(self.path.parent / "curves.png", partial(save_figure, figure))


def _unit(name: str) -> str:
    """Returns what the numbers of a record are counted in."""
    if name.endswith("_per_second"):
        return f"{name.removesuffix('_per_second')} a second"
    if name.endswith("loss"):
        return "loss"
    if name.endswith(("accuracy", "top1", "top5", "average_precision")):
        return "share"
    return name.removeprefix("validation_").replace("_", " ")
