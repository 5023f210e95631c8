"""Text files, plain or packed, line by line."""

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Iterator

OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
NOT_READ = (".zst", ".zip", ".7z", ".lz4", ".tar", ".tgz")


def read_lines(path: str | os.PathLike) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 text file, plain or ending as one of `OPENERS`, without ends.

    Only `\n` and `\r\n` end a line: U+2028, U+0085 and their like are text. A byte order mark
    at the start of the file is dropped.

    Raises:
        ValueError: if the file cannot be read, is packed in another way, or a line of it is not
            UTF-8.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in NOT_READ:
        raise ValueError(
            f"Expected text that is plain or ends in {', '.join(OPENERS)}, received path={path!r}: "
            "unpack it first."
        )
    try:
        with OPENERS.get(suffix, open)(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise ValueError(
            f"Expected UTF-8 text, received other bytes in {path} line {number}."
        ) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"Cannot read path={path!r}: {reason}.") from None
