"""Loads the model of a run and exports it, for TensorFlow Serving or for another runtime.

`export/<version>/` holds a SavedModel, `export_onnx/<version>/` and `export_litert/<version>/` a
file for each function of the model, the files that the run prepared of its data and its config,
`export_ctranslate2/<version>/` what CTranslate2 reads, the tokenizers and the search; each of them
a model card, `README.md`. A file is written only if its runtime answers as TensorFlow does.
"""

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import tensorflow as tf

from kerasformer.interop.litert import export_litert
from kerasformer.interop.onnx import export_onnx
from pipelines.data.sources import source_name
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.config import write_config
from pipelines.runs.evaluation import match
from pipelines.runs.files import write_text
from pipelines.runs.folder import opened
from pipelines.runs.weights import changed, load_model

RUNTIMES = {
    "onnx": ("ONNX", ".onnx", export_onnx),
    "litert": ("LiteRT", ".tflite", export_litert),
}
FORMATS = ("saved_model", *RUNTIMES, "ctranslate2")
WITH_SEARCH = ("saved_model", "ctranslate2")  # The others hold the model alone.
LICENCE = (
    "The code that made this model is Kerasformer, under the Apache License 2.0. Whether the "
    "weights may be passed on depends on the licences of the data."
)
BEFORE = "The program that uses these files does this first:"
OTHER_USE = "`docs/runtimes.md` of Kerasformer has code that uses these files."


def export_run(
    find: Callable[[str], Any],
    workdir: str,
    weights: str | None,
    format: str = "saved_model",
    changes: Mapping[str, Any] | None = None,
    quantization: str | None = None,
) -> Path:
    """Reads the config of a run and exports its model, while no other process does so.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        weights: as in `load_model`, or `None` for those that the config names.
        format: one of `FORMATS`.
        changes: values other than those of the config, as in `weights.changed`.
        quantization: as in `export`.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: when another process exports the run, there is none, or as in `export`.
    """
    with opened(find, workdir, f".lock-{_folder_name(format)}", "exports") as (task, config):
        if changes and format not in WITH_SEARCH:
            raise ValueError(
                f"Expected no other {next(iter(changes))} with format={format!r}, whose files hold "
                "the model alone."
            )
        config = changed(task, config, changes or {})
        return export(task, config, workdir, weights or config.weights, format, quantization)


def export(
    task: Any,
    config: ml_collections.ConfigDict,
    workdir: str,
    weights: str,
    format: str = "saved_model",
    quantization: str | None = None,
) -> Path:
    """Writes the next version of a run's model, whole or not at all.

    Args:
        task: `training.task.Task`, the run's.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.
        format: one of `FORMATS`.
        quantization: what weights become for CTranslate2, one of its `QUANTIZATIONS`; `None` for
            float32, and with any other format.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: for another format or quantization, or one that cannot hold the model, or as in
            `load_model`.
    """
    if format not in FORMATS:
        raise ValueError(f"Expected format to be one of {FORMATS}, received {format=}.")
    if quantization is not None and format != "ctranslate2":
        raise ValueError(
            f"Expected quantization with format='ctranslate2' alone, received {quantization=} and "
            f"{format=}."
        )
    built = config.copy_and_resolve_references()
    if format != "saved_model":
        built.train.precision = "float32"  # Other runtimes know no bfloat16.

    def write(folder):
        if format == "saved_model":
            title, functions = "SavedModel", module.signatures()
            tf.saved_model.save(module, str(folder), signatures=functions)
        elif format == "ctranslate2":
            kind, functions = quantization or "float32", {}
            largest = task.write_ctranslate2(module, config, folder, kind)
            title = f"CTranslate2, in {kind}, whose float32 is within {largest:.1e} of TensorFlow"
        else:
            title, functions = _write_files(task, module, folder, workdir, format)
            write_config(folder, config)  # It says how inputs are prepared.
        parts = dict(task.card(config, workdir))
        if format != "saved_model":
            parts["Use"] = OTHER_USE
            if format not in WITH_SEARCH:
                parts.pop("Output", None)
            if "Input" in parts:
                parts["Input"] = f"{BEFORE} {parts['Input']}"
        parts["Example"] = task.example(module, config)
        card = model_card(title, functions, parts, config, workdir, weights)
        write_text(folder / "README.md", card)

    module = task.serving(load_model(task.build, built, workdir, weights), built, workdir)
    return _write_version(Path(workdir) / _folder_name(format), write)


def _folder_name(format: str) -> str:
    return "export" if format == "saved_model" else f"export_{format}"


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


def _write_files(task, module, folder, workdir, format):
    """Writes a file for each function of a model, and what the run prepared beside them."""
    runtime, suffix, write = RUNTIMES[format]
    functions, largest = {}, 0.0
    for name, (function, samples) in module.runtime_functions(format).items():
        functions[name + suffix] = function
        largest = max(largest, write(function, folder / (name + suffix), samples))
    for path in filter(Path.exists, (Path(workdir) / name for name in task.PREPARED)):
        shutil.copy(path, folder)
    return f"{runtime}, in float32, within {largest:.1e} of TensorFlow", functions


def model_card(title: str, functions: dict, parts: dict, config, workdir, weights: str) -> str:
    """Describes an exported model: its data, what goes in and out, use, scores, licence, config.

    Args:
        title: str. What was written.
        functions: `tf.function` by name.
        parts: Markdown by title, of the task.
        config, workdir, weights: as in `export`.
    """
    newest = Checkpoints(Path(workdir) / "checkpoints").paths()[-1]
    step, counts = _step_and_counts(newest)
    today = datetime.date.today().isoformat()
    made = (
        f"Made on {today} from step {step} of a run of the task {config.task}, weights {weights}."
    )
    lines = [f"# {config.task}: {title}", "", made, "", "## Data", ""]
    lines += [f"- {number:,} {name}" for name, number in counts.items()]
    for split in ("train", "validation", "test"):
        source = source_name(config.get("data", {}), split) or "not named in the config"
        lines.append(f"- {split}: {source}")
    for name, text in parts.items():
        lines += ["", f"## {name}", "", text.strip()]
    lines += ["", "## Signatures", ""] if functions else [""]
    for name, function in functions.items():
        lines += [*_signature(name, function), ""]
    scores = Path(workdir) / "evaluation-test.json"
    if scores.exists() and match(scores, config, workdir, weights):
        lines += ["## Scores on the test set", "", "```json", scores.read_text().strip(), "```", ""]
    lines += ["## Licence", "", LICENCE, ""]
    lines += ["## Config", "", "```json", config.to_json(indent=1), "```", ""]
    return "\n".join(lines)


def _signature(name: str, function: Any) -> list[str]:
    """Lists what goes into a function and what comes out."""
    concrete = function.get_concrete_function()
    inputs = concrete.structured_input_signature[0]
    outputs = concrete.structured_outputs.items()
    return [
        f"`{name}`",
        "",
        *(f"- in `{spec.name}`: {spec.dtype.name} {spec.shape}" for spec in inputs),
        *(f"- out `{key}`: {spec.dtype.name} {spec.shape}" for key, spec in outputs),
    ]


def _step_and_counts(checkpoint: Path) -> tuple[int, dict[str, int]]:
    """Reads the step of a checkpoint, and what its data counts, if its version wrote that."""
    state = json.loads((checkpoint / "state.json").read_text())
    return state["step"], state.get("counts", {})
