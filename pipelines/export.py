"""Loads the model of a run and exports it, for TensorFlow Serving or for another runtime.

`export/<version>/` holds a SavedModel, `export_onnx/<version>/` and `export_litert/<version>/` a
file for each function of the model and what the run has prepared (the tokenizer); each of them a
model card, `README.md`. A file is written only if its runtime answers as TensorFlow does.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_collections
import tensorflow as tf

from kerasformer.interop.litert import export_litert
from kerasformer.interop.onnx import export_onnx
from pipelines import run_folder
from pipelines.checkpoints import WEIGHTS, Checkpoints
from pipelines.trainer import assign, model_variables

RUNTIMES = {
    "onnx": ("ONNX", ".onnx", export_onnx),
    "litert": ("LiteRT", ".tflite", export_litert),
}
FORMATS = ("saved_model", *RUNTIMES)


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


def export(
    task, config: ml_collections.ConfigDict, workdir: str, weights: str, format: str = "saved_model"
) -> Path:
    """Writes the next version of a run's model, whole or not at all.

    Args:
        task: module of the run's task.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.
        format: one of `FORMATS`.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: for another format, or one that cannot hold the model.
    """
    if format not in FORMATS:
        raise ValueError(f"Expected format to be one of {FORMATS}, received {format=}.")
    built = config.copy_and_resolve_references()
    if format != "saved_model":
        built.train.precision = "float32"  # Other runtimes know no bfloat16.
    module = task.serving(load_model(task, built, workdir, weights), built, workdir)

    def write(folder):
        if format == "saved_model":
            title, functions = "SavedModel", module.signatures()
            tf.saved_model.save(module, str(folder), signatures=functions)
        else:
            title, functions = _write_files(module, folder, workdir, format)
        card = model_card(title, functions, task.example(module, config), config, workdir, weights)
        run_folder.write_text(folder / "README.md", card)

    name = "export" if format == "saved_model" else f"export_{format}"
    return _write_version(Path(workdir) / name, write)


def _write_version(folder: Path, write: Callable[[Path], None]) -> Path:
    """Makes the next numbered folder in a folder, whole or not at all."""
    folder.mkdir(exist_ok=True)
    versions = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    version = max(versions, default=0) + 1
    # A dot keeps the half-written folder out of TensorFlow Serving's sight.
    temporary = folder / f".tmp-{version}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write(temporary)
        os.rename(temporary, folder / str(version))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):  # It holds other versions.
            folder.rmdir()
    return folder / str(version)


def _write_files(module, folder, workdir, format):
    """Writes a file for each function of a model, and what the run prepared beside them."""
    runtime, suffix, write = RUNTIMES[format]
    functions, largest = {}, 0.0
    for name, (function, samples) in module.runtime_functions(format).items():
        functions[name + suffix] = function
        largest = max(largest, write(function, folder / (name + suffix), samples))
    for path in filter(Path.exists, (Path(workdir) / name for name in run_folder.PREPARED)):
        shutil.copy(path, folder)
    return f"{runtime}, in float32, within {largest:.1e} of TensorFlow", functions


def model_card(title: str, functions: dict, example: str, config, workdir, weights: str) -> str:
    """Describes an exported model: what goes in and out, one example, scores, config."""
    lines = [f"# {config.task}: {title}", "", f"Weights: {weights}.", "", "## Signatures", ""]
    for name, function in functions.items():
        concrete = function.get_concrete_function()
        inputs = concrete.structured_input_signature[0]
        lines += [f"`{name}`", ""]
        lines += [f"- in `{spec.name}`: {spec.dtype.name} {spec.shape}" for spec in inputs]
        lines += [
            f"- out `{key}`: {spec.dtype.name} {spec.shape}"
            for key, spec in concrete.structured_outputs.items()
        ]
        lines.append("")
    lines += ["## Example", "", example]
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
