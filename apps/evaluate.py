"""Scores the model of a run on its test set: `python -m apps.evaluate --workdir=runs/demo`.

The last line on standard output is one JSON object, also kept as `evaluation-test.json` in the
run's folder; before it comes a table of the worst and best sentences or of the classes.
"""

import json

from absl import flags

from apps import program, tasks
from pipelines.runs import checkpoints, evaluation

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "What to score.")
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)


def main(_):
    flags_of_run = WORKDIR.value, WEIGHTS.value, SPLIT.value
    scores, table = evaluation.evaluate_run(tasks.find, *flags_of_run)
    print(table)
    print(json.dumps(scores))


if __name__ == "__main__":
    program.run(main)
