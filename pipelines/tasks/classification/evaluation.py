"""What is exported of a classifier, and how it is scored."""

from collections.abc import Callable

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipelines.images import scores as image_scores
from pipelines.images.augmentation import resize_and_crop
from pipelines.images.batches import evaluation_dataset
from pipelines.images.dataset import Images
from pipelines.images.description import (
    describe_input,
    read_description,
    require_same_images,
)
from pipelines.images.labelled import read_images
from pipelines.images.models import image_size
from pipelines.images.run_images import read_split
from pipelines.images.score_pictures import draw_confusion, draw_mistakes
from pipelines.tasks.classification.classifier import Classifier
from pipelines.tasks.classification.config import MEAN_PRECISION
from pipelines.training.task import Evaluation

LISTED = 100  # classes that a model card names
USE = """In the folder of this file, with `pip install tensorflow` and a picture of yours:

```python
import tensorflow as tf

model = tf.saved_model.load(".")
answer = model.signatures["classify"](image=tf.io.read_file("picture.jpg")[None])
names, probabilities = (answer[key][0].numpy() for key in ("class_names", "probabilities"))
for name, probability in zip(names, probabilities):
    print(name.decode(), round(float(probability), 4))
```"""


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Classifier:
    """Makes the `tf.Module` whose signatures are exported."""
    return Classifier(model, read_description(workdir), image_size(config), config.serve.crop)


def example(module: Classifier, config: ml_collections.ConfigDict) -> str:
    """Runs one example through the module, for the model card."""
    images = read_split(config.data, module.description, "validation")
    how = image_size(config), config.serve.crop, module.interpolation
    pixels = resize_and_crop(tf.constant(images.image(0)), *how)
    outputs = module.predict(pixels[None])
    probability = float(tf.reduce_max(outputs["probabilities"][0]))
    name = outputs["class_name"][0].numpy().decode()
    return (
        f"- input: the first image of the validation set, {', '.join(images.classes(0))}\n"
        f"- output: {name}, probability {probability:.3f}\n"
    )


def evaluate(module: Classifier, config: ml_collections.ConfigDict, split: str) -> Evaluation:
    """Classifies a split and scores it.

    Args:
        module: what `serving` or `exported` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Scores, a table of the classes, pictures of the confusion matrix and of the worst mistakes,
        and for each image its file or number, its class, the one that was predicted, and the
        probabilities of both.
    """
    images = _images(config, module.description, split)
    function, batches = _classified(module, images, config)
    batches = tqdm(batches, disable=None, leave=False, unit="batch")  # On a terminal alone.
    probabilities = image_scores.predict(function, batches, len(images.labels))
    worst = image_scores.worst(probabilities, images.labels)
    pictures = {"mistakes": _draw_mistakes(images, worst, probabilities)}
    rows = _rows(images, probabilities)
    if images.are_multi:
        scores = image_scores.score_several(probabilities, images.labels, images.class_names)
        table = image_scores.table(scores, "average precision")
        return Evaluation(scores, table, pictures, rows)
    scores = image_scores.score(probabilities, images.labels, images.class_names)
    counts = image_scores.confusion(probabilities, images.labels)
    pictures["confusion"] = draw_confusion(counts, images.class_names)
    tables = image_scores.table(scores), image_scores.pairs_table(counts, images.class_names)
    return Evaluation(scores, "\n\n".join(filter(None, tables)), pictures, rows)


def _classified(module, images, config):
    """Returns a function from normalised images to probabilities, and the batches for it."""
    batches = evaluation_dataset(
        images,
        config.serve.batch_size,
        image_size(config),
        *module.normalization,
        config.serve.crop,
        interpolation=module.interpolation,
    )
    return module.scorer(), batches


def validation_scorer(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str
) -> Callable[[], dict[str, float]]:
    """Makes the function that ranks the whole validation set, where images have several labels.

    Returns:
        Function that returns the `mean_average_precision` with the weights that the model has by
        then.

    Raises:
        ValueError: when no validation image has a label.
    """
    module = serving(model, config, workdir)
    images = read_split(config.data, module.description, "validation")
    if not images.labels.any():
        raise ValueError(
            f"Expected a validation image with a label, because {MEAN_PRECISION} ranks those of "
            f"each class, received {len(images.labels)} images without any."
        )
    function, batches = _classified(module, images, config)

    def score_validation():
        probabilities = image_scores.predict(function, batches, len(images.labels))
        scores = image_scores.score_several(probabilities, images.labels, images.class_names)
        return {MEAN_PRECISION: scores[MEAN_PRECISION]}

    return score_validation


def _draw_mistakes(images, worst, probabilities):
    """Draws the images with the most confident mistakes."""
    best = probabilities[worst].argmax(axis=1)
    surely = [
        f"{images.class_names[number]} {100 * probabilities[index, number]:.0f} %"
        for index, number in zip(worst, best, strict=True)
    ]
    classes = [", ".join(images.classes(index)) or "none" for index in worst]
    pixels = [images.image(index)[..., :3] for index in worst]
    return draw_mistakes(pixels, surely, classes, [images.name(index) for index in worst])


def _images(config, description: dict, split: str) -> Images:
    """Reads a split for an evaluation, which need not have images of every class.

    Labels follow the names of the classes. Other names that are numbers stand for the labels
    themselves: an `.npz` need not name its classes.
    """
    data = config.data.copy_and_resolve_references()
    data.update(channels=description["channels"])
    images = read_images(data, split)
    names = description["class_names"]
    numbers = [str(label) for label in range(len(names))]
    known = names if set(images.class_names) <= set(names) else numbers
    if set(images.class_names) <= set(known):
        columns = np.array([known.index(name) for name in images.class_names], np.int32)
        if images.are_multi:
            labels = np.zeros((len(images.labels), len(names)), images.labels.dtype)
            labels[:, columns] = images.labels
        else:
            labels = columns[images.labels]
        images = images._replace(labels=labels, class_names=tuple(names))
    require_same_images(images, description, split)
    return images


def card(config: ml_collections.ConfigDict, workdir: str) -> dict[str, str]:
    """Writes the task's part of the model card: classes, input, and code."""
    description = read_description(workdir)
    names = description["class_names"]
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return {
        "Classes": f"{len(names):,}: {', '.join(names[:LISTED])}{more}.",
        "Input": describe_input(description, image_size(config), config.serve.crop),
        "Use": USE,
    }


def _rows(images: Images, probabilities: np.ndarray) -> list[dict]:
    """Lists what was predicted of each image."""
    rows = []
    for index, shares in enumerate(probabilities):
        row: dict = {"image": str(images.names[index]) if len(images.names) else index}
        if images.are_multi:
            found = [images.class_names[number] for number in np.flatnonzero(shares >= 0.5)]
            row |= {"reference": "|".join(images.classes(index)), "prediction": "|".join(found)}
            columns = zip(images.class_names, shares, strict=True)
            row |= {f"probability of {name}": round(float(share), 6) for name, share in columns}
        else:
            label, best = images.labels[index], shares.argmax()
            row |= {"reference": images.class_names[label], "prediction": images.class_names[best]}
            row["probability"] = round(float(shares[best]), 6)
            row["probability_of_reference"] = round(float(shares[label]), 6)
        rows.append(row)
    return rows
