"""Scores the model of a run on its test set: `python -m apps.evaluate --workdir=runs/demo`.

The last line on standard output is one JSON object, also kept as `evaluation-test.json` in the
run's folder, beside a table of the worst and best sentences or of the classes, pictures, and all
predictions. A line on standard error says where.

Other data than the run's own is scored by `--test=my.en,my.de`, `--test=pairs.tsv`,
`--test=folder` (a folder of images for each class) or `--test=images.npz`. A translator may search
in other ways than its config says, such as `--beam_size=1`. The files then have other names, which
say what is different.
"""

import json
import sys

from absl import flags

from apps import decode_flags, program, tasks
from pipelines.runs import checkpoints, evaluation

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "What to score.")
TEST = flags.DEFINE_string("test", "", "Own data to score instead of the run's test set.")
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "One more file for the predictions: .txt, .tsv, .csv or .jsonl."
)
flags.adopt_module_key_flags(decode_flags)


def main(argv):
    if len(argv) > 1:
        raise ValueError(f"Expected flags alone, received {argv[1:]}.")
    if TEST.value and SPLIT.value != "test":
        raise ValueError(f"Expected --test without --split={SPLIT.value}.")
    flags_of_run = WORKDIR.value, WEIGHTS.value, SPLIT.value
    changes = decode_flags.given()
    scores, summary = evaluation.evaluate_run(
        tasks.find, *flags_of_run, changes, TEST.value, OUTPUT.value
    )
    print(summary, file=sys.stderr, flush=True)
    print(json.dumps(scores))


if __name__ == "__main__":
    program.run(main)
