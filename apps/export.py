"""Exports the model of a run as a SavedModel: `python -m apps.export --workdir=runs/demo`.

Each call writes the next version, `workdir/export/1`, `2`, ..., with a model card in it.
"""

from absl import flags

from apps import program, tasks
from pipelines import checkpoints, export, run_folder

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)


def main(_):
    config = run_folder.read_config(WORKDIR.value)
    weights = WEIGHTS.value or config.weights
    path = export.export(tasks.find(config.task), config, WORKDIR.value, weights)
    print(f"Exported to {path}")


if __name__ == "__main__":
    program.run(main)
