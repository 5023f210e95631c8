"""Uses a model: `python -m apps.predict --model=runs/demo/export "A boy."`

`--model` is the folder of an export, or of a run, which is then used as it would be exported;
a translator of a run may search in other ways than its config says, such as `--beam_size=1`.

A classifier names what is on images: files, folders, patterns such as "photos/*.jpg", or the paths
in the lines of `--file` or of standard input. See `pipelines/exported/pixels.py`.

A translator takes sentences: the arguments (behind `--` where they begin with a dash), or the lines
of `--file`, or the lines of standard input. Each gets one line on standard output, an empty one an
empty line. With `--nbest=N` each gets up to N lines `score<TAB>translation`, best first, and an
empty line behind them. With `--score` it takes a source and a target, or lines `source<TAB>target`,
and gives the log-probability of the target, in nats.

Answers go to standard output, or to `--output=FILE`: text as above, TSV, CSV or JSON lines. An
input that cannot be used is named on standard error; the others are answered, and the exit code is
1.

`--alignment=picture.png` also draws which source words were read for each word of the translation:
of one sentence in picture.png, of several in picture-1.png, picture-2.png and so on.
"""

import sys
from pathlib import Path

from absl import flags

from apps import decode_flags, program, tasks
from pipelines.exported import pixels, words
from pipelines.exported.ctranslate2_models import CTranslate2Model, is_for_ctranslate2
from pipelines.exported.models import Model, versions
from pipelines.runs import checkpoints, weights

MODEL = flags.DEFINE_string(
    "model",
    None,
    "Folder of an exported model (a SavedModel, or one for CTranslate2), of its numbered versions "
    "(the newest is used), or of a run.",
    required=True,
)
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights of a run; unset: as its config says."
)
FILE = flags.DEFINE_string(
    "file", None, "Text file with a sentence, a pair for --score or the path of an image a line."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "File for the answers: .txt, .tsv, .csv or .jsonl; unset: standard output."
)
NBEST = flags.DEFINE_integer(
    "nbest", None, "Number of translations of each sentence, with scores.", lower_bound=1
)
SCORE = flags.DEFINE_bool("score", False, "Whether given translations are scored.")
ALIGNMENT = flags.DEFINE_string("alignment", None, "Picture to draw: .png, .pdf or .svg.")
ATTENTION = flags.DEFINE_string(
    "attention", None, "Picture to draw of where a classifier looked: .png, .pdf or .svg."
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    32,
    "Inputs that are answered, and then printed, at a time; those typed in go one by one.",
    lower_bound=1,
)
flags.adopt_module_key_flags(decode_flags)


def main(argv):
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    if SCORE.value and (NBEST.value or ALIGNMENT.value):
        raise ValueError("Expected --score without --nbest and without --alignment.")
    model, arguments = load(), argv[1:]
    if ATTENTION.value is None and "classify" not in model.signatures:
        options = NBEST.value, ALIGNMENT.value, SCORE.value, BATCH_SIZE.value, OUTPUT.value
        return words.translate(model, arguments, FILE.value, words.Options(*options))
    model.require("classify")
    for flag in (ALIGNMENT, NBEST, SCORE):
        if flag.value:
            raise ValueError(f"Expected --{flag.name} with a translator, received a classifier.")
    options = ATTENTION.value, BATCH_SIZE.value, OUTPUT.value
    return pixels.classify(model, arguments, FILE.value, *options)


def load() -> Model:
    """Loads the export, or the run with the search that the flags ask for."""
    folder, changes = Path(MODEL.value), decode_flags.given()
    for_ctranslate2 = is_for_ctranslate2(folder)
    is_run = (folder / "config.json").is_file() and not for_ctranslate2
    if is_run and not versions(folder):
        if NBEST.value and changes.get("decode.num_hypotheses") is None:
            changes["decode.num_hypotheses"] = NBEST.value
        run = weights.load_run(tasks.find, MODEL.value, WEIGHTS.value, changes)
        return Model(folder, run)
    given = [key.partition(".")[2] for key in changes] + ["weights"] * WEIGHTS.present
    if given:
        raise ValueError(
            f"Expected --{given[0]} with the folder of a run, because an export keeps what it was "
            f"exported with, received --model={folder}: pass the run, or export it anew by "
            f"apps.export with this flag."
        )
    return CTranslate2Model(folder) if for_ctranslate2 else Model(folder)


if __name__ == "__main__":
    program.run(main)
