"""What `apps.predict` does with a translator: translates lines and draws alignments."""

import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kerasformer import explain
from pipelines.exported.models import Model
from pipelines.exported.pictures import picture_paths


def translate(
    model: Model,
    arguments: list[str],
    file: str | None,
    nbest: int | None,
    alignment: str | None,
    batch_size: int,
) -> None:
    """Translates what `apps.predict` was given.

    Args:
        model: an exported translator.
        arguments: sentences; without any, those of `file` or else of standard input are taken,
            and on a terminal each is translated as soon as it is typed in.
        file: path of a text file, or `None`.
        nbest: int or `None`, as in `predict`.
        alignment: path of the picture to draw, as in `picture_paths`, or `None`.
        batch_size: int. How many sentences are translated at a time.
    """
    stdin, pictures = sys.stdin.buffer if sys.stdin else io.BytesIO(), None
    if not arguments and file is None and stdin.isatty():
        batch_size = 1
        note("a sentence in each line is translated at once; Ctrl-D ends.")
    model.require("translate_nbest" if nbest else "translate")
    texts = sentences(arguments, file, stdin)
    if alignment is not None:
        texts = list(texts)
        model.require("align")
        pictures = picture_paths("alignment", alignment, len(texts))
    predict(model, texts, nbest, pictures, batch_size)


def decode_lines(lines: Iterable[bytes], source: str) -> Iterator[str]:
    """Reads lines as UTF-8, without their ends and without a byte order mark.

    Args:
        lines: bytes for each line.
        source: str. Where they come from, for errors.

    Raises:
        ValueError: for a line that is not UTF-8, with its number.
    """
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{source} {number} is not UTF-8: {error.reason}.") from None
        yield text.rstrip("\r\n")


def sentences(arguments: list[str], file: str | None, stdin: BinaryIO) -> Iterable[str]:
    """Takes the arguments, or the lines of a file, or else those of standard input."""
    if arguments and file is not None:
        raise ValueError(
            f"Expected sentences or --file, received both: {len(arguments)} and --file={file}."
        )
    if arguments:
        return decode_lines(map(os.fsencode, arguments), "argument")
    if file is not None:
        # Read to its end at once: a line that is not UTF-8 is found before anything is printed.
        with open(file, "rb") as lines:
            return list(decode_lines(lines, f"{file}, line"))
    return decode_lines(stdin, "standard input, line")


def batches(sentences: Iterable[str], size: int) -> Iterator[list[str]]:
    """Splits sentences into lists of at most `size`, each as soon as it is full."""
    sentences = iter(sentences)
    return iter(lambda: list(itertools.islice(sentences, size)), [])


def best(model: Model, batch: list[str]) -> tuple[list[str], np.ndarray]:
    """Translates a batch: the lines to print, and which sentences were cut off."""
    outputs = model.call("translate", batch)
    return [one_line(text) for text in outputs["translation"]], outputs["truncated"]


def several(model: Model, batch: list[str], count: int) -> tuple[list[str], np.ndarray]:
    """Translates a batch in up to `count` ways; returns what `best` does, with scores."""
    outputs = model.call("translate_nbest", batch)
    available = outputs["scores"].shape[1]
    if count > available:
        raise ValueError(
            f"Expected --nbest of at most {available}, all that the exported model gives, "
            f"received --nbest={count}."
        )
    lines = []
    for text, translations, scores in zip(
        batch, outputs["translations"], outputs["scores"], strict=True
    ):
        # A sentence of spaces has one translation only, the empty one.
        pairs = list(zip(translations, scores, strict=True))[: count if text.strip() else 1]
        real = [f"{score:.4f}\t{one_line(text)}" for text, score in pairs if score > -float("inf")]
        lines.append("\n".join([*real, ""]))
    return lines, outputs["truncated"]


def one_line(text: bytes) -> str:
    """Reads a translation, and replaces the line breaks that the model may have spelled."""
    return text.decode("utf-8", "replace").replace("\r", " ").replace("\n", " ")


def draw(model: Model, batch: list[str], paths: Sequence[Path | None]) -> None:
    """Draws the alignments of a batch, and notes which sentences have none."""
    outputs = model.call("align", batch)
    names = ("alignment", "source_tokens", "target_tokens")
    for path, weights, *pieces in zip(paths, *(outputs[name] for name in names), strict=True):
        source, target = ([piece.decode("utf-8", "replace") for piece in row] for row in pieces)
        matrix, source, target = explain.word_alignment(weights, source, target)
        if matrix.size:
            explain.draw_alignment(matrix, source, target, path)
        else:
            note(f"{path} is not drawn: the sentence or its translation has no words.")


def note(text: str) -> None:
    """Prints a note to standard error."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def predict(
    model: Model,
    texts: Iterable[str],
    nbest: int | None = None,
    pictures: list[Path] | None = None,
    batch_size: int = 32,
) -> None:
    """Prints the translations of sentences.

    Args:
        model: with the signatures `translate` or `translate_nbest`, and with pictures `align`.
        texts: str for each sentence.
        nbest: int or `None`. How many translations with scores, or one without.
        pictures: path for each sentence to draw its alignment, or `None`.
        batch_size: int. How many sentences are translated at a time.
    """
    number = 0
    for batch in batches(texts, batch_size):
        lines, truncated = several(model, batch, nbest) if nbest else best(model, batch)
        print(*lines, sep="\n", flush=True)
        for index in np.flatnonzero(truncated):
            note(f"sentence {number + index + 1}, or its translation, was too long and is cut off.")
        if pictures:
            draw(model, batch, pictures[number : number + len(batch)])
        number += len(batch)
