"""Folders of a model of another library: where they come from, their configs and tensors."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  NumPy reads bfloat16 once this is imported.
import numpy as np

HUB = "hf://"
TIMM = "timm://"
CONFIG = "config.json"
TENSORS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What a folder of a model needs, and nothing that runs or that is pickled.
NEEDED = ("*.json", "*.safetensors", "*.txt", "*.spm", "*.model")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def fetch(source) -> Path:
    """Returns the folder that a source names, after a download if it is not here yet.

    Args:
        source: path of a folder, or `"hf://owner/name"`, a repository of the Hugging Face hub, or
            `"timm://name"`, the one of `timm/name` there. An `@revision` may follow.

    Returns:
        Path of a folder.

    Raises:
        ImportError: for a repository, where huggingface_hub is missing.
        ValueError: when there is no such folder, or the repository cannot be read.
    """
    text = os.fspath(source)
    if not text.startswith((HUB, TIMM)):
        if not Path(text).is_dir():
            raise ValueError(f"Expected the folder of a model, received source={text!r}.")
        return Path(text)
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f'{text} needs huggingface_hub: `pip install "kerasformer[weights]"`.'
        ) from error
    name, _, revision = text.removeprefix(HUB).replace(TIMM, "timm/").partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=NEEDED
        )
    except Exception as error:  # Of the network, of the name, or of rights: one sentence.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"Cannot read {text}: {reason} Without a network, give the folder of a copy."
        ) from error
    return Path(folder)


def read_json(path: str | os.PathLike, kind: type = dict) -> Any:
    """Reads a JSON file of a model.

    Args:
        path: path.
        kind: `dict` or `list`, what it must hold.

    Returns:
        A dict or a list.

    Raises:
        ValueError: when it is missing, or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"Expected a file {os.fspath(path)!r}: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"Expected JSON in {os.fspath(path)!r}: {error}.") from error
    if not isinstance(content, kind):
        raise ValueError(
            f"Expected a JSON {'object' if kind is dict else 'array'} in {os.fspath(path)!r}, "
            f"received {content!r}."
        )
    return content


class Tensors(Mapping[str, np.ndarray]):
    """Reads the tensors of the safetensors files of a folder, each when it is asked for.

    Args:
        folder: path of a folder with `model.safetensors`, or with several such files and their
            index.
        aliases: tuple of pairs of a regular expression and its replacement, which make of the names
            of old versions those of today.

    Raises:
        ImportError: where safetensors is missing.
        ValueError: when there is no such file, or a broken one.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors({"a": np.ones((2, 3), "float32")}, folder)
    ...     tensors = Tensors(folder)
    ...     tensors.shapes(), float(tensors["a"].sum())
    ({'a': (2, 3)}, 6.0)
    """

    def __init__(self, folder, aliases=()):
        folder = Path(folder)
        self._files = {}  # The file and the name in it, by the name of today.
        for path in _tensor_files(folder):
            with _errors_of(path):
                file = _safetensors().safe_open(path, "np")
            for stored in file.keys():
                name = stored
                for pattern, replacement in aliases:
                    name = re.sub(pattern, replacement, name)
                self._files[name] = file, stored

    def __getitem__(self, name):
        file, stored = self._files[name]
        # Half precision is read as it is, and computed with as float32.
        return file.get_tensor(stored).astype("float32")

    def __iter__(self):
        return iter(self._files)

    def __len__(self):
        return len(self._files)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each tensor by name, without reading any."""
        slices = {name: file.get_slice(stored) for name, (file, stored) in self._files.items()}
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


def write_tensors(tensors: Mapping[str, np.ndarray], folder) -> None:
    """Writes `model.safetensors` into a folder that is there.

    Raises:
        ImportError: where safetensors is missing.
    """
    # transformers refuses a file that does not say whose layout it has.
    _safetensors().numpy.save_file(dict(tensors), Path(folder) / TENSORS, metadata={"format": "pt"})


def _tensor_files(folder):
    if (folder / TENSORS).exists():
        return [folder / TENSORS]
    if (folder / INDEX).exists():
        names = read_json(folder / INDEX).get("weight_map", {}).values()
        return [inside(folder, name) for name in sorted(set(names))]
    pickled = [path.name for pattern in PICKLED for path in folder.glob(pattern)]
    received = f"received {pickled[0]}" if pickled else "which lacks it"
    raise ValueError(
        f"Expected {TENSORS} in {os.fspath(folder)!r}, {received}; formats that can run code when "
        "they are read are left out: load the model once by the library that wrote it, and save it "
        "by `model.save_pretrained(folder, safe_serialization=True)`."
    )


def inside(folder: Path, name: Any) -> Path:
    """Returns the path of a file or folder that a file of a folder names.

    Raises:
        ValueError: for a name that leads elsewhere.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(
            f"Expected the name of a file in {os.fspath(folder)!r}, received {name!r}."
        )
    return Path(folder, name)


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            'Weights of other libraries need safetensors: `pip install "kerasformer[weights]"`.'
        ) from error
    return safetensors


@contextlib.contextmanager
def _errors_of(path) -> Iterator[None]:
    try:
        yield
    except (OSError, _safetensors().SafetensorError) as error:
        raise ValueError(f"Cannot read {os.fspath(path)!r}: {error}.") from error
