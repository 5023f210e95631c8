"""What a model must know about its images: `images.json` in the folder of a run.

It holds `class_names`, `channels`, `mean` and `deviation` of the levels of each channel, and
`"labels": "multi"` where an image may have several labels, and `interpolation` where images are
resized in another way than bicubically.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.data.sources import expanded
from pipelines.images.augmentation import BICUBIC
from pipelines.images.dataset import Images, statistics
from pipelines.runs.config import read_config
from pipelines.runs.files import write_text


def describe(images: Images, workdir: str, start: str = "", data: Any = None) -> dict:
    """Writes `images.json`, unless the run has checkpoints that were trained with the one it has.

    Args:
        images: `Images` to train on.
        workdir: folder of the run.
        start: folder of the run whose weights this one begins with, or nothing. Its mean and
            deviation are taken, because its weights were trained on images normalised by them.
        data: ConfigDict or `None`. Its `mean`, `deviation` and `interpolation` are taken where
            they have a value; else the images decide, and are resized bicubically.

    Returns:
        What the file holds now.

    Raises:
        ValueError: when that run has images with other channels, or `data` has no number for each
            channel.
    """
    path = Path(workdir) / "images.json"
    if path.exists() and any(Path(workdir, "checkpoints").rglob("step-*")):
        return read_description(workdir)
    mean, deviation = statistics(images)
    description = {
        "class_names": list(images.class_names),
        "channels": images.channels,
        "mean": list(mean),
        "deviation": list(deviation),
    }
    if images.are_multi:
        description["labels"] = "multi"
    if start:
        first = read_description(expanded(start))
        if first["channels"] != images.channels:
            raise ValueError(
                f"Expected images with {first['channels']} channels, as those of start.workdir="
                f"{start} have, received images with {images.channels}."
            )
        taken = ("mean", "deviation", "interpolation")
        description |= {key: first[key] for key in taken if key in first}
    description |= _given(data or {}, images.channels)
    text = json.dumps(description, indent=1)
    write_text(path, text)
    return json.loads(text)


def _given(data, channels: int) -> dict:
    """Returns what `config.data` says of normalising and resizing.

    Raises:
        ValueError: when it does not say it for each channel.
    """
    given = {}
    for key in ("mean", "deviation"):
        values = data.get(key)
        if values is None:
            continue
        if len(values) != channels:
            raise ValueError(
                f"Expected data.{key} to be a number for each of the {channels} channels of the "
                f"images, received data.{key}={tuple(values)}."
            )
        given[key] = [float(value) for value in values]
    if len(given) == 1:
        raise ValueError(
            "Expected both data.mean and data.deviation, or neither, received "
            f"data.mean={data.get('mean')} and data.deviation={data.get('deviation')}."
        )
    interpolation = data.get("interpolation", BICUBIC)
    return given | ({"interpolation": interpolation} if interpolation != BICUBIC else {})


def interpolation_of(description: Mapping) -> str:
    """Returns how images of a run are resized; older runs did it bicubically."""
    return description.get("interpolation", BICUBIC)


def read_description(workdir: str) -> dict:
    """Reads what a run knows about its images.

    Raises:
        ValueError: when the folder holds no run of a task of images.
    """
    path = Path(workdir) / "images.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        task = read_config(workdir).task
        raise ValueError(
            f"Expected a run of images in {workdir}, received {task} without {path.name}."
        ) from None


def describe_input(description: Mapping, image_size: tuple[int, int], crop: float) -> str:
    """Describes for a model card what is done to an image before the model sees it."""
    height, width = image_size
    part = "the largest part" if crop == 1 else f"{crop:.1%} of each side of the largest part"
    interpolation = interpolation_of(description)
    how = "" if interpolation == BICUBIC else f", with interpolation={interpolation}"
    colors = {1: "gray", 3: "RGB", 4: "RGBA"}[description["channels"]]
    mean, deviation = (
        ", ".join(f"{value:.4g}" for value in description[key]) for key in ("mean", "deviation")
    )
    return (
        f"An image file, decoded to {colors}. From its middle, {part} with the proportions of "
        f"the model is resized to {height} x {width} pixels{how}. "
        f"Levels from 0 to 255 lose the mean {mean} and are divided by {deviation}."
    )


def require_same_images(images: Images, description: dict, split: str) -> None:
    """Checks that images have the classes and the channels of a run.

    Raises:
        ValueError: when they have others.
    """
    expected = (*description["class_names"],), description["channels"]
    received = images.class_names, images.channels
    if received != expected:
        raise ValueError(
            "Expected the classes and channels of the run, {} and {}, in split={!r}, "
            "received {} and {}.".format(*expected, split, *received)
        )
