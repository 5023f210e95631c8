"""Sentence pairs from wherever they are kept: text files, tables, TFDS or the embedded corpus.

`read_pairs` gives every pair of a split as it stands, so that a test set is never touched.
"""

import math
import os
from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from typing import Any

from kerasformer.text_files import read_lines
from pipelines.data.sources import below_folder, read_tfds, required
from pipelines.demo_corpus import corpus
from pipelines.text.cleaning import Corpus, Pair, held_out, source_key
from pipelines.text.languages import is_name, read_languages
from pipelines.text.tables import read_table

CUT_SPLITS = ("validation", "test")  # Those that may be cut from the training pairs.
# The keys of `config.data` that one format or another reads, or what is done with the pairs.
PAIR_KEYS = {"format", "is_tokenized", "max_words", "max_ratio", "deduplicate", "folder", "columns"}
PAIR_KEYS |= {
    "name",
    "data_dir",
    "languages",
    "download",
    "train",
    "validation",
    "test",
    "held_out",
}
PAIR_KEYS |= {"bleu_tokenizer", "corpus_weights", "corpus_temperature"}


def read_pairs(data, split: str) -> list[Pair]:
    """Reads the (source, target) sentence pairs of one split.

    Args:
        data: ConfigDict. Its `format` says which other keys count:
            `"embedded"`: none, the corpus of `pipelines.demo_corpus`.
            `"files"`: `train`, `validation` and `test`, each a (source file, target file) below
            `folder`, plain or packed as `kerasformer.text_files.read_lines` reads it; in a path `~`
            and environment variables are expanded.
            `"tsv"` and `"csv"`: `train`, `validation` and `test`, each one file below `folder`, and
            `columns`, the (source, target) columns counted from 0, or by their names in the first
            line.
            `"tfds"`: `name` (such as `"ted_hrlr_translate/pt_to_en"`), `data_dir`,
            `languages` (such as `("pt", "en")`), `download`, and in `train`, `validation` and
            `test` the splits of that dataset. Data prepared in `data_dir` is read offline.
            A split may have several corpora: a tuple of pairs of files, or of tables.
            With `held_out` a validation or test set that has no corpus is cut from the training
            pairs: those of `held_out` different sources.
        split: str. `"train"`, `"validation"` or `"test"`.

    Returns:
        List of (source, target) str pairs, in the order of the data.

    Raises:
        ValueError: if the data is missing, empty, or not what `data` says; the sentence names the
            file and, where there is one, the line.
    """
    return list(chain.from_iterable(read_corpora(data, split)))


def read_corpora(data, split: str) -> list[Corpus]:
    """Reads the pairs of one split, those of each corpus in a list; else as `read_pairs`."""
    name = required(data, "format")
    if name not in READERS:
        raise ValueError(f"Expected data.format to be one of {tuple(READERS)}, received {name!r}.")
    cut = [other for other in CUT_SPLITS if data.get("held_out") and not data.get(other)]
    is_cut = split in cut
    corpora = READERS[name](data, "train" if is_cut else split)
    if cut and (is_cut or split == "train"):
        keys = held_out(corpora, data.held_out, cut)
        if is_cut:
            corpora = [[p for p in pairs if source_key(p) in keys[split]] for pairs in corpora]
            corpora = [list(dict.fromkeys(p for p in chain(*corpora) if all(map(str.strip, p))))]
        else:
            kept_out = set().union(*keys.values())
            corpora = [[p for p in pairs if source_key(p) not in kept_out] for pairs in corpora]
    if not any(corpora):
        raise ValueError(
            f"Expected sentence pairs for split={split!r}, received none from data.format={name!r}"
            f" with data.{split}={data.get(split)!r}."
        )
    return corpora


def _embedded(data, split: str) -> list[Corpus]:
    splits = corpus.splits()
    if split not in splits:
        raise ValueError(f"Expected split to be one of {tuple(splits)}, received split={split!r}.")
    return [[(source, target) for source, target in splits[split]]]


def _files(data, split: str) -> list[Corpus]:
    names = _paths(data, split)
    if len(names) % 2:
        raise ValueError(
            f"Expected data.{split} to be a (source file, target file), or several of them, "
            f"received data.{split}={data[split]!r}."
        )
    return [_read_files(*pair) for pair in zip(names[::2], names[1::2], strict=True)]


def _read_files(*paths: str) -> Corpus:
    sides = [list(read_lines(path)) for path in paths]
    counts = [len(side) for side in sides]
    if counts[0] != counts[1]:
        shorter, longer = sorted(range(2), key=lambda side: counts[side])
        line = _first_shifted_line(sides[longer], sides[shorter])
        raise ValueError(
            f"Expected as many lines in both files, received {counts[0]} in {paths[0]} and "
            f"{counts[1]} in {paths[1]}: by the lengths of the lines, they are out of step from "
            f"about line {line} on, of {paths[longer]}."
        )
    return list(zip(*sides, strict=True))


def _first_shifted_line(longer: list[str], shorter: list[str]) -> int:
    """Guesses the line of the longer file from which on lines have no partner, counted from 1.

    All lines that are too many are taken to stand in one place; it is chosen so that the lines
    before it and behind it resemble their partners most in length. Where lines of 3,000 pairs of
    Multi30k were deleted, nine guesses of ten were right or one line off.
    """
    sizes = [[math.log(len(line.strip()) + 1) for line in side] for side in (longer, shorter)]
    sizes = [[size - sum(side) / max(len(side), 1) for size in side] for side in sizes]
    extra = len(longer) - len(shorter)
    before = (abs(a - b) for a, b in zip(sizes[0], sizes[1], strict=False))
    behind = (abs(a - b) for a, b in zip(sizes[0][extra:], sizes[1], strict=True))
    # What it costs that a pair of lines stands before the place and not behind it, summed up.
    costs = [0.0, *accumulate(a - b for a, b in zip(before, behind, strict=True))]
    return 1 + min(range(len(costs)), key=costs.__getitem__)


def _table(data, split: str) -> list[Corpus]:
    columns = _two(data, "columns")
    columns = tuple(int(c) if str(c).lstrip("-").isdigit() else c for c in columns)
    return [read_table(path, data.format, columns) for path in _paths(data, split)]


def _tfds(data, split: str) -> list[Corpus]:
    required(data, "languages")
    languages = read_languages(data)

    def read(tfds, builder, tfds_split):
        features = tuple(builder.info.features)
        if not set(languages) <= set(features):
            raise ValueError(f"data.languages={languages} are not among its features {features}")
        dataset = builder.as_dataset(split=tfds_split, shuffle_files=False).batch(1024)
        return [list(_decoded(tfds.as_numpy(dataset), languages))]

    return read_tfds(data, split, read)


READERS: dict[str, Callable[[Any, str], list[Corpus]]] = {
    "embedded": _embedded,
    "files": _files,
    "tsv": _table,
    "csv": _table,
    "tfds": _tfds,
}


def _decoded(batches, languages: tuple[str, ...]) -> Iterator[Pair]:
    number = 0
    for batch in batches:
        for pair in zip(*(batch[language] for language in languages), strict=True):
            number += 1
            try:
                yield pair[0].decode("utf-8"), pair[1].decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"example {number} is not UTF-8 text") from None


def _paths(data, split: str) -> list[str]:
    """Lists the files of a split: of one name, of names with commas between them, or of tuples."""
    value = required(data, split)
    if isinstance(value, str) and not os.path.isfile(below_folder(data, value)):
        value = [name.strip() for name in value.split(",")]
    names = list(_flat(value))
    if not names or not all(map(is_name, names)):
        raise ValueError(f"Expected data.{split} to name files, received data.{split}={value!r}.")
    return [below_folder(data, name) for name in names]


def _flat(value) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        yield from chain.from_iterable(map(_flat, value))
    else:
        yield value


def _two(data, key: str) -> tuple:
    value = required(data, key)
    values = value.split(",") if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise ValueError(
            f"Expected data.{key} to be a (source, target), received data.{key}={value!r}."
        )
    return tuple(values)
