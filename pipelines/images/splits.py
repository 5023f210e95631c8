"""Which images of the data belong to training, validation and test.

A split is what the config names, a part of it in the order of the data (`"all[:80%]"`), or a share
of the training data that the hash of the content chooses (`"10%"`).
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.data.sources import SHARE_FORM, below_folder, held_out_count, required

SPLITS = ("train", "validation", "test")


def split_by_content(
    digests: Sequence[int] | np.ndarray, labels: Sequence | np.ndarray, shares: Sequence[float]
) -> np.ndarray:
    """Chooses the split of each picture by its content, whatever its name is.

    In each class the contents are sorted by their hash, and the first of them go to the first
    share, and so on; the rest is for training. Equal files have equal hashes and go to the same
    split. A class of few contents has at least one in each split as long as they last.

    Args:
        digests: int for each picture, a hash of its content.
        labels: label of each picture; a content of several labels counts to the first.
        shares: per cent of each class that the splits beside training get.

    Returns:
        Int array: 0 for training, and 1 and so on for the splits of `shares`.

    Example:

    >>> split_by_content([5, 1, 4, 1, 2], [0, 0, 0, 0, 0], [20, 20]).tolist()
    [0, 1, 0, 1, 2]
    """
    _, first, inverse = np.unique(np.array(digests), return_index=True, return_inverse=True)
    chosen = np.zeros(len(first), int)
    for rows in _rows_by_class(np.array(labels)[first]):
        begin = 0
        for number, share in enumerate(shares, 1):
            count = min(max(round(len(rows) * share / 100), 1), len(rows) - 1 - begin)
            chosen[rows[begin : begin + count]] = number
            begin += count
    return chosen[inverse]


def _rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """Returns the indices of each class, in order."""
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])


def _cut(data) -> dict[str, Any]:
    """Returns how much of the training data the splits get that are cut from them."""
    held_out = data.get("held_out")
    values = {name: data.get(name) or held_out for name in SPLITS[1:]}
    return {
        name: value
        for name, value in values.items()
        if value and (not data.get(name) or re.fullmatch(SHARE_FORM, str(value)))
    }


def is_cut(data, split: str) -> bool:
    """Tests whether a split is a share of the training data, or gives one to others."""
    return bool(_cut(data)) if split == "train" else split in _cut(data)


def shares_of(data, total: int) -> dict[str, float]:
    """Returns what per cent of the training data the splits get that are cut from them.

    Args:
        data: ConfigDict; `validation` and `test` may be a share, and `held_out` is that of those
            that have no value, or a number of images.
        total: int. The number of images.

    Raises:
        ValueError: when they leave nothing for training.
    """
    shares = {
        name: float(str(value)[:-1])
        if data.get(name)
        else 100 * held_out_count(value, total) / max(total, 1)
        for name, value in _cut(data).items()
    }
    if 0 in shares.values() or sum(shares.values()) >= 100:
        listed = " and ".join(f"data.{name}={share:g}%" for name, share in shares.items())
        raise ValueError(f"Expected shares above 0 % and some images to train, received {listed}.")
    return shares


def source_of(data, split: str) -> str:
    """Returns the split out of whose data a split is taken: itself, or training."""
    return "train" if is_cut(data, split) else split


def rows_of(
    data, split: str, digests: Sequence[int] | np.ndarray, labels: Sequence | np.ndarray
) -> np.ndarray:
    """Returns the indices of the training data that belong to a split, by `split_by_content`."""
    shares = shares_of(data, len(digests))
    numbers = {"train": 0} | {name: number for number, name in enumerate(shares, 1)}
    chosen = split_by_content(digests, labels, [*shares.values()])
    return np.flatnonzero(chosen == numbers[split])


def path_and_part(data, split: str) -> tuple[str, tuple[int, int]]:
    """Splits a value such as "train[:90%]" into a path and percentages from and to.

    Raises:
        ValueError: for a value of another kind.
    """
    value = required(data, split)
    share = "" if split == "train" else ', or a share such as "10%"'
    refusal = ValueError(
        f'Expected data.{split} to be a name, or one like "name[:90%]"{share}, in quotes if it is '
        f"a number, received data.{split}={value!r}."
    )
    if not isinstance(value, str):
        raise refusal
    match = re.fullmatch(r"(.+?)(?:\[(\d+%)?:(\d+%)?\])?", value)
    if match is None:  # It has more than one line.
        raise refusal
    first, last = (int(number[:-1]) if number else None for number in match.groups()[1:])
    part = (first or 0, 100 if last is None else last)
    if not 0 <= part[0] < part[1] <= 100 or match[1].endswith("]"):
        raise refusal
    return below_folder(data, match[1]), part


def rows_of_part(labels: np.ndarray, part: tuple[int, int]) -> np.ndarray:
    """Returns the indices of a part, in per cent, of each class in the order of the data."""
    rows = _rows_by_class(labels)
    kept = [of[slice(*(len(of) * percent // 100 for percent in part))] for of in rows]
    return np.sort(np.concatenate([[], *kept]).astype(int))
