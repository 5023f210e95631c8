"""The formats of an export: what each writes into the folder of a version, and how it is run.

A new format is an entry of `FORMATS`.
"""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import tensorflow as tf

from kerasformer.interop import litert, onnx
from kerasformer.interop.agreement import input_specs, share_of_equal, traced
from kerasformer.interop.ctranslate2 import QUANTIZATIONS
from kerasformer.interop.ctranslate2_translator import CTranslate2Translator
from pipelines.runs.config import write_config

CALIBRATION, COMPARED = 128, 64  # training and validation inputs that int8 and float16 are shown
Function = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Model(NamedTuple):
    """What is exported.

    Attributes:
        task: `training.task.Task`, the run's.
        module: what its `serving` returned.
        config: the resolved config of the run.
        workdir: folder of the run.
    """

    task: Any
    module: Any
    config: ml_collections.ConfigDict
    workdir: str


class Format(NamedTuple):
    """A format of an export.

    Attributes:
        quantizations: the values of `--quantization` that it has, the default first; empty where it
            keeps the precision of the training.
        write: function `(model, folder, quantization)` that writes files and returns a title for
            the model card, and the functions that the files hold: `tf.function` by name.
        load: function from a folder of this format to its functions by name. Each is a function
            without arguments that loads one, which takes and returns a dict of arrays.
        has_search: bool. Whether the files of a translator hold its search.
    """

    quantizations: tuple[str, ...]
    write: Callable[[Model, Path, str], tuple[str, dict]]
    load: Callable[[Path], dict[str, Callable[[], Function]]]
    has_search: bool


class Runtime(NamedTuple):
    """A runtime that reads a file for each function of a model.

    Attributes:
        format, title: str. Its names, for programs and for people.
        suffix: str. Of its files.
        export, load: functions that write a file and that load it, as those of `interop.onnx`.
    """

    format: str
    title: str
    suffix: str
    export: Callable[..., float]
    load: Callable[[str], Function]


def _write_saved_model(model, folder, _):
    functions = model.module.signatures()
    tf.saved_model.save(model.module, str(folder), signatures=functions)
    return "SavedModel", functions


def _load_saved_model(folder):
    loaded = tf.saved_model.load(str(folder))

    def run(name, inputs):  # It keeps `loaded`, which owns the variables.
        inputs = {key: tf.constant(array) for key, array in inputs.items()}
        outputs = loaded.signatures[name](**inputs)
        return {key: output.numpy() for key, output in outputs.items()}

    return {name: partial(partial, run, name) for name in loaded.signatures}


def _write_files(runtime, model, folder, quantization):
    """Writes a file for each function of a model, and what the run prepared beside them."""
    is_exact = quantization == "float32"
    shown = {"train": CALIBRATION, "validation": COMPARED}
    inputs = {
        split: [] if is_exact else model.task.inputs(model.module, model.config, split, count)
        for split, count in shown.items()
    }
    functions, largest, equal, count = {}, 0.0, 0, 0
    for name, parts in model.module.runtime_functions(runtime.format).items():
        function, samples, options = parts
        path = folder / (name + runtime.suffix)
        precision = {"quantization": quantization, "calibration": _for(function, inputs["train"])}
        difference = runtime.export(function, path, samples, **precision, **options)
        functions[path.name], largest = function, max(largest, difference)
        if known := _for(function, inputs["validation"]):
            run = runtime.load(str(path))
            found = share_of_equal(traced(function), run, known, runtime.title)
            equal, count = equal + found[0], count + found[1]
    for path in filter(Path.exists, (Path(model.workdir, name) for name in model.task.PREPARED)):
        shutil.copy(path, folder)
    write_config(folder, model.config)  # It says how inputs are prepared.
    title = f"{runtime.title}, in {quantization}, within {largest:.1e} of TensorFlow"
    if count:
        title += f", with {equal} of {count} equal answers to validation inputs"
    return title, functions


def _for(function, inputs):
    """Returns the inputs that have what a function takes."""
    names = {spec.name for spec in input_specs(traced(function))}
    return [sample for sample in inputs if sample.keys() == names]


def _load_files(runtime, folder):
    return {
        path.stem: partial(runtime.load, str(path))
        for path in sorted(folder.glob(f"*{runtime.suffix}"))
    }


def _write_ctranslate2(model, folder, quantization):
    largest = model.task.write_ctranslate2(model.module, model.config, folder, quantization)
    title = f"CTranslate2, in {quantization}, whose float32 is within {largest:.1e} of TensorFlow"
    return title, {}


def _load_ctranslate2(folder):
    def load():
        translator = CTranslate2Translator(folder)
        return lambda inputs: translator.translate(**inputs)

    return {"translator": load}


def _format(runtime, quantizations, has_search):
    write, load = partial(_write_files, runtime), partial(_load_files, runtime)
    return Format(quantizations, write, load, has_search)


ONNX = Runtime("onnx", "ONNX", ".onnx", onnx.export_onnx, onnx.load_onnx)
LITERT = Runtime("litert", "LiteRT", ".tflite", litert.export_litert, litert.load_litert)
FORMATS = {
    "saved_model": Format((), _write_saved_model, _load_saved_model, has_search=True),
    "onnx": _format(ONNX, onnx.QUANTIZATIONS, has_search=True),
    "litert": _format(LITERT, litert.QUANTIZATIONS, has_search=False),
    "ctranslate2": Format(QUANTIZATIONS, _write_ctranslate2, _load_ctranslate2, has_search=True),
}


def chosen_quantization(format: str, quantization: str | None) -> str:
    """Returns the precision of an export, the default of its format where none is asked for.

    Raises:
        ValueError: for another format, or a precision that it lacks.
    """
    if format not in FORMATS:
        raise ValueError(f"Expected format to be one of {tuple(FORMATS)}, received {format=}.")
    known = FORMATS[format].quantizations
    if quantization is None:
        return known[0] if known else ""
    if quantization not in known:
        of_format = f"one of {known}" if known else "unset"
        raise ValueError(
            f"Expected quantization to be {of_format} with {format=}, received {quantization=}."
        )
    return quantization
