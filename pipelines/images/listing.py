"""The pictures of a data set as people have them: a folder per class, or a table of files.

What lies between the pictures, such as `Thumbs.db` or the `__MACOSX` of an unpacked zip, is counted
and left out. A picture of a kind that cannot be read stays in the list, because leaving it out in
silence would lose data: the reader names it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.data.row_files import read_rows
from pipelines.images.files import SUFFIXES, is_hidden

# Kinds of pictures that are not read, but are no stray files either.
OTHERS = tuple(".avif .cr2 .dng .heic .heif .jp2 .jpe .jxl .nef .psd .svg .tga .tif .tiff".split())
TABLES = (".csv", ".tsv")
PATH_COLUMNS = ("path", "file", "image", "filename", "file_name", "filepath", "image_path", "img")
LABEL_COLUMNS = ("label", "class", "category", "labels", "classes", "tags", "class_name", "target")
SEPARATOR = "|"  # of the labels of an image that has several
SHOWN = 5  # stray files that are named


class Listing(NamedTuple):
    """Labelled files of pictures, which nobody has opened yet.

    Attributes:
        folder: str, the folder below which they lie.
        paths: list of str, each below the folder.
        labels: list of an int for each; or of the tuple of all of its classes.
        class_names: tuple of str; empty where pictures have no classes.
        stray: list of str, files that are no pictures.
    """

    folder: str
    paths: list[str]
    labels: list
    class_names: tuple[str, ...]
    stray: list[str]


def class_folders(folder: str) -> tuple[str, ...]:
    """Lists the folders of the classes in a folder.

    Raises:
        ValueError: when there are none, or the folder cannot be read.
    """
    try:
        entries = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
    except OSError as error:
        raise ValueError(f"Cannot read {folder!r}: {error.strerror}.") from None
    names = tuple(name for name in entries if not is_hidden(name))
    if not names:
        raise ValueError(f"Expected one folder per class in {folder}, received none.")
    return names


def wanted_classes(data) -> tuple[str, ...]:
    """Reads `data.classes`: a name, names with commas between them in a text, or several names.

    Returns:
        Tuple of str, empty where all classes are meant.

    Raises:
        ValueError: for something else.

    Example:

    >>> wanted_classes({"classes": "cat,dog"}), wanted_classes({"classes": (1, 2)})
    (('cat', 'dog'), ('1', '2'))
    """
    value = data.get("classes")
    if value is None:
        return ()
    names = [x.strip() for x in value.split(",")] if isinstance(value, str) else value
    names = (names,) if isinstance(names, int) else names
    if not isinstance(names, (tuple, list)) or not all(isinstance(x, (str, int)) for x in names):
        raise ValueError(
            f"Expected data.classes to be names of classes, received data.classes={value!r}."
        )
    return tuple(str(name) for name in names if name != "")


def require_known(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Refuses classes that there are not, or that are named twice.

    Raises:
        ValueError: naming all of them.
    """
    if not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"Expected data.classes to be some of {tuple(known)}, each once, "
            f"received data.classes={tuple(wanted)}."
        )


def list_folder(folder: str, class_names: Sequence[str], wanted: Sequence[str] = ()) -> Listing:
    """Lists the pictures in the folders of classes, sorted by class and name.

    Args:
        folder: the folder that holds them.
        class_names: str for each class, which need not have a folder here.
        wanted: those of the classes that must not be empty; all when there are none.

    Raises:
        ValueError: naming every folder that holds no picture.
    """
    found = {name: _pictures(Path(folder, name), Path(folder)) for name in class_names}
    empty = [
        name
        for name, (paths, _) in found.items()
        if not paths and Path(folder, name).is_dir() and name in (wanted or class_names)
    ]
    if empty:
        listed = ", ".join(str(Path(folder, name)) for name in empty)
        raise ValueError(
            f"Expected pictures in the folder of each class, received none in {listed}."
        )
    paths = [path for pictures, _ in found.values() for path in pictures]
    labels = [label for label, name in enumerate(class_names) for _ in found[name][0]]
    stray = [name for _, others in found.values() for name in others]
    stray += [path.name for path in Path(folder).iterdir() if path.is_file()]
    stray += [f"{path.name}/" for path in Path(folder).glob("__MACOSX") if path.is_dir()]
    return Listing(folder, paths, labels, tuple(class_names), stray)


def list_pictures(folder: str) -> Listing:
    """Lists all pictures below a folder, without classes, sorted by their paths.

    Raises:
        ValueError: when the folder is none, or holds no picture.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"Expected a folder of pictures, received {folder!r}.")
    paths, stray = _pictures(Path(folder), Path(folder))
    if not paths:
        raise ValueError(f"Expected pictures below {folder}, received none.")
    return Listing(folder, paths, [0] * len(paths), (), stray)


def _pictures(folder: Path, base: Path) -> tuple[list[str], list[str]]:
    """Lists the pictures below a folder, as paths below `base`, and the names of other files."""
    pictures, others = [], []
    for path in sorted(folder.rglob("*"), key=str):
        parts = path.relative_to(base).parts
        if path.is_dir():
            continue
        if path.suffix.lower() in (*SUFFIXES, *OTHERS) and not any(map(is_hidden, parts)):
            pictures.append(str(Path(*parts)))
        else:
            others.append(path.name)
    return pictures, others


def describe_stray(stray: Sequence[str]) -> str:
    """Writes how many files are left out, and which, as a sentence.

    Example:

    >>> describe_stray(["Thumbs.db", "a.txt", "Thumbs.db"])
    'Left out 3 files that are no pictures: Thumbs.db (2), a.txt.'
    """
    counts = Counter(stray)
    named = [name + f" ({count})" * (count > 1) for name, count in counts.most_common(SHOWN)]
    more = f" and {len(counts) - SHOWN} other names" if len(counts) > SHOWN else ""
    plural = "s that are no pictures" if len(stray) > 1 else " that is no picture"
    return f"Left out {len(stray)} file{plural}: {', '.join(named)}{more}."


def list_table(path: str, class_names: Sequence[str] = (), is_multi: bool = False) -> Listing:
    """Lists the pictures of a table: comma, semicolon or tab between a path and a label.

    The first row may name the columns, of which one is of `PATH_COLUMNS` and another of
    `LABEL_COLUMNS`; without such a row there are two columns. An image with several labels has
    them in one column, separated by `|`, or a column of 0 and 1 for each class.

    Args:
        path: the file, from whose folder paths are read.
        class_names: str for each class; those in the table, sorted, where there are none.
        is_multi: whether an image has any number of labels, and not one.

    Raises:
        ValueError: in one sentence, for a file that cannot be read so.
    """
    rows, header = read_table(path)
    column, label_columns = _columns(path, rows, header, is_multi)
    are_flags = len(label_columns) > 1
    paths: list[str] = []
    names: list[tuple[str, ...]] = []
    for line, cells in rows:
        if len(cells) <= max(column, *label_columns) or not cells[column].strip():
            raise ValueError(
                f"Expected a path and a label in {path} line {line}, received {cells}."
            )
        paths.append(_existing(Path(path).parent, cells[column].strip()))
        texts = [cells[number].strip() for number in label_columns]
        if are_flags:
            names.append(_flagged(path, line, [header[i] for i in label_columns], texts))
        elif is_multi:
            names.append(tuple(filter(None, map(str.strip, texts[0].split(SEPARATOR)))))
        elif texts[0]:
            names.append((texts[0],))
        else:
            raise ValueError(f"Expected a label in {path} line {line}, received none.")
    if not class_names:
        found = {name for of_image in names for name in of_image}
        class_names = [header[i] for i in label_columns] if are_flags else sorted(found)
    numbers = {name: number for number, name in enumerate(class_names)}
    for (line, _), of_image in zip(rows, names, strict=True):
        for name in of_image:
            if name not in numbers:
                raise ValueError(
                    f"Expected the classes of data.train in {path}, received {name!r} in line "
                    f"{line} besides."
                )
    labels = [tuple(numbers[name] for name in of_image) for of_image in names]
    folder = str(Path(path).parent)
    if is_multi:
        return Listing(folder, paths, labels, tuple(class_names), [])
    return Listing(folder, paths, [label for (label,) in labels], tuple(class_names), [])


def list_paths(path: str) -> Listing:
    """Lists the pictures of a table without reading labels.

    Args:
        path: the file, as `list_table` takes it; without a header paths are in the first column.

    Raises:
        ValueError: in one sentence, for a file that cannot be read so.
    """
    rows, header = read_table(path)
    column = find_column(header, PATH_COLUMNS) if header else 0
    if column is None:
        raise ValueError(
            f"Expected a column of {', '.join(PATH_COLUMNS)} in {path}, received "
            f"{', '.join(header)}."
        )
    paths = []
    for line, cells in rows:
        if len(cells) <= column or not cells[column].strip():
            raise ValueError(f"Expected a path in {path} line {line}, received {cells}.")
        paths.append(_existing(Path(path).parent, cells[column].strip()))
    return Listing(str(Path(path).parent), paths, [0] * len(paths), (), [])


def _columns(path, rows, header, is_multi) -> tuple[int, list[int]]:
    """Finds the column of paths, and that of labels or those of flags."""
    if not header and len(rows[0][1]) == 2:
        return 0, [1]
    column = find_column(header, PATH_COLUMNS)
    label_column = find_column(header, LABEL_COLUMNS)
    if column is not None and label_column is not None:
        return column, [label_column]
    others = [number for number in range(len(header)) if number != column]
    if column is not None and is_multi and len(others) > 1:
        return column, others
    columns = ", ".join(header or rows[0][1])
    raise ValueError(
        f"Expected a column of {', '.join(PATH_COLUMNS)} and one of {', '.join(LABEL_COLUMNS)} in "
        f"{path}, received {columns}."
    )


def read_table(path: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Reads the rows of a table with the numbers of their lines, and the names of its columns.

    Returns:
        Tuple of the rows and of the header, which is empty where the first row is a picture.

    Raises:
        ValueError: when the file cannot be read or is empty.
    """
    rows = [row for row in read_rows(path, "csv") if any(map(str.strip, row[1]))]
    if not rows:
        raise ValueError(f"Expected rows of a path and a label in {path}, received none.")
    cells = [cell.strip() for cell in rows[0][1]]
    if any(cell.lower().endswith((*SUFFIXES, *OTHERS)) for cell in cells):
        return rows, []
    if len(rows) == 1:
        raise ValueError(f"Expected rows of a path and a label in {path}, received a header alone.")
    return rows[1:], cells


def find_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Finds the column that has one of some names, in capitals or not."""
    lower = [name.lower().replace(" ", "_") for name in header]
    return next((lower.index(name) for name in names if name in lower), None)


def _existing(folder: Path, name: str) -> str:
    """Returns a path with the slashes of this system, if only so it exists."""
    turned = name.replace("\\", "/")
    return turned if not (folder / name).exists() and (folder / turned).exists() else name


def _flagged(path, line, names, cells) -> tuple[str, ...]:
    """Returns the names of the columns that hold a 1."""
    if set(cells) - {"0", "1"}:
        raise ValueError(
            f"Expected 0 or 1 for each class in {path} line {line}, received {', '.join(cells)}."
        )
    return tuple(name for name, cell in zip(names, cells, strict=True) if cell == "1")
