"""What `apps.predict` does with a translator: translates lines, scores pairs, draws alignments."""

import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from kerasformer import explain
from pipelines.data.row_files import one_line
from pipelines.exported.answers import Faults, Write, bar, is_typed, note, note_cut, written_to
from pipelines.exported.models import Model
from pipelines.exported.pictures import picture_paths


class Options(NamedTuple):
    """How `translate` answers.

    Attributes:
        nbest: how many translations with scores, or `None` for one without.
        alignment: path of the picture to draw, as in `picture_paths`, or `None`.
        scores_pairs: whether given translations are scored, and none are made.
        batch_size: how many sentences are translated at a time.
        output: path of the file for the answers, or `None` for standard output.
    """

    nbest: int | None = None
    alignment: str | None = None
    scores_pairs: bool = False
    batch_size: int = 32
    output: str | None = None


DEFAULT = Options()


def translate(
    model: Model, arguments: list[str], file: str | None, options: Options = DEFAULT
) -> int:
    """Translates what `apps.predict` was given, or scores pairs.

    Args:
        model: a translator.
        arguments: sentences; without any, those of `file` or else of standard input are taken,
            and on a terminal each is translated as soon as it is typed in. Of pairs, the source
            and the target; a file and standard input have a tab between them.
        file: path of a text file, or `None`.
        options: how to answer.

    Returns:
        The exit code: 1 if an input could not be used, else 0.
    """
    stdin, faults = sys.stdin.buffer if sys.stdin else io.BytesIO(), Faults()
    typed = is_typed(arguments, file)
    options = options._replace(batch_size=1) if typed else options
    if options.scores_pairs:
        model.require("score")
        if arguments and len(arguments) != 2:
            raise ValueError(
                f"Expected a source and a target with --score, received {len(arguments)} arguments."
            )
        arguments = ["\t".join(arguments)] if arguments else []
    model.require("translate_nbest" if options.nbest else "translate")
    texts, pictures = sentences(arguments, file, stdin, faults), None
    if options.alignment is not None:
        texts = list(texts)
        model.require("align")
        pictures = picture_paths("alignment", options.alignment, len(texts))
    with written_to(options.output) as write:
        what = "argument" if arguments else "line"
        predict(model, texts, write, faults, options, pictures, what, typed)
    return faults.exit_code


def predict(
    model: Model,
    texts: Iterable[str],
    write: Write,
    faults: Faults,
    options: Options = DEFAULT,
    pictures: Sequence[Path] | None = None,
    what: str = "line",
    typed: bool = False,
) -> None:
    """Answers sentences or pairs, and notes which were cut off.

    Args:
        model: with the signatures that the options need.
        texts: str for each sentence or pair.
        write: function that takes each answer, as `answers.written_to` yields it.
        faults: takes pairs that are none.
        options: how to answer.
        pictures: path for each sentence to draw its alignment, or `None`.
        what: str. What a sentence is in the notes: `"line"` or `"argument"`.
        typed: bool. Whether somebody waits for each answer, and so for its note.
    """
    cut: list[int] = []
    total = len(texts) if isinstance(texts, list) else None
    with bar(total, options.output, "line") as shown:
        number = 0
        for batch in batches(texts, options.batch_size):
            if options.scores_pairs:
                truncated = score(model, batch, write, faults, f"{what} {{}}".format, number)
            elif options.nbest:
                truncated = several(model, batch, options.nbest, write)
            else:
                truncated = best(model, batch, write)
            cut += (number + 1 + np.flatnonzero(truncated)).tolist()
            if typed:
                note_cut(cut, what)
                cut.clear()
            if pictures:
                draw(model, batch, pictures[number : number + len(batch)])
            number += len(batch)
            shown.update(len(batch))
    note_cut(cut, what)


def decode_lines(lines: Iterable[bytes], source: str, faults: Faults) -> Iterator[str]:
    """Reads lines as UTF-8, without their ends and without a byte order mark.

    Args:
        lines: bytes for each line.
        source: str. Where they come from, for errors.
        faults: takes each line that is not UTF-8, which is read as an empty one.
    """
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            faults.add(f"{source} {number} is not UTF-8: {error.reason}.")
            text = ""
        yield text.rstrip("\r\n")


def sentences(
    arguments: list[str], file: str | None, stdin: BinaryIO, faults: Faults
) -> Iterable[str]:
    """Takes the arguments, or the lines of a file, or else those of standard input."""
    if arguments and file is not None:
        raise ValueError(
            f"Expected sentences or --file, received both: {len(arguments)} and --file={file}."
        )
    if arguments:
        return list(decode_lines(map(os.fsencode, arguments), "argument", faults))
    if file is not None:
        with open(file, "rb") as lines:
            return list(decode_lines(lines, f"{file}, line", faults))
    return decode_lines(stdin, "standard input, line", faults)


def batches(sentences: Iterable[str], size: int) -> Iterator[list[str]]:
    """Splits sentences into lists of at most `size`, each as soon as it is full."""
    sentences = iter(sentences)
    return iter(lambda: list(itertools.islice(sentences, size)), [])


def best(model: Model, batch: list[str], write: Write) -> np.ndarray:
    """Writes the translations of a batch; returns which sentences were cut off."""
    outputs = model.call("translate", text=batch)
    for source, text, score in zip(batch, outputs["translation"], outputs["score"], strict=True):
        translation = spell(text)
        write({"source": source, "translation": translation, "score": rounded(score)}, translation)
    return outputs["truncated"]


def several(model: Model, batch: list[str], count: int, write: Write) -> np.ndarray:
    """Writes up to `count` translations of each sentence; returns what `best` does."""
    outputs = model.call("translate_nbest", text=batch)
    available = outputs["scores"].shape[1]
    if count > available:
        raise ValueError(
            f"Expected --nbest of at most {available}, all that the model gives, "
            f"received --nbest={count}."
        )
    for text, translations, scores in zip(
        batch, outputs["translations"], outputs["scores"], strict=True
    ):
        # A sentence of spaces has one translation only, the empty one.
        pairs = list(zip(translations, scores, strict=True))[: count if text.strip() else 1]
        pairs = [(spell(text), score) for text, score in pairs if score > -float("inf")]
        for rank, (translation, score) in enumerate(pairs, start=1):
            row = {"source": text, "rank": rank, "translation": translation}
            # The empty line behind the last one ends the translations of a sentence.
            end = "\n" if rank == len(pairs) else ""
            write({**row, "score": rounded(score)}, f"{score:.4f}\t{translation}{end}")
    return outputs["truncated"]


def score(
    model: Model, batch: list[str], write: Write, faults: Faults, name: Any, first: int
) -> np.ndarray:
    """Writes how probable the targets of a batch of pairs are; returns which sources were cut.

    Args:
        model: with the signature `score`.
        batch: str for each pair, with a tab between source and target.
        write: function that takes each answer.
        faults: takes each that is no pair, whose answer is empty; an empty line is no fault.
        name: function from the number of a pair to its name.
        first: int. How many pairs came before.
    """
    pairs = [text.split("\t") for text in batch]
    usable = [index for index, pair in enumerate(pairs) if len(pair) == 2]
    truncated = np.zeros(len(batch), bool)
    answers: dict[int, tuple] = {}
    if usable:
        source, target = zip(*(pairs[index] for index in usable), strict=True)
        outputs = model.call("score", source=list(source), target=list(target))
        columns = (outputs[key] for key in ("log_probability", "tokens"))
        answers = dict(zip(usable, zip(*columns, strict=True), strict=True))
        truncated[usable] = outputs["truncated"]
    for index, pair in enumerate(pairs):
        if index not in answers:
            if batch[index]:
                faults.add(
                    f"Expected a source and a target with one tab between them in "
                    f"{name(first + index + 1)}, received {len(pair) - 1} tabs."
                )
            row = dict.fromkeys(("source", "target", "log_probability", "tokens"), "")
            write(row, "")
            continue
        log_probability, tokens = answers[index]
        numbers = {"log_probability": rounded(log_probability), "tokens": int(tokens)}
        write({"source": pair[0], "target": pair[1], **numbers}, f"{log_probability:.4f}")
    return truncated


def rounded(score: np.floating) -> float:
    """Rounds a score as it is printed."""
    return round(float(score), 4)


def spell(text: bytes) -> str:
    """Reads a translation, and replaces the line breaks that the model may have spelled."""
    return one_line(text.decode("utf-8", "replace"))


def draw(model: Model, batch: list[str], paths: Sequence[Path | None]) -> None:
    """Draws the alignments of a batch, and notes which sentences have none."""
    outputs = model.call("align", text=batch)
    names = ("alignment", "source_tokens", "target_tokens")
    for path, weights, *pieces in zip(paths, *(outputs[name] for name in names), strict=True):
        source, target = ([piece.decode("utf-8", "replace") for piece in row] for row in pieces)
        matrix, source, target = explain.word_alignment(weights, source, target)
        if matrix.size:
            explain.draw_alignment(matrix, source, target, path)
        else:
            note(f"{path} is not drawn: the sentence or its translation has no words.")
