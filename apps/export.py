"""Exports the model of a run as a SavedModel: `python -m apps.export --workdir=runs/demo`.

Each call writes the next version, `workdir/export/1`, `2`, ..., with a model card in it. With
another `--format`, such as `onnx`, `litert` or `ctranslate2`, it is `workdir/export_onnx/1` and so
on, and `--quantization=int8` makes it smaller. A translator can be given another search than its
config says, such as `--beam_size=1`.

Several formats, as in `--format=saved_model,onnx`, are also scored and timed on the test set, and
so are those of a `--quantization`: `workdir/export.md` compares size, speed and score.
"""

from absl import flags

from apps import decode_flags, program, tasks
from pipelines.runs import checkpoints, export, formats

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)
FORMAT = flags.DEFINE_list(
    "format", ["saved_model"], f"What is written, one or several of {', '.join(formats.FORMATS)}."
)
QUANTIZATION = flags.DEFINE_string(
    "quantization",
    None,
    "Precision of the weights: "
    + "; ".join(
        f"{name}: {', '.join(x.quantizations) or 'none'}" for name, x in formats.FORMATS.items()
    )
    + "; unset: the first, or that of the training.",
)
MEASURE = flags.DEFINE_bool(
    "measure",
    None,
    "Whether exports are scored on the test set and timed; unset: those of several formats or of "
    "a --quantization.",
)
flags.adopt_module_key_flags(decode_flags)


def main(_):
    run = tasks.find, WORKDIR.value, WEIGHTS.value, FORMAT.value, decode_flags.given()
    for path in export.export_run(*run, QUANTIZATION.value, MEASURE.value):
        print(f"Exported to {path}", flush=True)


if __name__ == "__main__":
    program.run(main)
