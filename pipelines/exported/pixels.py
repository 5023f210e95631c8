"""What `apps.predict` does with a classifier: names what is on image files.

Each file gets one line on standard output, `path<TAB>name probability<TAB>...`, most probable
first. `--attention=picture.png` also draws where the model looked: for one image in picture.png,
for several in picture-1.png, picture-2.png and so on.
"""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from kerasformer import explain
from pipelines.error_sentence import sentence
from pipelines.images.files import fault


def predict(signatures: dict, paths: Sequence[str], pictures: Sequence[Path] | None) -> None:
    """Prints the classes of image files, and draws where the model looked.

    Args:
        signatures: those of the exported classifier, by name.
        paths: the files.
        pictures: path of a picture for each file, or `None`.

    Raises:
        OSError: when a file cannot be read; nothing has been printed then.
        ValueError: when there is no file, or one is no image that can be used, likewise.
    """
    if not paths:
        raise ValueError("Expected the paths of images as arguments, received none.")
    files = [Path(path).read_bytes() for path in paths]
    for path, contents in zip(paths, files, strict=True):
        reason = fault(contents)
        if reason and not reason.startswith("animated"):  # Of those the first frame is taken.
            raise ValueError(f"{path} cannot be used: {reason}.")
    images = [tf.constant([contents]) for contents in files]
    answers = []
    for path, image in zip(paths, images, strict=True):
        try:
            answers.append(signatures["classify"](image=image))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"{path} cannot be used: {sentence(error)}") from error
    for index, (path, image, answer) in enumerate(zip(paths, images, answers, strict=True)):
        names = [name.decode("utf-8") for name in answer["class_names"][0].numpy()]
        shares = answer["probabilities"][0].numpy()
        pairs = [f"{name} {share:.4f}" for name, share in zip(names, shares, strict=True)]
        print(path, *pairs, sep="\t", flush=True)
        if pictures:
            seen = signatures["attention"](image=image)
            pixels, weights = (seen[key][0].numpy() for key in ("pixels", "attention"))
            explain.draw_grid_maps(pixels, weights, pictures[index], titles=names[:1])
