"""What is exported of a classifier, and how it is scored."""

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipelines.images import scores as image_scores
from pipelines.images.augmentation import resize_and_crop
from pipelines.images.batches import evaluation_dataset
from pipelines.images.description import read_description
from pipelines.tasks.classification.classifier import Classifier
from pipelines.tasks.classification.config import image_size
from pipelines.tasks.classification.data import read_split
from pipelines.training.task import Evaluation


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Classifier:
    """Makes the `tf.Module` whose signatures are exported."""
    return Classifier(model, read_description(workdir), image_size(config), config.serve.crop)


def example(module: Classifier, config: ml_collections.ConfigDict) -> str:
    """Runs one example through the module, for the model card."""
    images = read_split(config, module.description, "validation")
    pixels = resize_and_crop(tf.constant(images.image(0)), image_size(config), config.serve.crop)
    outputs = module.predict(pixels[None])
    probability = float(tf.reduce_max(outputs["probabilities"][0]))
    name = outputs["class_name"][0].numpy().decode()
    return (
        f"- input: the first image of the validation set, {images.class_names[images.labels[0]]}\n"
        f"- output: {name}, probability {probability:.3f}\n"
    )


def evaluate(module: Classifier, config: ml_collections.ConfigDict, split: str) -> Evaluation:
    """Classifies a split and scores it.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Scores, a table of the classes, pictures of the confusion matrix and of the worst mistakes,
        and for each image its file or number, its class, the one that was predicted, and the
        probabilities of both.
    """
    images = read_split(config, module.description, split)
    mean, deviation = module.normalization
    batches = evaluation_dataset(
        images,
        config.serve.batch_size,
        image_size(config),
        mean,
        deviation,
        config.serve.crop,
    )
    batches = tqdm(batches, disable=None, leave=False, unit="batch")  # On a terminal alone.
    probabilities = image_scores.predict(module.model, batches, len(images.labels))
    predictions = (probabilities, images.labels, images.class_names)
    scores = image_scores.score(*predictions)
    worst = image_scores.worst(probabilities, images.labels)
    pixels = [images.image(index) for index in worst]
    pictures = {
        "confusion": image_scores.draw_confusion(*predictions),
        "mistakes": image_scores.draw_mistakes(pixels, worst, *predictions),
    }
    return Evaluation(scores, image_scores.table(scores), pictures, _rows(images, probabilities))


def _rows(images, probabilities: np.ndarray) -> list[dict]:
    """Lists what was predicted of each image."""
    are_files, names = images.pixels.dtype.kind == "U", images.class_names
    return [
        {
            "image": str(images.pixels[index]) if are_files else index,
            "reference": names[label],
            "prediction": names[best],
            "probability": round(float(row[best]), 6),
            "probability_of_reference": round(float(row[label]), 6),
        }
        for index, (label, best, row) in enumerate(
            zip(images.labels, probabilities.argmax(axis=1), probabilities, strict=True)
        )
    ]
