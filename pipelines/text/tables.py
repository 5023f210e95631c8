"""Sentence pairs in tables: TSV, as corpora come, and CSV, as spreadsheets write it."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from kerasformer.text_files import read_lines

DELIMITERS = ",;\t"  # Spreadsheets write semicolons where the comma stands in numbers.


def read_rows(path: str, format: str) -> Iterator[tuple[int, list[str]]]:
    r"""Yields the rows of a table, each with the number of the line that it ends on.

    Args:
        path: UTF-8 text, plain or packed as `read_lines` reads it.
        format: `"tsv"`, where a tab ends a field and nothing else has a meaning, or `"csv"`, with
            quotes and with the one of `DELIMITERS` that gives the first line the most fields.
            In CSV, line ends within quotes become spaces, and empty lines are left out.

    Raises:
        ValueError: if the file cannot be read, or its quotes are wrong.
    """
    lines = read_lines(path)
    if format == "tsv":
        yield from ((number, line.split("\t")) for number, line in enumerate(lines, start=1))
        return
    first = next(lines, "")
    delimiter = max(DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    ended = (f"{line}\n" for line in chain([first], lines))
    reader = csv.reader(ended, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, [re.sub(r"\s*[\r\n]+\s*", " ", field) for field in row]
    except csv.Error as error:
        raise ValueError(f"Cannot read path={path!r} line {reader.line_num}: {error}.") from None


def read_table(path: str, format: str, columns: Sequence[int | str]) -> list[tuple[str, str]]:
    """Reads two columns of a table.

    Args:
        path, format: as in `read_rows`.
        columns: the (source, target) columns, counted from 0, or by their names, which the first
            line holds then.

    Returns:
        List of (source, target) str pairs.

    Raises:
        ValueError: as `read_rows`; also if a column is missing. The sentence names the line.
    """
    rows = read_rows(path, format)
    numbers = [column for column in columns if isinstance(column, int)]
    if len(numbers) < 2:
        numbers = _numbers(columns, next(rows, (1, []))[1], path)
    source, target = numbers
    pairs = []
    for number, fields in rows:
        if not 0 <= min(source, target) <= max(source, target) < len(fields):
            raise ValueError(
                f"Expected columns={(source, target)} counted from 0, received {len(fields)} "
                f"column{'s'[: len(fields) != 1]} in {path} line {number}."
            )
        pairs.append((fields[source], fields[target]))
    return pairs


def _numbers(columns, header, path):
    """Finds named columns in the first line, whatever their case."""
    names = [name.strip().casefold() for name in header]
    wanted = [str(column).strip().casefold() for column in columns]
    if not set(wanted) <= set(names):
        raise ValueError(
            f"Expected columns={tuple(columns)} among the names in the first line of {path}, "
            f"received {header!r:.200}."
        )
    return [names.index(name) for name in wanted]
