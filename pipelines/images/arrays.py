"""Labelled images from `.npz` files."""

import zipfile

import numpy as np

from pipelines.images.dataset import Images, digests_of
from pipelines.images.files import CHANNELS
from pipelines.images.splits import is_cut, path_and_part, rows_of, rows_of_part, source_of

MAX_UNNAMED = 1000  # classes of an .npz without names, if there are not as many images


def read_arrays(data, split: str) -> Images:
    """Reads one split of a config whose `data.format` is `"npz"`.

    Args:
        data: ConfigDict, as `labelled.read_images` takes it.
        split: str. `"train"`, `"validation"` or `"test"`.

    Raises:
        ValueError: for a file of another kind, naming it and what it holds.
    """
    source = source_of(data, split)
    path, part = path_and_part(data, source)
    arrays = _load(path, data)
    pixels, has_labels = arrays["images"], data.get("labels", "one") != "none"
    labels = arrays["labels"] if has_labels else np.zeros(pixels.shape[:1], np.int32)
    if (
        pixels.dtype != np.uint8
        or pixels.ndim not in (3, 4)
        or pixels.shape[3:] not in ((), *((number,) for number in CHANNELS))
    ):
        raise ValueError(
            f"Expected images of uint8 (n, height, width), or with 1, 3 or 4 channels behind it, "
            f"in {path}, received {pixels.dtype} {pixels.shape}."
        )
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected {len(pixels)} whole numbers as labels in {path}, "
            f"received {labels.dtype} {labels.shape}."
        )
    if not has_labels:
        class_names: tuple[str, ...] = ()
    elif "class_names" in arrays:
        class_names = tuple(map(str, np.atleast_1d(arrays["class_names"])))
    else:
        known: np.ndarray = labels
        if source != "train":
            known = _load(path_and_part(data, "train")[0], data)["labels"]
        count = max(known.tolist(), default=-1) + 1
        if count > max(len(known), MAX_UNNAMED):
            raise ValueError(
                f"Expected labels that count the classes from 0 in {path}, received {len(known)} "
                f"labels up to {count - 1}."
            )
        class_names = tuple(str(label) for label in range(count))
    pixels = pixels.reshape(*pixels.shape[:3], -1) if pixels.ndim == 3 else pixels
    labels = labels.astype(np.int32)
    images = Images(pixels, labels, class_names, pixels.shape[3]).rows(rows_of_part(labels, part))
    if not is_cut(data, split):
        return images
    return images.rows(rows_of(data, split, digests_of(images), images.labels))


def _load(path: str, data) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            arrays = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise ValueError(f"Cannot read {path!r}: {error.strerror or 'not an .npz file'}.") from None
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile):
        raise ValueError(f"Cannot read {path!r}: not an .npz file of plain arrays.") from None
    needed = ["images"] if data.get("labels", "one") == "none" else ["images", "labels"]
    if not set(needed) <= set(arrays):
        raise ValueError(
            f"Expected the arrays {' and '.join(needed)} in {path}, received {sorted(arrays)}."
        )
    return arrays
