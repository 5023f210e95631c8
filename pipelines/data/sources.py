"""Where data comes from: the keys of `config.data`, paths, and the datasets of TFDS."""

import os
import re
from pathlib import Path
from typing import Any

TFDS_HINT = (
    'data.format="tfds" needs tensorflow-datasets, which comes with '
    '`pip install "kerasformer[pipelines]"`.'
)

SHARE_FORM = r"\d+(\.\d+)?%"
WITHOUT_KEYS = ("embedded", "digits")  # formats that read no other key


def required(data, key: str):
    """Returns a key of the config, or raises a `ValueError` when it is missing or empty."""
    value = data.get(key)
    if value is None or value == "":
        raise ValueError(f"Expected a value for data.{key}, received data.{key}={value!r}.")
    return value


def expanded(path: str) -> str:
    """Expands `~` and environment variables in a path.

    Raises:
        ValueError: for a variable that is not set.
    """
    result = os.path.expandvars(os.path.expanduser(path))
    unset = re.search(r"\$(\w+|\{\w+\})", result)
    if unset:
        raise ValueError(
            f"Expected the environment variable {unset[1].strip('{}')} to be set, "
            f"received path={path!r}."
        )
    return result


def below_folder(data, name: str) -> str:
    """Joins `data.folder` and a name, and expands both; a folder that is a file is that file."""
    folder = expanded(data.get("folder") or "")
    return folder if os.path.isfile(folder) else os.path.join(folder, expanded(name))


def held_out_count(value: Any, total: int) -> int:
    """Reads `data.held_out`: how much each set gets that is cut from the training data.

    Args:
        value: a whole number, or a share such as "10%".
        total: int. Of how many.

    Raises:
        ValueError: for something else.

    Example:

    >>> held_out_count(7, 200), held_out_count("2.5%", 200)
    (7, 5)
    """
    share = float(value[:-1]) if re.fullmatch(SHARE_FORM, str(value)) else 0
    if share:
        return max(round(total * share / 100), 1)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(
        'Expected data.held_out to be a positive whole number or a share such as "10%", received '
        f"data.held_out={value!r}."
    )


def source_name(data, split: str) -> str:
    """Describes what a split is read from, by the keys that `data.format` reads alone.

    Example:

    >>> source_name({"format": "tfds", "name": "cifar10", "folder": "old", "test": "test"}, "test")
    'cifar10 test'
    """
    data_format = data.get("format", "")
    if data_format in WITHOUT_KEYS:
        return data_format
    values = [data.get("name" if data_format == "tfds" else "folder"), data.get(split)]
    return " ".join(str(value) for value in values if value) or data_format


def read_tfds(data, split: str, read):
    """Reads one split of a dataset of TFDS; what was prepared before is read without network.

    Args:
        data: ConfigDict with `name`, `data_dir`, `download`, and the split of TFDS under the key
            `split`.
        split: str. `"train"`, `"validation"` or `"test"`.
        read: function `(tfds, builder, tfds_split)` that does the reading.

    Returns:
        What `read` returns.

    Raises:
        ValueError: in one sentence, whatever went wrong.
        ImportError: where TFDS is missing.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(TFDS_HINT) from error
    name, tfds_split = required(data, "name"), required(data, split)
    try:
        return read(tfds, _builder(tfds, data, name), tfds_split)
    except Exception as error:  # TFDS, its readers and the network raise whatever they like
        reason = str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
        raise ValueError(
            f"Cannot read the TFDS dataset data.name={name!r}, split {tfds_split!r}: {reason}."
        ) from error


def _builder(tfds, data, name: str):
    folder = expanded(data.get("data_dir") or "")
    prepared = _prepared_folder(Path(folder) / name) if folder else None
    if prepared:  # asks neither for the code of the dataset nor for the network
        return tfds.builder_from_directory(prepared)
    builder = tfds.builder(name, data_dir=folder or None)
    if data.get("download", True):
        builder.download_and_prepare()
    return builder


def _prepared_folder(folder: Path) -> Path | None:
    """Finds what TFDS prepared in `folder`, or below it the newest version, or None."""
    folders = [p for p in (folder, *folder.glob("*.*.*")) if (p / "dataset_info.json").is_file()]
    folders = [p for p in folders if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
    return max(folders, key=lambda p: [int(n) for n in p.name.split(".")], default=None)
