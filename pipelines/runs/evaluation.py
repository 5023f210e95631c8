"""Scores of the model of a run."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ml_collections

from kerasformer.explain.pictures import save_figure
from pipelines.data.row_files import require_writable, write_rows
from pipelines.data.sources import source_name
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.files import write_atomically, write_text
from pipelines.runs.folder import opened
from pipelines.runs.weights import changed, load_model

USED = ("decode", "serve")  # the parts of a config that say how a model is used
SIZES = ("batch_size", "num_hypotheses")  # keys of these that change no score
LONGEST = 100  # characters of what is added to the name of a file
SHOWN = 3  # scores in a summary


def match(scores: Path, config, workdir: str, weights: str) -> bool:
    """Tests whether a file of scores is of these weights, this test set, and this way of using it.

    What a file does not say, because an earlier version wrote it, counts as equal.
    """
    expected = json.loads(json.dumps(description(config, workdir, weights, "test")))
    found = json.loads(scores.read_text())
    return all(found.get(name, value) == value for name, value in expected.items())


def description(config, workdir: str, weights: str, split: str) -> dict:
    """Describes what scores are of: the split and its data, the weights, their step, the use."""
    data = source_name(config.get("data", {}), split) or config.task
    used = {
        part: {key: value for key, value in config[part].to_dict().items() if key not in SIZES}
        for part in USED
        if part in config
    }
    step = _last_step(workdir)
    return {"split": split, "data": data, "weights": weights, "step": step, **used}


def _last_step(workdir: str) -> int:
    return int(Checkpoints(Path(workdir) / "checkpoints").paths()[-1].name.removeprefix("step-"))


def evaluate_run(
    find: Callable[[str], Any],
    workdir: str,
    weights: str | None,
    split: str,
    changes: Mapping[str, Any] | None = None,
    own_test: str = "",
    output: str | None = None,
) -> tuple[dict, str]:
    """Reads the config of a run and evaluates its model, while no other process does so.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        weights: as in `load_model`, or `None` for those that the config names.
        split: `"test"` or `"validation"`.
        changes: values other than those of the config, as in `weights.changed`.
        own_test: path of data to score instead of the test set, as the task's `own_test` reads it.
        output: path of one more file for the predictions, as in `row_files`.

    Returns:
        As `evaluate`.

    Raises:
        ValueError: when another process evaluates the run, there is none, a value or a path cannot
            be, or as in `load_model`.
    """
    if output:
        require_writable("output", output)
    with opened(find, workdir, f".lock-evaluation-{split}", "evaluates") as (task, config):
        changes = dict(changes or {})
        label = file_label(changes, own_test)
        if own_test:
            changes |= {f"data.{key}": x for key, x in task.own_test(config, own_test).items()}
        trained, config = config, changed(task, config, changes)
        result = evaluate(task, config, workdir, weights or config.weights, split, label, output)
        if own_test:  # Now that its data are known to be what they should.
            _print_leaks(task, trained, config)
        return result


def _print_leaks(task, config, own):
    """Prints how much of a user's test set was trained on, as far as the training data are here."""
    print("Looking for test data among the training data ...", file=sys.stderr, flush=True)
    try:
        found = task.leaks(config, own)
    except (ImportError, OSError, ValueError) as error:
        found = f"Whether the model was trained on some of these is not known: {error}"
    if found:
        print(found, file=sys.stderr, flush=True)


def file_label(changes: Mapping[str, Any], own_test: str) -> str:
    """Makes the label of an evaluation that is not the run's own, for the names of its files.

    Example:

    >>> file_label({"decode.beam_size": 1}, "my/test.en,my/test.de")
    '-my-test.en-my-test.de-beam_size=1'
    """
    values = {key.partition(".")[2]: value for key, value in changes.items()}
    shown = [f"{name}={value}" for name, value in values.items() if name not in SIZES]
    text = " ".join([own_test, *shown])
    label = re.sub(r"[^\w.=+]+", "-", text).strip("-")
    if len(label) > LONGEST:
        label = f"{label[: LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"-{label}" if label else ""


def evaluate(
    task: Any,
    config: ml_collections.ConfigDict,
    workdir: str,
    weights: str,
    split: str,
    label: str = "",
    output: str | None = None,
) -> tuple[dict, str]:
    """Scores the model of a run and writes scores, table, pictures and predictions.

    They are `evaluation-<split><label>.json`, `.md`, `-<picture>.png` and `-predictions.tsv` in the
    folder of the run.

    Args:
        task: `training.task.Task`, the run's.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.
        split: `"test"` or `"validation"`.
        label: str. What the names of the files have behind the split.
        output: path of one more file for the predictions.

    Returns:
        Tuple of the scores and a line on them that a person reads.

    Raises:
        ValueError: as in `load_model`.
    """
    module = task.serving(load_model(task.build, config, workdir, weights), config, workdir)
    evaluation = task.evaluate(module, config, split)
    scores = {**description(config, workdir, weights, split), **evaluation.scores}
    stem = str(Path(workdir) / f"evaluation-{split}{label}")
    for name, figure in evaluation.figures.items():
        write_atomically(f"{stem}-{name}.png", partial(save_figure, figure))
    if evaluation.predictions:
        keys = list(evaluation.predictions[0])
        key = "prediction" if "prediction" in keys else keys[-1]
        rows = partial(write_rows, rows=evaluation.predictions, key=key)
        for path in filter(None, (f"{stem}-predictions.tsv", output)):
            write_atomically(path, rows)
    write_text(f"{stem}.md", evaluation.table)
    write_text(f"{stem}.json", json.dumps(scores, indent=1))
    return scores, _summary(evaluation, scores, stem)


def _summary(evaluation: Any, scores: Mapping[str, Any], stem: str) -> str:
    numbers = [(name, x) for name, x in evaluation.scores.items() if isinstance(x, float)]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers[:SHOWN])
    of_what = f"{scores['split']} ({scores['data']})"
    weights = f"weights {scores['weights']} of step {scores['step']}"
    files = [f"{stem}.md", f"{stem}-predictions.tsv"][: 2 if evaluation.predictions else 1]
    return f"Scores on {of_what}, {weights}: {shown}. See {' and '.join(files)}."
