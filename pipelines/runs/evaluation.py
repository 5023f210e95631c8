"""Scores of the model of a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.files import write_atomically, write_text
from pipelines.runs.folder import opened
from pipelines.runs.weights import load_model


def match(scores: Path, config, workdir: str, weights: str) -> bool:
    """Tests whether a file of scores is of these weights and this test set."""
    expected = description(config, workdir, weights, "test")
    return expected.items() <= json.loads(scores.read_text()).items()


def description(config, workdir: str, weights: str, split: str) -> dict:
    """Describes what scores are of: the split and its data, the weights and their step."""
    data_config = config.get("data", {})
    values = [data_config.get(key) for key in ("name", "folder", split)]
    data = " ".join(str(value) for value in values if value)
    data = data or data_config.get("format", config.task)
    return {"split": split, "data": data, "weights": weights, "step": _last_step(workdir)}


def _last_step(workdir: str) -> int:
    return int(Checkpoints(Path(workdir) / "checkpoints").paths()[-1].name.removeprefix("step-"))


def evaluate_run(
    find: Callable[[str], Any], workdir: str, weights: str | None, split: str
) -> tuple[dict, str]:
    """Reads the config of a run and evaluates its model, while no other process does so.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        weights: as in `load_model`, or `None` for those that the config names.
        split: `"test"` or `"validation"`.

    Returns:
        As `evaluate`.

    Raises:
        ValueError: when another process evaluates the run, there is none, or as in `load_model`.
    """
    with opened(find, workdir, f".lock-evaluation-{split}", "evaluates") as (task, config):
        return evaluate(task, config, workdir, weights or config.weights, split)


def evaluate(
    task: Any, config: ml_collections.ConfigDict, workdir: str, weights: str, split: str
) -> tuple[dict, str]:
    """Scores the model of a run and writes `evaluation-<split>.json` and a table beside it.

    Args:
        task: `training.task.Task`, the run's.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.
        split: `"test"` or `"validation"`.

    Returns:
        Tuple of the scores and the task's table.

    Raises:
        ValueError: as in `load_model`.
    """
    module = task.serving(load_model(task.build, config, workdir, weights), config, workdir)
    scores, table, pictures = task.evaluate(module, config, split)
    scores = {**description(config, workdir, weights, split), **scores}
    for name, figure in pictures.items():
        path = Path(workdir) / f"evaluation-{split}-{name}.png"
        write_atomically(path, figure.savefig)
    write_text(Path(workdir) / f"evaluation-{split}.md", table)
    write_text(Path(workdir) / f"evaluation-{split}.json", json.dumps(scores, indent=1))
    return scores, table
