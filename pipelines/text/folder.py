"""Finds out what a folder of sentence pairs holds, by the names of its files and first lines."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kerasformer.text_files import NOT_READ, OPENERS, read_lines
from pipelines.data.row_files import read_rows
from pipelines.data.sources import expanded
from pipelines.text.languages import is_language

# What a part of a file's name says: the first that fits.
SPLITS = {
    "train": r"train(ing)?\d*",
    "validation": r"(valid(ation)?|val|dev(el)?)\d*",
    "test": r"(news)?test\d*|tst\d*",
}
TABLES = {".tsv": "tsv", ".tab": "tsv", ".csv": "csv"}
NO_TEXT = re.compile(r"[._~]|readme|licen[cs]e|.*\.(md|json|ya?ml|py|html?|pdf|docx?|xlsx?)$", re.I)
DIRECTIONS = (("source", "target"), ("src", "tgt"), ("src", "trg"))
LOOKED_AT = 100  # Rows of a table without names of columns.


def find_pairs(folder: str, languages: Sequence[str] = ()) -> dict[str, Any]:
    """Finds sentence pairs of one's own.

    Two text files for each split, such as `train.en` and `train.de`, `dev.txt.en.gz` or
    `en_test.txt`; or a table (TSV, CSV) for each. The name tells the split by `train`;
    `validation`, `valid`, `val` or `dev`; and `test`. Files that name no split are for training, if
    no others are. The direction is that of `languages`; else from `source` to `target`, where files
    or columns have such names; else that of the columns, or alphabetical by the ends of files.

    Args:
        folder: path of a folder, or of one table.
        languages: the (source, target), if they are given.

    Returns:
        Dict of the keys `format`, `train`, `validation`, `test`, `columns` and `languages` of
        `config.data`; `None` for what is not there.

    Raises:
        ValueError: naming what is missing or could be read in several ways.
    """
    path = Path(expanded(folder))
    if path.is_file():
        paths = [path]
    elif path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.is_file() and not NO_TEXT.match(p.name))
    else:
        raise ValueError(f"Expected data.folder to exist, received data.folder={folder!r}.")
    tables = [p for p in paths if _format(p, is_alone=len(paths) == 1)]
    found = _tables(tables, languages) if tables else _files(paths, languages, folder)
    return {"format": found["format"], **dict.fromkeys(SPLITS), "columns": None, **found}


def _tables(paths: Sequence[Path], languages: Sequence[str]) -> dict[str, Any]:
    formats = {_format(path, is_alone=len(paths) == 1) or "" for path in paths}
    format = min(formats)
    if len(formats) > 1:
        received = ", ".join(path.name for path in paths)
        raise ValueError(f"Expected tables of one kind, TSV or CSV, received {received}.")
    splits = _by_split((_split(_stem(path)), path) for path in paths)
    first = splits["train"][0] if "train" in splits else paths[0]
    columns, named = _columns(first, format, languages)
    names = {split: _short([path.name for path in paths]) for split, paths in splits.items()}
    return {**names, "format": format, "columns": columns, "languages": tuple(languages) or named}


def _columns(path: Path, format: str, languages: Sequence[str]) -> tuple[tuple, tuple]:
    """Finds the (source, target) columns, and the languages that they name."""
    rows = [fields for _, fields in islice(read_rows(str(path), format), LOOKED_AT)]
    header = [field.strip() for field in rows[0]] if rows else []
    plain = [field.casefold() for field in header]
    wanted = [language.casefold() for language in languages]
    for names in filter(None, (wanted, *DIRECTIONS)):
        if set(names) <= set(plain):
            return tuple(header[plain.index(name)] for name in names), ()
    named = list(filter(is_language, header))
    if len(named) > 2:  # Then these are more likely numbers than Indonesian and Norwegian.
        named = [name for name in named if name.casefold() not in ("id", "no")]
    if len(named) == 2 and not languages:
        return tuple(named), tuple(name.casefold() for name in named)
    if len(named) >= 2:
        raise ValueError(
            f"Expected data.languages to be two of the columns {', '.join(named)} of {path}, "
            f"received data.languages={tuple(languages)}."
        )
    texts = [number for number in range(len(header)) if _is_text(rows, number)]
    if len(texts) < 2:
        raise ValueError(
            f"Expected two columns with sentences in {path}, received {header!r:.100}."
        )
    return tuple(texts[:2]), ()


def _is_text(rows: Sequence[list[str]], number: int) -> bool:
    """Tests whether most fields of a column have letters, which numbers of lines have not."""
    fields = [row[number] for row in rows if number < len(row)]
    return 2 * sum(bool(re.search(r"[^\W\d]", field)) for field in fields) > len(rows)


def _files(paths: Sequence[Path], languages: Sequence[str], folder: str) -> dict[str, Any]:
    texts: dict[str, dict[str, str]] = {}
    for path in paths:
        corpus, language = _corpus_and_language(_stem(path))
        texts.setdefault(corpus, {})[language] = path.name
    present = {language for sides in texts.values() if len(sides) > 1 for language in sides}
    wanted = [language.casefold() for language in languages]
    fits = (names for names in (wanted, *DIRECTIONS) if names and set(names) <= present)
    chosen = next(fits, wanted or sorted(present))
    if len(chosen) != 2 or not set(chosen) <= present:
        names = sorted(p.name for p in Path(expanded(folder)).iterdir())[:7]
        raise ValueError(
            f"Expected text files of two languages in data.folder={folder!r}, such as train.en and "
            "train.de, or a table (TSV, CSV); received "
            + (f"files of {', '.join(sorted(present))}" if present else f"{names}")
            + f" and data.languages={tuple(languages)}."
        )
    pairs = []
    for corpus, sides in texts.items():
        names = [sides[language] for language in chosen if language in sides]
        if len(names) == 1:
            missing = next(language for language in chosen if language not in sides)
            raise ValueError(
                f"Expected a file in {missing!r} for each one in data.folder={folder!r}, received "
                f"none beside {names[0]}."
            )
        if names:
            pairs.append((_split(corpus), tuple(names)))
    found = {split: _short(corpora) for split, corpora in _by_split(pairs).items()}
    named = tuple(chosen) if all(map(is_language, chosen)) else ()
    return {**found, "format": "files", "languages": tuple(languages) or named}


def _short(corpora: Sequence[Any]) -> Any:
    return corpora[0] if len(corpora) == 1 else tuple(corpora)


def _by_split(items: Iterable[tuple[str | None, Any]]) -> Mapping[str, list]:
    """Groups items by their splits; those of none are for training, if no others are."""
    splits: dict[str | None, list] = {}
    for split, item in items:
        splits.setdefault(split, []).append(item)
    rest = splits.pop(None, [])
    named = {split: found for split, found in splits.items() if split is not None}
    if rest:
        named.setdefault("train", rest)
    return named


def _stem(path: Path) -> str:
    """Returns the name of a file without what says how it is packed, and without `.txt`."""
    name = path.name.casefold()
    for suffix in (*OPENERS, *NOT_READ):
        name = name.removesuffix(suffix)
    return name.removesuffix(".txt")


def _format(path: Path, is_alone: bool) -> str | None:
    """Returns the format of a table; the only file of all may be one without saying so."""
    format = TABLES.get(Path(_stem(path)).suffix)
    if format is None and is_alone and "\t" in next(filter(str.strip, read_lines(path)), ""):
        return "tsv"
    return format


def _split(stem: str) -> str | None:
    parts = re.split(r"[._\s-]+", stem)
    fits = (s for part in parts for s, words in SPLITS.items() if re.fullmatch(words, part))
    return next(fits, None)


def _corpus_and_language(stem: str) -> tuple[str, str]:
    """Cuts `train.en` into `train` and `en`, and `en_train` or `train-en` likewise."""
    mark = "." if "." in stem else "_" if "_" in stem else "-"
    parts = stem.split(mark)
    last = len(parts) - 1 if _split(parts[-1]) is None else 0
    return mark.join(parts[:last] + parts[last + 1 :]), parts[last]
