"""Uses an exported model: `python -m apps.predict --model=runs/demo/export "A boy."`

A classifier names what is on the image files that are the arguments: see
`pipelines/exported/pixels.py`.

A translator takes sentences: the arguments (behind `--` where they begin with a dash), or the lines
of `--file`, or the lines of standard input. Each gets one line on standard output, an empty one an
empty line; notes go to standard error. With `--nbest=N` each gets up to N lines `score<TAB>
translation`, best first, and an empty line behind them.

`--alignment=picture.png` also draws which source words were read for each word of the translation:
of one sentence in picture.png, of several in picture-1.png, picture-2.png and so on.
"""

import sys

from absl import flags

from apps import program
from pipelines.exported import pixels, words
from pipelines.exported.models import Model
from pipelines.exported.pictures import picture_paths

MODEL = flags.DEFINE_string(
    "model",
    None,
    "Folder of an exported model, or of its numbered versions (the newest is used).",
    required=True,
)
FILE = flags.DEFINE_string("file", None, "UTF-8 text file with a sentence in each line.")
NBEST = flags.DEFINE_integer(
    "nbest", None, "Number of translations of each sentence, with scores.", lower_bound=1
)
ALIGNMENT = flags.DEFINE_string("alignment", None, "Picture to draw: .png, .pdf or .svg.")
ATTENTION = flags.DEFINE_string(
    "attention", None, "Picture to draw of where a classifier looked: .png, .pdf or .svg."
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    32,
    "Sentences that are translated, and then printed, at a time; those typed in go one by one.",
    lower_bound=1,
)


def main(argv):
    sys.stdout.reconfigure(encoding="utf-8")
    model, arguments = Model(MODEL.value), argv[1:]
    if ATTENTION.value is None and "classify" not in model.signatures:
        flags_of_words = FILE.value, NBEST.value, ALIGNMENT.value, BATCH_SIZE.value
        words.translate(model, arguments, *flags_of_words)
        return
    model.require("classify", "attention")
    for flag in (ALIGNMENT, FILE, NBEST):
        if flag.value is not None:
            raise ValueError(f"Expected --{flag.name} with a translator, received a classifier.")
    pictures = ATTENTION.value and picture_paths("attention", ATTENTION.value, len(arguments))
    pixels.predict(model.signatures, arguments, pictures)


if __name__ == "__main__":
    program.run(main)
