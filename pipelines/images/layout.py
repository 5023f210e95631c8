"""How a folder of pictures is laid out: which of its folders or tables are which split."""

from pathlib import Path

from pipelines.images.files import is_hidden
from pipelines.images.listing import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    TABLES,
    find_column,
    read_table,
)

NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
SHARE = "10%"  # of the training data, for a split that there is not


def find_layout(folder: str) -> dict[str, str]:
    """Finds out what the keys of `config.data` have to be for a folder of pictures.

    In this order: tables of paths and labels (`train.csv` and so on, or one alone), a folder for
    each split with a folder per class in it, a folder per class. A folder that holds another one
    alone, as unpacking a zip leaves it, is looked through.

    Args:
        folder: the folder.

    Returns:
        Dict of `format`, `train`, `validation` and `test`; a split without data of its own is a
        share of the training data.

    Raises:
        ValueError: when it holds nothing of the kind.
    """
    path = Path(folder)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ValueError(
            f"Expected the folder of your pictures, received data.folder={folder!r}, which {what}."
        )
    inner, prefix = path, ""
    while True:
        tables = {entry.stem.lower(): entry.name for entry in _entries(inner) if _is_table(entry)}
        folders = {entry.name.lower(): entry.name for entry in _entries(inner) if entry.is_dir()}
        splits = _named(tables)
        if splits or len(tables) == 1:
            splits = splits or {"train": next(iter(tables.values()))}
            return _splits("csv", splits, prefix)
        splits = _named(folders)
        if splits:
            if not _has_folders(inner / splits["train"]):
                raise ValueError(
                    f"Expected a folder for each class in {inner / splits['train']}, received none."
                )
            return _splits("folder", splits, prefix)
        if len(folders) != 1 or not _has_folders(inner / next(iter(folders.values()))):
            break
        inner = inner / next(iter(folders.values()))
        prefix = f"{inner.relative_to(path)}/"
    if not folders:
        raise ValueError(
            f"Expected a folder for each class in {inner}, or a table of paths and labels "
            f"({', '.join(TABLES)}), received neither."
        )
    return _splits("folder", {"train": prefix or "."})


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))


def _is_table(path: Path) -> bool:
    """Tests whether a file is a table with a column of paths."""
    if path.suffix.lower() not in TABLES:
        return False
    try:
        _, header = read_table(str(path))
    except ValueError:
        return False
    columns = (find_column(header, names) for names in (PATH_COLUMNS, LABEL_COLUMNS))
    return not header or next(columns) is not None


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in _entries(folder))


def _named(names: dict[str, str]) -> dict[str, str]:
    """Finds the splits among names in small letters; none, if there is none to train on."""
    found = {
        split: next((names[known] for known in knowns if known in names), None)
        for split, knowns in NAMES.items()
    }
    return {split: name for split, name in found.items() if name} if found["train"] else {}


def _splits(format: str, splits: dict[str, str], prefix: str = "") -> dict[str, str]:
    layout = {split: prefix + name for split, name in splits.items()}
    return {"format": format, "validation": SHARE, "test": SHARE, **layout}
