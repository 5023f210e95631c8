"""Loads the model of a run and exports it, for TensorFlow Serving or for another runtime.

`export/<version>/` holds a SavedModel, `export_onnx/<version>/` and `export_litert/<version>/` a
file for each function of the model, the files that the run prepared of its data and its config,
`export_ctranslate2/<version>/` what CTranslate2 reads, the tokenizers and the search; each of them
a model card, `README.md`. A file is written only if its runtime answers as TensorFlow does;
of CTranslate2 the file in float32 is compared, before its weights are made smaller.
`export.md` compares the exports that were measured.
"""

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import tensorflow as tf

from pipelines.data.sources import source_name
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.evaluation import file_label, match
from pipelines.runs.files import write_text
from pipelines.runs.folder import opened
from pipelines.runs.formats import FORMATS, Model, chosen_quantization
from pipelines.runs.measuring import add_row, measure, section
from pipelines.runs.weights import changed, load_model

LICENCE = (
    "The code that made this model is Kerasformer, under the Apache License 2.0. Whether the "
    "weights may be passed on depends on the licences of the data."
)
BEFORE = "A program does this first for files that take numbers:"
OTHER_USE = "`docs/runtimes.md` of Kerasformer has code that uses these files."


def export_run(
    find: Callable[[str], Any],
    workdir: str,
    weights: str | None,
    formats: Sequence[str] = ("saved_model",),
    changes: Mapping[str, Any] | None = None,
    quantization: str | None = None,
    is_measured: bool | None = None,
) -> Iterator[Path]:
    """Reads the config of a run and exports its model, while no other process does so.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        weights: as in `load_model`, or `None` for those that the config names.
        formats: of `formats.FORMATS`, one after the other.
        changes: values other than those of the config, as in `weights.changed`.
        quantization: the precision of the files, or `None` for that of each format.
        is_measured: whether exports are scored and timed, for `export.md`; `None` for those of
            several formats or of a quantization.

    Yields:
        The folder of each new version.

    Raises:
        ValueError: when another process exports the run, there is none, or as in `export`.
    """
    for format in formats:
        chosen_quantization(format, quantization)
        if changes and not FORMATS[format].has_search:
            raise ValueError(
                f"Expected no other {next(iter(changes))} with format={format!r}, whose files hold "
                "the model alone."
            )
    if is_measured is None:
        is_measured = len(formats) > 1 or quantization is not None
    for format in formats:
        with opened(find, workdir, f".lock-{_folder_name(format)}", "exports") as (task, config):
            config = changed(task, config, changes or {})
            measured = is_measured and config.get("data", {}).get("test", True) != ""
            how = weights or config.weights, format, quantization, measured
            yield export(task, config, workdir, *how, file_label(changes or {}, "").strip("-"))


def export(
    task: Any,
    config: ml_collections.ConfigDict,
    workdir: str,
    weights: str,
    format: str = "saved_model",
    quantization: str | None = None,
    is_measured: bool = False,
    label: str = "",
) -> Path:
    """Writes the next version of a run's model, whole or not at all.

    Args:
        task: `training.task.Task`, the run's.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: as in `load_model`.
        format: one of `formats.FORMATS`.
        quantization, is_measured: as in `export_run`.
        label: str. What is other than in the config, for `export.md`.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: for another format or quantization, or one that cannot hold the model, or as in
            `load_model`.
    """
    precision = chosen_quantization(format, quantization)
    built = config.copy_and_resolve_references()
    if precision:
        built.train.precision = "float32"  # Other runtimes know no bfloat16.
    measured = []

    def write(folder):
        title, functions = FORMATS[format].write(model, folder, precision)
        parts = dict(task.card(config, workdir))
        if precision:
            parts["Use"] = OTHER_USE
            if functions and not any(map(_takes_text, functions.values())):
                parts.pop("Output", None)  # It tells of the search, which these files do not hold.
            if "Input" in parts:
                parts["Input"] = f"{BEFORE} {parts['Input']}"
        if is_measured:
            measured.append(measure(model, folder, format))
            parts["Measured"] = section(measured[0])
        parts["Example"] = task.example(module, config)
        card = model_card(title, functions, parts, config, workdir, weights)
        write_text(folder / "README.md", card)

    module = task.serving(load_model(task.build, built, workdir, weights), built, workdir)
    model = Model(task, module, config, workdir)
    path = _write_version(Path(workdir) / _folder_name(format), write)
    if measured:
        made_with = filter(None, [f"{format} {precision}".strip(), f"weights {weights}", label])
        add_row(workdir, path, ", ".join(made_with), measured[0])
    return path


def _takes_text(function: Any) -> bool:
    """Tests whether a function reads sentences."""
    return any(spec.dtype == tf.string for spec in function.input_signature)


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
