"""Loads the model of a run and exports it as TensorFlow Serving wants it.

`export/<version>/` holds the SavedModel and a model card, `README.md`.
"""

import json
import os
import shutil
from pathlib import Path

import ml_collections
import tensorflow as tf

from pipelines import run_folder
from pipelines.checkpoints import WEIGHTS, Checkpoints
from pipelines.trainer import assign, model_variables


def load_model(task, config: ml_collections.ConfigDict, workdir: str, weights: str):
    """Builds the model of a run and gives it the weights of its checkpoints.

    Args:
        task: module of the run's task.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: `"average"` of the kept checkpoints, `"best"` by validation, or `"last"`. With a
            moving average (`train.ema`) its weights are taken in place of the trained ones.

    Returns:
        The Keras model.

    Raises:
        ValueError: when there is no checkpoint, or it does not fit the model.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"Expected weights to be one of {WEIGHTS}, received weights={weights!r}.")
    folder = Path(workdir) / "checkpoints"
    checkpoints = Checkpoints(folder / "best" if weights == "best" else folder)
    model = task.build(config, workdir)
    variables = model_variables(model)
    arrays = checkpoints.average(config.train.keep_checkpoints if weights == "average" else 1)
    if config.train.ema:
        averages = {name: x for name, x in arrays.items() if name.startswith("ema/")}
        arrays |= {name.removeprefix("ema/"): x for name, x in averages.items()}
    assign(variables, arrays)
    return model


def export(task, config: ml_collections.ConfigDict, workdir: str, weights: str) -> Path:
    """Writes the next version of a run's SavedModel, whole or not at all.

    Args:
        task: module of the run's task.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.

    Returns:
        The folder of the new version, `workdir/export/<version>`.
    """
    module = task.serving(load_model(task, config, workdir, weights), config, workdir)
    folder = Path(workdir) / "export"
    folder.mkdir(exist_ok=True)
    versions = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    version = max(versions, default=0) + 1
    # A dot keeps the half-written folder out of TensorFlow Serving's sight.
    temporary = folder / f".tmp-{version}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        tf.saved_model.save(module, str(temporary), signatures=module.signatures())
        card = model_card(task, module, config, workdir, weights)
        run_folder.write_text(temporary / "README.md", card)
        os.rename(temporary, folder / str(version))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / str(version)


def model_card(task, module, config, workdir: str, weights: str) -> str:
    """Describes an exported model: what goes in and out, one example, scores, config."""
    lines = [f"# {config.task}: SavedModel", "", f"Weights: {weights}.", "", "## Signatures", ""]
    for name, function in module.signatures().items():
        concrete = function.get_concrete_function()
        inputs = concrete.structured_input_signature[0]
        lines += [f"`{name}`", ""]
        lines += [f"- in `{spec.name}`: {spec.dtype.name} {spec.shape}" for spec in inputs]
        lines += [
            f"- out `{key}`: {spec.dtype.name} {spec.shape}"
            for key, spec in concrete.structured_outputs.items()
        ]
        lines.append("")
    lines += ["## Example", "", task.example(module, config)]
    scores = Path(workdir) / "evaluation-test.json"
    if scores.exists() and _are_of(scores, config, workdir, weights):
        lines += ["## Scores on the test set", "", "```json", scores.read_text().strip(), "```", ""]
    lines += ["## Config", "", "```json", config.to_json(indent=1), "```", ""]
    return "\n".join(lines)


def _are_of(scores: Path, config, workdir: str, weights: str) -> bool:
    """Whether scores are of these weights and this test set: both may have changed since."""
    of = _description(config, workdir, weights, "test")
    return of.items() <= json.loads(scores.read_text()).items()


def _description(config, workdir: str, weights: str, split: str) -> dict:
    data = {key: config.data.get(key) for key in ("name", "folder", split)}
    data = " ".join(str(value) for value in data.values() if value) or config.data.format
    return {"split": split, "data": data, "weights": weights, "step": _last_step(workdir)}


def _last_step(workdir: str) -> int:
    return int(Checkpoints(Path(workdir) / "checkpoints").paths()[-1].name.removeprefix("step-"))


def evaluate(
    task, config: ml_collections.ConfigDict, workdir: str, weights: str, split: str
) -> tuple[dict, str]:
    """Scores the model of a run and writes `evaluation-<split>.json` and a table beside it.

    Args:
        task: module of the run's task.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.
        split: `"test"` or `"validation"`.

    Returns:
        Tuple of the scores and the task's table of examples or classes.
    """
    module = task.serving(load_model(task, config, workdir, weights), config, workdir)
    scores, table, pictures = task.evaluate(module, config, split)
    scores = {**_description(config, workdir, weights, split), **scores}
    for name, figure in pictures.items():
        path = Path(workdir) / f"evaluation-{split}-{name}.png"
        run_folder.write_atomically(path, figure.savefig)
    run_folder.write_text(Path(workdir) / f"evaluation-{split}.md", table)
    run_folder.write_text(Path(workdir) / f"evaluation-{split}.json", json.dumps(scores, indent=1))
    return scores, table
