"""Config files, and values of their keys that a command line gives as text."""

import ast
import difflib
import os
import re
import runpy
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from pipelines.error_sentence import sentence

# Words that stand for a value of Python, however they are written.
WORDS = {"none": None, "true": True, "false": False}
# Keys whose values are one text each, with commas and digits.
TEXTS = ("folder", "data_dir", "workdir", "name", "model", "prefix")
NAMED_NONE = ("labels",)  # Keys of which "none" is a value, and not the lack of one.


def overrides_first(arguments: Sequence[str], flag: str = "override") -> list[str]:
    """Rewrites each `--config.KEY=VALUE` to `--override=KEY=VALUE`, which a flag can hold.

    As with other flags, one dash is enough, the value may be the next argument, and none is needed
    to make a key true; `--noconfig.KEY` makes it false.

    Example:

    >>> overrides_first(["--config=demo", "--config.train.steps", "7", "--noconfig.train.remat"])
    ['--config=demo', '--override=train.steps=7', '--override=train.remat=False']
    """
    rewritten, left = [], list(arguments)
    while left:
        argument = left.pop(0)
        match = re.fullmatch(r"--?(no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if not match:
            rewritten.append(argument)
            continue
        no, key, value = match.groups()
        if value is None:
            has_value = not no and left and not re.match("--?[a-zA-Z]", left[0])
            value = left.pop(0) if has_value else str(not no)
        rewritten.append(f"--{flag}={key}={value}")
    return rewritten


def load_config(
    name: str,
    folder: str | os.PathLike,
    overrides: Sequence[str] = (),
    either: Mapping[str, str] | None = None,
) -> ml_collections.ConfigDict:
    """Loads a config file and sets some of its keys.

    Args:
        name: path of the file, or the name of one in `folder`; behind a colon, text that
            `get_config` of the file takes.
        folder: where files have names.
        overrides: `KEY=VALUE` each, see `override`.
        either: pairs of keys of which only one has a value: setting one clears the other.

    Returns:
        The config.

    Raises:
        ValueError: when there is no such file, it is broken, or it has no such key.
    """
    known = {path.stem: path for path in Path(folder).glob("[a-z]*.py")}
    name, colon, text = name.partition(":")
    path = known.get(name, Path(name))
    if not path.is_file():
        raise ValueError(
            f"Expected --config to be a file or one of {', '.join(sorted(known))}, not {name!r}."
        )
    config = _run(path, [text] if colon else [])
    given = dict(item.partition("=")[::2] for item in overrides)
    for key, value in given.items():
        override(config, key, value)
        other = (either or {}).get(key)
        if other and other not in given:
            override(config, other, "None")
    return config


def _run(path: Path, arguments: Sequence[str]) -> ml_collections.ConfigDict:
    """Calls `get_config` of a file; what goes wrong is one sentence with the line."""
    try:
        module = runpy.run_path(str(path))
        if "get_config" not in module:
            raise ValueError("there is no function get_config")
        config = module["get_config"](*arguments)
        if not isinstance(config, ml_collections.ConfigDict) or "task" not in config:
            raise ValueError("get_config does not return a config with a task")
        return config
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        if isinstance(error, SyntaxError):
            lines, error = [error.lineno], ValueError(error.msg)
        where = f"{path} line {lines[-1]}" if lines else path
        raise ValueError(f"{where}: {sentence(error)}") from error


def override(config: ml_collections.ConfigDict, key: str, text: str) -> None:
    """Sets a key of a config to a value that is written as text.

    Args:
        config: the config, which is changed.
        key: str, the names of the parts and of the key with dots between. Parts that are not
            locked take new keys.
        text: the value, see `parse`. A name of a file, a folder and the like stays as it is.

    Raises:
        ValueError: when the config has no such key, or the key is a part of several keys.
    """
    *parents, last = key.split(".")
    part: Any = config
    for parent in parents:
        part = part.get(parent) if isinstance(part, ml_collections.ConfigDict) else None
    if not isinstance(part, ml_collections.ConfigDict) or (last not in part and part.is_locked):
        similar = difflib.get_close_matches(key, _keys(config), n=1)
        hint = f"; did you mean {similar[0]}?" if similar else "."
        raise ValueError(f"The config has no key {key}{hint}")
    old = part.get(last)
    if isinstance(old, ml_collections.ConfigDict):
        raise ValueError(f"Expected a key such as {key}.{next(iter(old))}, received {key}={text}.")
    is_text = last in NAMED_NONE or (last in TEXTS and text.lower() != "none")
    part[last] = text if is_text else parse(text)


def parse(text: str) -> Any:
    """Reads a value that a command line gives as text.

    Args:
        text: a number, `None`, `True`, `False`, a list or tuple, or any other text. Text with
            commas is a tuple, unless it is in quotes of its own.

    Example:

    >>> parse("0.3"), parse("(24, 40)"), parse("none"), parse("train.tsv"), parse("a, b")
    (0.3, (24, 40), None, 'train.tsv', ('a', 'b'))
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return tuple(part.strip() for part in text.split(",")) if "," in text else text
    # Others, such as sets, could not be held by JSON.
    return value if isinstance(value, bool | int | float | str | list | tuple) else text


def check_types(
    config: ml_collections.ConfigDict,
    default: ml_collections.ConfigDict,
    exempt: Collection[str] = (),
    parent: str = "",
    may_be_auto: bool = False,
) -> None:
    """Refuses values of another type than the default's; turns 3.0 into 3, and a list into a tuple.

    Keys that the config lacks are left to their readers. In a part that is not locked, such as
    `data`, whose readers check their values, only what they could misread is refused: another value
    for a truth value, and text for a number.

    Args:
        config: the config, which is changed.
        default: the default config of its task.
        exempt: keys that may be text too.
        parent: the key of both, with a dot behind it, where they are a part of a config.
        may_be_auto: whether "auto" stands for a value of any type.

    Raises:
        ValueError: naming the first value of a wrong type.
    """
    for key, expected in default.items():
        if key not in config:
            continue
        name, value = f"{parent}{key}", config[key]
        if isinstance(expected, ml_collections.ConfigDict):
            if not isinstance(value, ml_collections.ConfigDict):
                raise ValueError(
                    f"Expected an object of keys as {name}, received {name}={value!r}."
                )
            check_types(value, expected, exempt, f"{name}.", may_be_auto)
        elif may_be_auto and isinstance(value, str) and value == "auto":
            continue
        elif expected is not None and not (name in exempt and isinstance(value, str)):
            typed = _as_type(name, value, expected, default.is_locked)
            if type(typed) is not type(value):
                with config.unlocked():
                    del config[key]  # Or 7 in the place of 7.0 would become 7.0 again.
                    config[key] = typed


def _as_type(name: str, value: Any, expected: Any, is_strict: bool) -> Any:
    if isinstance(expected, str) and value is None:
        return None  # As length_penalty may be; what reads the key refuses it elsewhere.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(expected, tuple) and isinstance(value, list):
        return tuple(value)
    if type(expected) is int and is_number and float(value).is_integer():
        return int(value)
    if type(expected) is float and is_number:
        return float(value)
    fits = isinstance(value, type(expected)) and isinstance(value, bool) == isinstance(
        expected, bool
    )
    could_be_misread = isinstance(expected, bool) or (
        isinstance(expected, int | float) and isinstance(value, str | bool)
    )
    if not fits and (is_strict or could_be_misread):
        kind = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
        expected_kind = kind.get(type(expected), f"a {type(expected).__name__}")
        raise ValueError(f"Expected {name} to be {expected_kind}, received {name}={value!r}.")
    return value


def _keys(config: ml_collections.ConfigDict, parent: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in config.items():
        is_part = isinstance(value, ml_collections.ConfigDict)
        keys += _keys(value, f"{parent}{key}.") if is_part else [parent + key]
    return keys
