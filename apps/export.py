"""Exports the model of a run as a SavedModel: `python -m apps.export --workdir=runs/demo`.

Each call writes the next version, `workdir/export/1`, `2`, ..., with a model card in it. With
`--format=onnx` or `--format=litert` it is `workdir/export_onnx/1` or `workdir/export_litert/1`.
A translator can be given another search than its config says, such as `--beam_size=1`.
"""

from absl import flags

from apps import decode_flags, program, tasks
from pipelines.runs import checkpoints, export

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)
FORMAT = flags.DEFINE_enum("format", "saved_model", export.FORMATS, "What is written.")
flags.adopt_module_key_flags(decode_flags)


def main(_):
    flags_of_run = WORKDIR.value, WEIGHTS.value, FORMAT.value
    path = export.export_run(tasks.find, *flags_of_run, decode_flags.given())
    print(f"Exported to {path}")


if __name__ == "__main__":
    program.run(main)
