"""Sentence pairs in tables: TSV, as corpora come, and CSV, as spreadsheets write it."""

from collections.abc import Sequence

from pipelines.data.row_files import read_rows


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
