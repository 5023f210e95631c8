"""Scores the model of a run on its test set: `python -m apps.evaluate --workdir=runs/demo`.

The last line on standard output is one JSON object, also kept as `evaluation-test.json` in the
run's folder; before it comes a table of the worst and best sentences or of the classes.
"""

import json

from absl import flags

from apps import program, tasks
from pipelines.runs import checkpoints, evaluation
from pipelines.runs.config import read_config

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "What to score.")
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)


def main(_):
    config = read_config(WORKDIR.value)
    weights = WEIGHTS.value or config.weights
    scores, table = evaluation.evaluate(
        tasks.find(config.task), config, WORKDIR.value, weights, SPLIT.value
    )
    print(table)
    print(json.dumps(scores))


if __name__ == "__main__":
    program.run(main)
