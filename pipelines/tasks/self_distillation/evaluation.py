"""What is exported of a run of self-distillation, and how it is scored: by nearest neighbours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipelines.images import run_images
from pipelines.images import scores as image_scores
from pipelines.images.augmentation import resize_and_crop
from pipelines.images.batches import evaluation_dataset
from pipelines.images.dataset import Images
from pipelines.images.description import describe_input, read_description
from pipelines.images.embedding_pictures import draw_attention, draw_neighbours
from pipelines.images.files import is_hidden
from pipelines.images.labelled import read_images
from pipelines.images.models import image_size
from pipelines.images.module_inputs import evenly_spaced
from pipelines.images.neighbours import Neighbours, features_of, find_neighbours, votes
from pipelines.images.run_images import read_split
from pipelines.images.score_pictures import shortened
from pipelines.tasks.self_distillation.config import KNN
from pipelines.tasks.self_distillation.embedder import Embedder
from pipelines.training.task import Evaluation

SHOWN = 6  # images in a picture
SHOWN_NEIGHBOURS = 6
USE = """In the folder of this file, with `pip install tensorflow` and a picture of yours:

```python
import tensorflow as tf

model = tf.saved_model.load(".")
answer = model.signatures["embed"](image=tf.io.read_file("picture.jpg")[None])
print(answer["features"].shape)
```

Pictures that are alike have vectors of nearly the same direction: compare their cosine."""


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Embedder:
    """Makes the `tf.Module` whose signatures are exported."""
    return Embedder(model, read_description(workdir), image_size(config), config.serve.crop)


def example(module: Embedder, config: ml_collections.ConfigDict) -> str:
    """Runs one example through the module, for the model card."""
    images = read_split(config.data, module.description, "validation")
    features = module.embed_pixels(_seen(module, images, [0]))["features"][0]
    first = ", ".join(f"{value:.3f}" for value in features[:3])
    return (
        "- input: the first image of the validation set\n"
        f"- output: {len(features)} numbers, of which the first are {first}\n"
    )


def _seen(module: Embedder, images: Images, indices) -> tf.Tensor:
    """Reads images as the model sees them, uint8 `(B, h, w, c)`."""
    pixels = [tf.constant(images.image(index)) for index in indices]
    return tf.stack([resize_and_crop(x, module.image_size, module.crop) for x in pixels])


def validation_scorer(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str
) -> Callable[[], dict[str, float]]:
    """Makes the function that classifies the validation images by their nearest training images.

    Returns:
        Function that returns `knn_top1` with the weights that the teacher has by then.
    """
    module = serving(model.teacher, config, workdir)
    train, images = (
        read_split(config.data, module.description, s) for s in ("train", "validation")
    )
    embed = _embedding(module, config)

    def score_validation():
        found = find_neighbours(embed(images), embed(train), config.neighbours.count)
        return {KNN: _scores(images, _votes(found, train, config))[KNN]}

    return score_validation


def _embedding(module, config) -> Callable[[Images], np.ndarray]:
    """Returns a function from images to the features of all of them."""
    function, normalization = tf.function(module.model.features), module.normalization

    def embed(images):
        batch_size, size = config.serve.batch_size, module.image_size
        batches = evaluation_dataset(images, batch_size, size, *normalization, module.crop)
        shown = tqdm(batches, disable=None, leave=False, unit="batch")  # On a terminal alone.
        return features_of(function, shown, len(images.labels))

    return embed


def evaluate(module: Embedder, config: ml_collections.ConfigDict, split: str) -> Evaluation:
    """Finds the nearest training images of each image of a split, and lets them vote for its class.

    Data of a user are the training images too: each image is then left out of its own neighbours.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Scores, where the images have classes a table of these, pictures of neighbours and of what
        the last block attends to, and for each image its nearest neighbour and what was voted for.

    Raises:
        ValueError: when the images have other channels than those that the model was trained on, or
            there is one image alone.
    """
    train, images = (_read(config, module, name) for name in ("train", split))
    are_the_same = images.fingerprint() == train.fingerprint()
    if are_the_same and len(images.labels) < 2:
        raise ValueError(
            "Expected two images or more, each of which is compared with the others, received "
            f"{images.name(0)} alone."
        )
    embed = _embedding(module, config)
    known = embed(train)
    if are_the_same:
        found = _others(find_neighbours(known, known, config.neighbours.count + 1))
    else:
        found = find_neighbours(embed(images), known, config.neighbours.count)
    shares = _votes(found, train, config)
    scores: dict[str, Any] = {
        "nearest_similarity": float(found.similarities[:, 0].mean(dtype=np.float64)),
        "images": len(images.labels),
        "known_images": len(train.labels),
    }
    table = ""
    if images.class_names:
        scores = {**_scores(images, shares), **scores}
        measure = "average precision" if images.are_multi else "top-1 accuracy"
        table = image_scores.table(scores, measure)
    pictures = _draw(module, images, train, found)
    return Evaluation(scores, table, pictures, _rows(images, train, found, shares))


def _read(config, module, split: str) -> Images:
    data = config.data.copy_and_resolve_references()
    data.update(channels=module.channels)
    images = read_images(data, split)
    if images.channels != module.channels:
        raise ValueError(
            f"Expected images with {module.channels} channels, as the run has, in split={split!r}, "
            f"received {images.channels}."
        )
    return images


def _others(found: Neighbours) -> Neighbours:
    """Leaves each image out of its own neighbours, or the last one where many are equal."""
    is_own = found.indices == np.arange(len(found.indices))[:, None]
    is_own[:, -1] |= ~is_own.any(axis=1)
    return Neighbours(*(x[~is_own].reshape(len(x), -1) for x in found))


def _votes(found, train, config):
    count, temperature = max(len(train.class_names), 1), config.neighbours.temperature
    return votes(found, train.labels, count, temperature)


def _scores(images: Images, shares: np.ndarray) -> dict[str, Any]:
    """Scores the votes where images have classes."""
    if images.are_multi:
        scores = image_scores.score_several(shares, images.labels, images.class_names)
        return {KNN: scores.pop("top1"), **scores}
    scores = image_scores.score(shares, images.labels, images.class_names)
    names = ("balanced_accuracy", "macro_f1", "per_class")
    return {KNN: scores["top1"], "knn_top5": scores["top5"], **{n: scores[n] for n in names}}


def _draw(module, images, train, found):
    """Draws some images with their neighbours, and what the heads attend to on them."""
    shown = evenly_spaced(len(images.labels), SHOWN)
    rows, titles = [], []
    for index in shown:
        near, similar = (x[index, :SHOWN_NEIGHBOURS] for x in found)
        rows.append([images.image(index), *(train.image(i) for i in near)])
        pairs = zip(near, similar, strict=True)
        names = [f"{_title(train, i)}\n{similarity:.3f}" for i, similarity in pairs]
        titles.append([f"{_title(images, index)}\n", *names])
    pictures = {"neighbours": draw_neighbours(rows, titles)}
    if module.has_attention:
        answer = module.attention_pixels(_seen(module, images, shown))
        names = [images.name(index) for index in shown]
        heads = answer["heads"].numpy()[:, -1]
        pictures["attention"] = draw_attention(answer["pixels"].numpy(), heads, names)
    return pictures


def _title(images, index):
    return shortened(", ".join(images.classes(index)) or images.name(index), 16)


def _rows(images, train, found, shares) -> list[dict]:
    """Lists the nearest neighbour of each image, and the class that was voted for."""
    rows = []
    for index, (near, similar) in enumerate(zip(*found, strict=True)):
        row: dict = {"image": str(images.names[index]) if len(images.names) else index}
        nearest = train.name(near[0])
        if images.class_names:
            best = shares[index].argmax()
            row |= {"reference": "|".join(images.classes(index))}
            row |= {"prediction": train.class_names[best], "share": round(shares[index, best], 6)}
            row |= {"nearest": nearest}
        else:
            row |= {"prediction": nearest}
        rows.append({**row, "similarity": round(float(similar[0]), 6)})
    return rows


def own_test(config: ml_collections.ConfigDict, path: str) -> dict:
    """Returns the keys that read a folder, a table or an `.npz`: all of it, to train and to test.

    Of a run without classes a folder still has some, if there are several folders in it.
    """
    labels = config.data.labels
    if labels == "none" and Path(path).is_dir():
        folders = [entry.name for entry in Path(path).iterdir() if entry.is_dir()]
        labels = "one" if sum(not is_hidden(name) for name in folders) > 1 else labels
    keys = run_images.own_test(config, path)
    return {**keys, "validation": path, "held_out": None, "labels": labels}


def card(config: ml_collections.ConfigDict, workdir: str) -> dict[str, str]:
    """Writes the task's part of the model card: input, output, and code."""
    return {
        "Training": "By self-distillation (DINO): no class of an image was used.",
        "Input": describe_input(read_description(workdir), image_size(config), config.serve.crop),
        "Use": USE,
    }
