"""Where SavedModels lie."""

from pathlib import Path


def versions(folder: Path) -> dict[int, Path]:
    """Finds the numbered SavedModels in a folder, or the one that the folder itself is.

    Args:
        folder: path, which may not be there.

    Returns:
        Paths by number; a SavedModel in a folder without a number is number 1.
    """
    if (folder / "saved_model.pb").is_file():
        return {int(folder.name) if folder.name.isdecimal() else 1: folder}
    paths = [path.parent for path in folder.glob("*/saved_model.pb")]
    return {int(path.name): path for path in paths if path.name.isdecimal()}
