"""What every task over images does with the images of a run before it makes batches of them."""

import contextlib
import io
import math
from collections.abc import Mapping
from pathlib import Path

from pipelines.data.shards import Shard
from pipelines.images.dataset import Images, count_leaks
from pipelines.images.description import describe, require_same_images
from pipelines.images.labelled import read_images, read_splits
from pipelines.images.splits import is_cut
from pipelines.runs.config import check_ranges


def read_run(data, workdir: str, start: str = "") -> tuple[dict[str, Images], dict]:
    """Reads the images of a run, writes what it must know of them, and prints what they are.

    Args:
        data: ConfigDict, as `labelled.read_images` takes it.
        workdir: folder of the run, for `images.json`.
        start: folder of the run whose weights this one begins with, as in `description.describe`.

    Returns:
        Tuple of the images by split, the test images among them where the data name some, and of
        what `images.json` holds.

    Raises:
        ValueError: when the data is not what `data` says.
    """
    # The test images are read too, because what is wrong with them had better be known now.
    has_test = data.format == "digits" or data.get("test") or is_cut(data, "test")
    splits = read_splits(data, ("train", "validation", *["test"] * bool(has_test)))
    train, validation = splits["train"], splits["validation"]
    description = describe(train, workdir, start, data)
    for split, images in splits.items():
        require_same_images(images, description, split)
    found = [f"{len(train.labels)} to train", f"{len(validation.labels)} to validate"]
    if train.class_names:
        found.append(f"{len(train.class_names)} classes")
    print(f"Images: {', '.join(found)}", flush=True)
    for split, images in splits.items():
        if split != "train" and (leak := describe_leaks(split, train, images)):
            print(leak, flush=True)
    return splits, description


def require_batches(batch_size: int, shard: Shard) -> None:
    """Refuses batches that have fewer images than there are replicas.

    Raises:
        ValueError: naming the size.
    """
    if batch_size < shard.num_replicas:
        raise ValueError(
            f"Expected train.batch_size to be at least the {shard.num_replicas} replicas, "
            f"received train.batch_size={batch_size}."
        )


def check_batches(config) -> None:
    """Refuses sizes of batches and a crop that cannot be, of any task over images.

    Raises:
        ValueError: naming the first of them.
    """
    train, serve = config.train, config.serve
    check_ranges(
        {
            "train.batch_size": (train.batch_size, 1, math.inf),
            "serve.batch_size": (serve.batch_size, 1, math.inf),
            "serve.crop": (serve.crop, 0.1, 1),
        }
    )


def read_split(data, description: dict, split: str) -> Images:
    """Reads the images of a split, of the classes and channels that the run knows.

    Raises:
        ValueError: when they have others, or the data is not what `data` says.
    """
    images = read_images(data, split)
    require_same_images(images, description, split)
    return images


def fingerprint(splits: Mapping[str, Images]) -> dict[str, str]:
    """Returns the hashes of the images that a run trains and validates on, for `task.Data`."""
    return {
        f"set of {name} images": splits[split].fingerprint()
        for split, name in (("train", "training"), ("validation", "validation"))
    }


def counts(splits: Mapping[str, Images]) -> dict[str, int]:
    """Returns how many images each split has, for `task.Data`."""
    return {
        f"{'training' if split == 'train' else split} images": len(images.labels)
        for split, images in splits.items()
    }


def describe_leaks(split: str, train: Images, images: Images) -> str:
    """Counts, in a sentence, the images of a split that are in training too; empty for none."""
    count, name = count_leaks(train, images)
    if not count:
        return ""
    return (
        f"Leak: {count} of {len(images.labels)} images to "
        f"{'validate' if split == 'validation' else split} are in the training images too, "
        f"the first of them {name}: scores will be too good."
    )


def leaks(config, own) -> str:
    """Counts the images of the test set of `own` that are among the training images of `config`."""
    # What there is to say of either is said when one trains or evaluates.
    with contextlib.redirect_stdout(io.StringIO()):
        train, test = read_images(config.data, "train"), read_images(own.data, "test")
    return describe_leaks("test", train, test)


def own_test(config, path: str) -> dict:
    """Returns the keys of `config.data` that read images of a user as the test set.

    Args:
        config: the resolved config, which makes no difference.
        path: a folder with a folder for each class, a table, or an `.npz`.

    Raises:
        ValueError: for something else.
    """
    given = Path(path.partition("[")[0])
    data_format = "folder" if given.is_dir() else given.suffix.lower().removeprefix(".")
    data_format = "csv" if data_format == "tsv" else data_format
    if data_format not in ("folder", "csv", "npz"):
        raise ValueError(
            "Expected a folder with a folder for each class, a .csv or .tsv of paths and classes "
            f"or an .npz, received --test={path}."
        )
    return {"format": data_format, "folder": "", "train": path, "test": path, "classes": ()}
