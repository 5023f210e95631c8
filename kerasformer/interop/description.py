"""What a model of another library needs to be used: preprocessing, labels, tokenizer files."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kerasformer.interop.files import read_json

# Numbers of Pillow, which transformers stores, and the names of `keras.ops.image.resize`.
INTERPOLATIONS = {0: "nearest", 1: "lanczos3", 2: "bilinear", 3: "bicubic"}
PREPROCESSOR = "preprocessor_config.json"
TOKENIZER_FILES = (
    "source.spm",
    "target.spm",
    "spiece.model",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "generation_config.json",
    "sentence_bert_config.json",
)


class Preprocessing(NamedTuple):
    """How images become inputs: resized, cropped, `(pixel / 255 - mean) / std`.

    Attributes:
        image_size: tuple of int, `(height, width)` of the inputs.
        mean: tuple of float for each channel.
        std: tuple of float for each channel.
        interpolation: str, a name of `keras.ops.image.resize`.
        resized: int or `None`. The shorter side before a crop of the centre; `None` to resize
            both sides, without a crop.
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    interpolation: str = "bilinear"
    resized: int | None = None


class Description(NamedTuple):
    """What a model of another library needs to be used.

    Attributes:
        config: dict, the `config.json` as it was read.
        preprocessing: `Preprocessing` of an image model, else `None`.
        labels: list of str, the classes in the order of the outputs, or `None`.
        files: dict of the paths of its tokenizer's files by their names.
    """

    config: dict[str, Any]
    preprocessing: Preprocessing | None = None
    labels: list[str] | None = None
    files: dict[str, Path] = {}

    def label_config(self):
        """Returns the keys of a config of transformers that name the classes."""
        return label_keys(self.labels or ())

    def write(self, folder):
        """Writes what stands beside the weights into a folder, as transformers reads it."""
        for name, path in self.files.items():
            if Path(path).resolve() != (Path(folder) / name).resolve():
                shutil.copyfile(path, Path(folder) / name)
        if self.preprocessing is None:
            return
        how = self.preprocessing
        if how.interpolation not in INTERPOLATIONS.values():
            raise ValueError(
                f"Expected an interpolation of {sorted(INTERPOLATIONS.values())}, received "
                f"interpolation={how.interpolation!r}."
            )
        height, width = how.image_size
        size = {"height": height, "width": width}
        resample = {name: number for number, name in INTERPOLATIONS.items()}[how.interpolation]
        content = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": how.resized} if how.resized else size,
            "do_center_crop": how.resized is not None,
            "crop_size": size,
            "resample": resample,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(how.mean),
            "image_std": list(how.std),
        }
        text = json.dumps(content, indent=2) + "\n"
        (Path(folder) / PREPROCESSOR).write_text(text, encoding="utf-8")


def label_keys(labels: Iterable[str]) -> dict[str, Any]:
    """Returns the keys of a config of transformers that name classes, in their order."""
    names = {str(index): name for index, name in enumerate(labels)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def unnamed(num_classes: int) -> list[str]:
    """Returns what transformers calls classes without names."""
    return [f"LABEL_{index}" for index in range(num_classes)]


def describe(folder, config) -> Description:
    """Reads what stands beside the weights of a folder of transformers.

    Args:
        folder: path.
        config: dict, its `config.json`.

    Returns:
        A `Description`.

    Raises:
        ValueError: for a file that cannot be read, or an interpolation that is not known.
    """
    folder, labels = Path(folder), config.get("id2label")
    if labels is not None:
        labels = [labels[key] for key in sorted(labels, key=int)]
    files = {name: folder / name for name in TOKENIZER_FILES if (folder / name).exists()}
    preprocessing = None
    if (folder / PREPROCESSOR).exists():
        preprocessing = _preprocessing(read_json(folder / PREPROCESSOR), config)
    return Description(config, preprocessing, labels, files)


def _preprocessing(content, config):
    size, crop = content.get("size", config.get("image_size")), None
    if content.get("do_center_crop"):
        crop, size = min(_both_sides(size)), content.get("crop_size", size)
    number = content.get("resample", 2)
    if number not in INTERPOLATIONS:
        raise ValueError(
            f"Expected resample to be one of {sorted(INTERPOLATIONS)}, received resample={number}."
        )
    has_norm = content.get("do_normalize", True)
    return Preprocessing(
        _both_sides(size),
        tuple(content.get("image_mean", (0.5,) * 3)) if has_norm else (0.0,) * 3,
        tuple(content.get("image_std", (0.5,) * 3)) if has_norm else (1.0,) * 3,
        INTERPOLATIONS[number],
        crop,
    )


def _both_sides(size):
    if isinstance(size, dict):
        side = size.get("shortest_edge")
        return (size.get("height", side), size.get("width", side))
    return (size, size) if isinstance(size, int) else tuple(size)
