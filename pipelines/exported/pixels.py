"""What `apps.predict` does with a classifier: names what is on image files.

Each file gets one line, `path<TAB>name probability<TAB>...`, most probable first.
`--attention=picture.png` also draws where the model looked: for one image in picture.png, for
several in picture-1.png, picture-2.png and so on.
"""

import glob
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasformer import explain
from pipelines.error_sentence import sentence
from pipelines.exported.answers import Faults, Write, bar, is_typed, written_to
from pipelines.exported.models import Model
from pipelines.exported.pictures import picture_paths
from pipelines.images.files import SUFFIXES, is_hidden, read_image


def classify(
    model: Model,
    arguments: Sequence[str],
    file: str | None,
    attention: str | None,
    batch_size: int,
    output: str | None,
) -> int:
    """Classifies what `apps.predict` was given.

    Args:
        model: a classifier.
        arguments: image files, folders of such, or patterns such as `"photos/*.jpg"`; without any,
            those in the lines of `file` or else of standard input are taken.
        file: path of a text file, or `None`.
        attention: path of the picture to draw, as in `picture_paths`, or `None`.
        batch_size: int. How many images are classified at a time.
        output: path of the file for the answers, or `None` for standard output.

    Returns:
        The exit code: 1 if an image could not be used, else 0.
    """
    if arguments and file is not None:
        raise ValueError(
            f"Expected images or --file, received both: {len(arguments)} and --file={file}."
        )
    faults, pictures = Faults(), None
    batch_size = 1 if is_typed(arguments, file) else batch_size
    paths: Iterable[str] = expand(arguments or _lines(file), faults)
    if arguments or file is not None:
        paths = list(paths)  # Their number is then known to the bar.
    if attention is not None:
        if "attention" not in model.signatures:
            raise ValueError(
                f"--model={model.folder} holds a model without attention, so that there is nothing "
                f"to draw: leave out --attention={attention}."
            )
        paths = list(paths)
        pictures = picture_paths("attention", attention, len(paths))
    with written_to(output) as write:
        predict(model.signatures, paths, write, faults, pictures, batch_size, output)
    return faults.exit_code


def predict(
    signatures: dict,
    paths: Iterable[str],
    write: Write,
    faults: Faults,
    pictures: Sequence[Path] | None = None,
    batch_size: int = 32,
    output: str | None = None,
) -> None:
    """Answers what is on image files, and draws where the model looked.

    Args:
        signatures: those of the classifier, by name.
        paths: the files.
        write: function that takes each answer, as `answers.written_to` yields it.
        faults: takes each file that cannot be used, and the others go on.
        pictures: path of a picture for each file, or `None`.
        batch_size: int. How many images are classified at a time.
        output: as in `classify`, because answers on a terminal leave no room for a bar.
    """
    numbered = enumerate(paths)
    with bar(len(paths) if isinstance(paths, list) else None, output, "image") as shown:
        while batch := list(itertools.islice(numbered, batch_size)):
            usable = list(filter(None, (_read(*item, faults) for item in batch)))
            for (index, path, contents), answer in _answers(signatures, usable, faults):
                names, probabilities = answer
                pairs = list(zip(names, probabilities, strict=True))
                text = "\t".join([path, *(f"{name} {share:.4f}" for name, share in pairs)])
                write(_row(path, pairs), text)
                if pictures:
                    seen = signatures["attention"](image=tf.constant([contents]))
                    pixels, weights = (seen[key][0].numpy() for key in ("pixels", "attention"))
                    explain.draw_grid_maps(pixels, weights, pictures[index], titles=names[:1])
            shown.update(len(batch))


def expand(names: Iterable[str], faults: Faults) -> Iterator[str]:
    """Lists the files that names stand for: files, the images in folders, and patterns.

    Args:
        names: paths and patterns.
        faults: takes each that stands for none.
    """
    for name in names:
        if os.path.isdir(name):
            found = sorted(str(path) for path in Path(name).rglob("*") if _is_image(path, name))
            if not found:
                faults.add(f"{name} holds no images: expected files of {', '.join(SUFFIXES)}.")
            yield from found
        elif glob.has_magic(name) and not os.path.exists(name):
            found = sorted(filter(os.path.isfile, glob.glob(name, recursive=True)))
            if not found:
                faults.add(f"{name} matches no file.")
            yield from found
        else:
            yield name


def _is_image(path: Path, folder: str) -> bool:
    parts = path.relative_to(folder).parts
    return not any(map(is_hidden, parts)) and path.suffix.lower() in SUFFIXES and path.is_file()


def _lines(file: str | None) -> Iterator[str]:
    """Reads a path from each line of a file, or of standard input."""
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
    with open(file, "rb") if file is not None else stdin as lines:
        for line in lines:
            name = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n"))
            if name:
                yield name


def _read(index: int, path: str, faults: Faults) -> tuple[int, str, bytes] | None:
    """Reads a file; one that cannot be used is a fault."""
    try:
        return index, path, read_image(path)
    except ValueError as error:
        faults.add(str(error))
        return None


def _answers(signatures: dict, items: list[tuple], faults: Faults) -> Iterator[tuple[tuple, Any]]:
    """Classifies files at once, and if one of them cannot be decoded each half by itself.

    Yields:
        Pairs of an item, as `_read` returns it, and the names and probabilities of its classes.
    """
    if not items:
        return
    try:
        answer = signatures["classify"](image=tf.constant([contents for *_, contents in items]))
    except tf.errors.InvalidArgumentError as error:
        if len(items) == 1:
            faults.add(f"{items[0][1]} cannot be used: {sentence(error)}")
            return
        middle = len(items) // 2
        yield from _answers(signatures, items[:middle], faults)
        yield from _answers(signatures, items[middle:], faults)
        return
    rows = zip(answer["class_names"].numpy(), answer["probabilities"].numpy(), strict=True)
    for item, (names, probabilities) in zip(items, rows, strict=True):
        yield item, ([name.decode("utf-8") for name in names], probabilities)


def _row(path: str, pairs: list) -> dict[str, Any]:
    """Makes a row of an answer: the file, and its classes with their probabilities."""
    row: dict[str, Any] = {"image": path}
    for rank, (name, share) in enumerate(pairs, start=1):
        suffix = "" if rank == 1 else f"_{rank}"
        row |= {f"prediction{suffix}": name, f"probability{suffix}": round(float(share), 6)}
    return row
