"""Exports the model of a run as a SavedModel: `python -m apps.export --workdir=runs/demo`.

Each call writes the next version, `workdir/export/1`, `2`, ..., with a model card in it. With
another `--format`, such as `onnx`, `litert` or `ctranslate2`, it is `workdir/export_onnx/1` and so
on. A translator can be given another search than its config says, such as `--beam_size=1`, and for
CTranslate2 smaller weights, such as `--quantization=int8`.
"""

from absl import flags

from apps import decode_flags, program, tasks
from kerasformer.interop.ctranslate2 import QUANTIZATIONS
from pipelines.runs import checkpoints, export

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)
FORMAT = flags.DEFINE_enum("format", "saved_model", export.FORMATS, "What is written.")
QUANTIZATION = flags.DEFINE_enum(
    "quantization",
    None,
    QUANTIZATIONS,
    "What the weights become with --format=ctranslate2; unset: float32.",
)
flags.adopt_module_key_flags(decode_flags)


def main(_):
    flags_of_run = WORKDIR.value, WEIGHTS.value, FORMAT.value
    path = export.export_run(
        tasks.find, *flags_of_run, decode_flags.given(), quantization=QUANTIZATION.value
    )
    print(f"Exported to {path}")


if __name__ == "__main__":
    program.run(main)
