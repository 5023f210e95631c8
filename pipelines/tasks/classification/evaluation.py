"""What is exported of a classifier, and how it is scored."""

import keras
import ml_collections
import tensorflow as tf

from pipelines.images import scores as image_scores
from pipelines.images.augmentation import resize_and_crop
from pipelines.images.batches import evaluation_dataset
from pipelines.images.description import read_description
from pipelines.images.score_pictures import draw_confusion, draw_mistakes
from pipelines.tasks.classification.classifier import Classifier
from pipelines.tasks.classification.config import image_size
from pipelines.tasks.classification.data import read_split


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
        f"- input: the first image of the validation set, {', '.join(images.classes(0))}\n"
        f"- output: {name}, probability {probability:.3f}\n"
    )


def evaluate(module: Classifier, config: ml_collections.ConfigDict, split: str):
    """Classifies a split and scores it.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Tuple of the scores (a dict that JSON can hold), a table of the classes, and pictures by
        name: the confusion matrix and the worst mistakes.
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
    several = images.are_multi
    activation = tf.nn.sigmoid if several else tf.nn.softmax
    probabilities = image_scores.predict(module.model, batches, len(images.labels), activation)
    worst = image_scores.worst(probabilities, images.labels)
    pictures = {"mistakes": _draw_mistakes(images, worst, probabilities)}
    if several:
        scores = image_scores.score_several(probabilities, images.labels, images.class_names)
        return scores, image_scores.table(scores, "average precision"), pictures
    scores = image_scores.score(probabilities, images.labels, images.class_names)
    counts = image_scores.confusion(probabilities, images.labels)
    pictures["confusion"] = draw_confusion(counts, images.class_names)
    tables = image_scores.table(scores), image_scores.pairs_table(counts, images.class_names)
    return scores, "\n\n".join(filter(None, tables)), pictures


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
