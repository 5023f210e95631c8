"""Files of rows: TSV and CSV are read and written, text and JSON lines written."""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from kerasformer.text_files import read_lines

DELIMITERS = ",;\t"  # Spreadsheets write semicolons where the comma stands in numbers.
ENDINGS = (".txt", ".tsv", ".csv", ".jsonl")


def read_rows(path: str, format: str) -> Iterator[tuple[int, list[str]]]:
    r"""Yields the rows of a table, each with the number of the line that it ends on.

    Args:
        path: UTF-8 text, plain or packed as `read_lines` reads it.
        format: `"tsv"`, where a tab ends a field and nothing else has a meaning, or `"csv"`, with
            quotes and with the one of `DELIMITERS` that gives the first line the most fields.
            In CSV, line ends within quotes become spaces, and a first line such as `sep=;` tells
            the delimiter. Rows of white space alone are left out.

    Raises:
        ValueError: if the file cannot be read, or its quotes are wrong.
    """
    lines = read_lines(path)
    if format == "tsv":
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.split("\t")
        return
    before, first = next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, ""))
    told = re.fullmatch(f"sep=([{DELIMITERS}])", first, re.IGNORECASE)  # For Excel.
    if told:
        before, first = before + 1, next(lines, "")
    delimiter = (
        told[1]
        if told
        else max(DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    )
    ended = (f"{line}\n" for line in chain([first], lines))
    reader = csv.reader(ended, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                fields = [re.sub(r"\s*[\r\n]+\s*", " ", field) for field in row]
                yield before + reader.line_num, fields
    except csv.Error as error:
        number = before + reader.line_num
        raise ValueError(f"Cannot read path={path!r} line {number}: {error}.") from None


def require_writable(flag: str, path: str | os.PathLike) -> None:
    """Refuses a file that `RowFile` cannot write, before any work is done.

    Args:
        flag: str. The flag that gave the path, for errors.
        path: the file.

    Raises:
        ValueError: for another ending, or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"Expected --{flag} to end in one of {ENDINGS}, received --{flag}={path}.")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--{flag}={path} cannot be written there.")


def open_rows(name: str) -> TextIO:
    """Opens a file for `RowFile`; the names of files, which need not be UTF-8, stay as they are."""
    return open(name, "w", encoding="utf-8", errors="surrogateescape", newline="")


class RowFile:
    """Writes rows to a file, each as soon as it is there.

    A `.tsv` or `.csv` has a header, the keys of the first row. In a `.csv` the `csv` module quotes
    what needs it; in a `.tsv`, where nothing is quoted, tabs and line ends in a field become
    spaces. A `.jsonl` has an object a line, a `.txt` the lines that come with the rows.

    Args:
        file: what `open_rows` returns.
        ending: one of `ENDINGS`.
    """

    def __init__(self, file: TextIO, ending: str):
        self._file, self._ending = file, ending.lower()
        self._keys: list[str] = []  # Those of a table, once its header is written.

    def write(self, row: Mapping[str, Any], text: str) -> None:
        """Writes a row.

        Args:
            row: plain values by key, the same keys in each row.
            text: str. The row as it stands in a `.txt`, without the end of the line.
        """
        if self._ending == ".txt":
            self._file.write(f"{text}\n")
        elif self._ending == ".jsonl":
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            if not self._keys:
                self._keys = list(row)
                self._write_fields(self._keys)
            self._write_fields([row[key] for key in self._keys])

    def _write_fields(self, fields: Sequence[Any]) -> None:
        if self._ending == ".csv":
            csv.writer(self._file, lineterminator="\n").writerow(fields)
            return
        texts = ("" if field is None else str(field) for field in fields)
        self._file.write("\t".join(re.sub(r"\r\n|[\t\r\n]", " ", t) for t in texts) + "\n")


def write_rows(name: str, rows: Iterable[Mapping[str, Any]], key: str) -> None:
    """Writes a whole file of rows.

    Args:
        name: path of the file, with one of `ENDINGS`.
        rows: dicts of the same keys.
        key: str. The key whose values are the lines of a `.txt`.
    """
    with open_rows(name) as file:
        row_file = RowFile(file, Path(name).suffix)
        for row in rows:
            row_file.write(row, one_line(str(row[key])))


def one_line(text: str) -> str:
    """Replaces line breaks, which would make several lines of a text."""
    return text.replace("\r", " ").replace("\n", " ")
