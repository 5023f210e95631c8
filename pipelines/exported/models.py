"""Exported models as the programs find and load them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text  # noqa: F401 (it registers the tokenizer's operations)
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from pipelines.error_sentence import sentence


class Model:
    """A model called by its signatures: as it was exported, or as it would be.

    Args:
        folder: path of the SavedModel, or of the folder of its numbered versions.
        module: what the folder's run would export, or `None` to load the SavedModel.

    Attributes:
        signatures: the functions by name.
        languages: str, such as `"English to German"`, where a model card says so; else nothing.

    Raises:
        ValueError: when there is no SavedModel.
    """

    def __init__(self, folder: str | os.PathLike, module: Any = None):
        self.languages = ""
        self.folder, self._owner = Path(folder), module  # of the variables
        if module is None:
            self.folder = newest_version(self.folder)
            self._owner = _load(self.folder)
            self.signatures = self._owner.signatures
            self.languages = _languages(self.folder)
        else:
            self.signatures = module.signatures()

    def require(self, *names: str) -> None:
        """Raises a `ValueError` unless the model has signatures of these names."""
        missing = sorted(set(names) - set(self.signatures))
        if missing:
            raise ValueError(
                f"--model={self.folder} holds no model that can do this: expected signatures "
                f"{missing}, received {sorted(self.signatures)}."
            )

    def call(self, name: str, **texts: list[str]) -> dict:
        """Calls a signature with sentences and returns its outputs as NumPy arrays."""
        inputs = {key: tf.constant(batch, tf.string) for key, batch in texts.items()}
        return {key: output.numpy() for key, output in self.signatures[name](**inputs).items()}


def _languages(folder: Path) -> str:
    """Reads from the model card between which languages a model translates, or nothing."""
    card = folder / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    found = re.search(r"^## Languages\n+From (.+)\.$", text, re.MULTILINE)
    return found[1] if found else ""


def read_saved_model(folder: Path) -> saved_model_pb2.SavedModel:
    """Reads what a SavedModel says of itself, without loading it.

    Raises:
        ValueError: when `saved_model.pb` is empty, damaged, or has not one graph.
    """
    contents = (folder / "saved_model.pb").read_bytes()
    if not contents:
        raise ValueError("its saved_model.pb is empty")
    try:
        saved = saved_model_pb2.SavedModel.FromString(contents)
    except DecodeError:
        raise ValueError("its saved_model.pb is damaged, or no SavedModel") from None
    if len(saved.meta_graphs) != 1:
        raise ValueError(f"its saved_model.pb has {len(saved.meta_graphs)} graphs, expected 1")
    return saved


def _load(folder: Path) -> Any:
    try:
        read_saved_model(folder)
        return tf.saved_model.load(str(folder))
    except Exception as error:  # a damaged file may raise anything, IndexError too
        raise ValueError(f"--model={folder} cannot be loaded: {sentence(error)}") from error


def newest_version(folder: Path) -> Path:
    """Finds the SavedModel in a folder, or the one with the highest number in folders in it."""
    if not folder.is_dir():
        raise ValueError(f"--model={folder} is no folder.")
    numbered = versions(folder)
    if not numbered:
        raise ValueError(
            f"--model={folder} holds no SavedModel: expected saved_model.pb in it, or in a "
            "numbered folder in it such as 1."
        )
    return numbered[max(numbered)]


def load_named(folders: Sequence[str]) -> dict[str, Model]:
    """Loads models, and calls each by the name of its run: `runs/m30k/export/1` is `m30k`.

    Raises:
        ValueError: when there is no SavedModel, or two have one name.
    """
    models = {}
    for folder in folders:
        parts = Path(folder).resolve().parts
        name = next((p for p in reversed(parts) if p != "export" and not p.isdecimal()), "model")
        if name in models:
            raise ValueError(f"Expected models of different runs, received two of {name!r}.")
        models[name] = Model(folder)
    return models


def versions(folder: Path, file: str = "saved_model.pb") -> dict[int, Path]:
    """Finds the numbered exports in a folder, or the one that the folder itself is.

    Args:
        folder: path, which need not exist.
        file: name of a file that such an export has; a SavedModel's by default.

    Returns:
        Paths by number; an export in a folder without a number is number 1.
    """
    if (folder / file).is_file():
        return {int(folder.name) if folder.name.isdecimal() else 1: folder}
    paths = [path.parent for path in folder.glob(f"*/{file}")]
    return {int(path.name): path for path in paths if path.name.isdecimal()}
