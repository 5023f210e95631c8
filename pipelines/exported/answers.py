"""What `apps.predict` says: answers as lines or in a file, faults, notes, and a bar."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from pipelines.data.row_files import RowFile, open_rows, require_writable

Write = Callable[[dict, str], None]
LISTED = 20  # numbers that a note lists; it counts the rest


class Faults:
    """Reports inputs that cannot be used on standard error, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, sentence: str) -> None:
        """Reports one of them, in a sentence."""
        self.count += 1
        tqdm.write(f"error: {sentence}", file=sys.stderr)
        sys.stderr.flush()

    @property
    def exit_code(self) -> int:
        """Returns 1 if there was a fault, else 0."""
        return min(self.count, 1)


@contextlib.contextmanager
def written_to(output: str | None) -> Iterator[Write]:
    """Yields the function that writes an answer, given as a row and as text.

    Args:
        output: path of a file, written as `row_files` does; `None` for standard output.
            Rows go to the path with `.part` behind it, which gets the name of the file at the end.
            What was written is still there if the work ends early.

    Raises:
        ValueError: when the file cannot be written, before any work is done.
    """
    if output is None:
        yield lambda row, text: print(text, flush=True)
        return
    require_writable("output", output)
    part = f"{output}.part"
    with open_rows(part) as file:
        yield RowFile(file, Path(output).suffix).write
    os.replace(part, output)


def bar(total: int | None, output: str | None, unit: str) -> tqdm:
    """Makes a bar on standard error, shown on a terminal where no answers are printed."""
    answers_are_shown = output is None and sys.stdout.isatty()
    is_hidden = answers_are_shown or not sys.stderr.isatty()
    return tqdm(total=total, disable=is_hidden, leave=False, unit=unit, dynamic_ncols=True)


def is_typed(arguments: Sequence[str], file: str | None) -> bool:
    """Tests whether inputs are typed in at a terminal, and tells the user how."""
    typed = not arguments and file is None and sys.stdin is not None and sys.stdin.isatty()
    if typed:
        note("a line is answered as soon as it is typed in; Ctrl-D ends.")
    return typed


def note(text: str) -> None:
    """Prints a note to standard error."""
    tqdm.write(f"note: {text}", file=sys.stderr)
    sys.stderr.flush()


def note_cut(numbers: Sequence[int], what: str) -> None:
    """Prints which sentences were cut off, or had a translation that was.

    Args:
        numbers: int for each, counted from 1.
        what: `"line"` or `"argument"`, what is counted.
    """
    if not numbers:
        return
    are = (
        "sentence, or its translation, was"
        if len(numbers) == 1
        else ("sentences, or their translations, were")
    )
    note(f"{len(numbers):,} {are} too long and cut off: {listed(numbers, what)}.")


def listed(numbers: Sequence[int], what: str) -> str:
    """Lists numbers in words.

    Example:

    >>> listed([4, 9, 12], "line")
    'lines 4, 9 and 12'
    """
    shown = [f"{number}" for number in numbers[:LISTED]]
    if len(numbers) > LISTED:
        shown.append(f"{len(numbers) - LISTED:,} more")
    *first, last = shown
    text = f"{', '.join(first)} and {last}" if first else last
    return f"{what}{'s' if len(numbers) > 1 else ''} {text}"
