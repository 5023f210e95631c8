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

import io
import os
import sys
from pathlib import Path

from absl import flags

from apps import program
from kerasformer.explain.pictures import PICTURES
from pipelines.exported import pixels
from pipelines.exported.models import Model
from pipelines.exported.words import note, predict, sentences

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


def picture_paths(flag: str, path: str | os.PathLike, count: int) -> list[Path]:
    """Names the pictures of `count` sentences or images, for the flag of that name.

    Raises:
        ValueError: when they cannot be written, before any work is done.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"--{flag}={path} should end in one of {PICTURES}.")
    if not path.parent.is_dir():
        raise ValueError(f"--{flag}={path} cannot be written: {path.parent} is no folder.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--{flag}={path} cannot be written there.")
    if count == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{number}") for number in range(1, count + 1)]


def main(argv):
    sys.stdout.reconfigure(encoding="utf-8")
    model = Model(MODEL.value)
    if ATTENTION.value is not None or "classify" in model.signatures:
        model.require("classify", "attention")
        for name, value in (("alignment", ALIGNMENT), ("file", FILE), ("nbest", NBEST)):
            if value.value is not None:
                raise ValueError(f"Expected --{name} with a translator, received a classifier.")
        count, pictures = len(argv) - 1, ATTENTION.value
        pictures = pictures and picture_paths("attention", pictures, count)
        pixels.predict(model.signatures, argv[1:], pictures)
    else:
        translate(model, argv[1:])


def translate(model: Model, arguments: list[str]) -> None:
    """Does what the flags ask of a translator."""
    nbest, batch_size, pictures = NBEST.value, BATCH_SIZE.value, None
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
    if not arguments and FILE.value is None and stdin.isatty():
        batch_size = 1
        note("a sentence in each line is translated at once; Ctrl-D ends.")
    model.require("translate_nbest" if nbest else "translate")
    texts = sentences(arguments, FILE.value, stdin)
    if ALIGNMENT.value is not None:
        texts = list(texts)
        model.require("align")
        pictures = picture_paths("alignment", ALIGNMENT.value, len(texts))
    predict(model, texts, nbest, pictures, batch_size)


if __name__ == "__main__":
    program.run(main)
