"""The config of a run: reading, writing, comparing and checking it."""

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import ml_collections

from pipelines.runs.files import write_text


def check_keys(data, known: Collection[str]) -> None:
    """Refuses keys of `config.data` that nothing reads, such as misspelt ones.

    Raises:
        ValueError: naming the first of them.
    """
    for key in data:
        if key not in known:
            raise ValueError(
                f"Expected the keys of data to be among {', '.join(sorted(known))}, "
                f"received data.{key}={data[key]!r}."
            )


def read_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """Reads the resolved config of a run.

    Args:
        workdir: folder of the run.

    Returns:
        The config.

    Raises:
        ValueError: when the folder holds no run, or its config cannot be read or is of something
            else.
    """
    path = Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not isinstance(config.get("task"), str):
            raise ValueError(f"expected an object with a task, received {config!r:.80}")
        return ml_collections.ConfigDict(config, type_safe=False)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{workdir} holds no run: {path} does not exist.") from None
    except ValueError as error:  # Neither UTF-8 nor JSON, or not of a run.
        raise ValueError(f"{path} cannot be read: {error}.") from error


def complete(
    stored: ml_collections.ConfigDict,
    default: ml_collections.ConfigDict,
    parent: str = "",
    name: str = "run's config.json",
) -> None:
    """Adds to the config of a run, which another version may have written, the keys that it lacks.

    Args:
        stored: the config, which is changed.
        default: the default config of the run's task. Its parts that are not locked take more keys.
        parent: the key of both, with a dot behind it, where they are a part of a config.
        name: what the config is called in an error.

    Raises:
        ValueError: naming the first key that this version does not know, or part that is no object.
    """
    for key, value in stored.items():
        if key not in default:
            if default.is_locked:
                raise ValueError(
                    f"The {name} has {parent}{key}={value!r}, a key that this version does not "
                    "know."
                )
        elif isinstance(default[key], ml_collections.ConfigDict):
            if not isinstance(value, ml_collections.ConfigDict):
                raise ValueError(
                    f"Expected an object of keys as {parent}{key} in the {name}, received "
                    f"{parent}{key}={value!r}."
                )
            complete(value, default[key], f"{parent}{key}.", name)
    for key, value in default.items():
        if key not in stored:
            stored[key] = value


def fill_chosen(
    config: ml_collections.ConfigDict, chosen: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
    """Replaces the values `"auto"` of a config by those of another one.

    Args:
        config: the config, which stays as it is.
        chosen: the other one. Where a part of the config has an `"auto"`, the keys that only
            `chosen` has are taken too.

    Returns:
        The new config.

    Example:

    >>> config = ml_collections.ConfigDict({"model": {"size": "auto"}, "seed": 1})
    >>> chosen = ml_collections.ConfigDict({"model": {"size": 5, "layers": 7}, "seed": 2})
    >>> fill_chosen(config, chosen).to_dict()
    {'model': {'layers': 7, 'size': 5}, 'seed': 1}
    """
    filled = config.copy_and_resolve_references()
    with filled.unlocked(), filled.ignore_type():
        _fill(filled, chosen)
    return filled


def _fill(config, chosen):
    automatic = [key for key, value in config.items() if isinstance(value, str) and value == "auto"]
    for key in (*automatic, *(key for key in chosen if automatic and key not in config)):
        config[key] = chosen.get(key, "auto")
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict) and key in chosen:
            _fill(value, chosen[key])


def write_config(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Writes the resolved config of a run."""
    write_text(Path(workdir) / "config.json", config.to_json(indent=1))


def differences(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> dict[str, tuple[object, object]]:
    """Returns each key whose values differ with its old and its new value, sorted by key."""
    old, new = (_flatten(json.loads(config.to_json())) for config in (old, new))
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    }


def is_among(key: str, keys: Collection[str]) -> bool:
    """Tests whether a key, or a part of the config that holds it, is among some keys."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in keys for length in range(1, len(parts) + 1))


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def check_choices(choices: Mapping[str, tuple]) -> None:
    """Refuses values that are not among the known ones.

    Args:
        choices: for each key of a config its value and the known values.

    Raises:
        ValueError: naming the first value that is not known.
    """
    for key, (value, known) in choices.items():
        if value not in known:
            raise ValueError(
                f"Expected {key} to be one of {sorted(known)}, received {key}={value!r}."
            )


def check_ranges(
    ranges: Mapping[str, tuple[float, float, float]], includes_end: bool = True
) -> None:
    """Refuses values outside their range.

    Args:
        ranges: for each key of a config its value, the least and the greatest that it may have;
            `math.inf` for no greatest.
        includes_end: bool. Whether the greatest itself is allowed.

    Raises:
        ValueError: naming the first value outside of its range.

    Example:

    >>> check_ranges({"train.steps": (0, 1, float("inf"))})
    Traceback (most recent call last):
    ValueError: Expected train.steps to be at least 1, received train.steps=0.
    """
    for key, (value, least, greatest) in ranges.items():
        is_below = value <= greatest if includes_end else value < greatest
        if not (least <= value and is_below):
            end = f"at most {greatest}" if includes_end else f"less than {greatest}"
            end = f" and {end}" if greatest < math.inf else ""
            raise ValueError(f"Expected {key} to be at least {least}{end}, received {key}={value}.")
