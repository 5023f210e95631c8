"""The classification task: labelled images in, a model that names what is on an image out.

Letters: `B` images, `h` height, `w` width, `c` channels, `C` classes.
"""

import copy
import dataclasses
import sys

import keras
import ml_collections
import tensorflow as tf
from keras import ops

from kerasformer.layers.embeddings.patches import pair
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import VisionTransformer
from kerasformer.models.vit_variants import VARIANTS
from pipelines.classifier import Classifier
from pipelines.data.shards import WHOLE, Shard
from pipelines.data.sources import expanded
from pipelines.distillation import Distiller, distillation_loss, load_teacher
from pipelines.fine_tuning import copy_weights
from pipelines.images import scores as image_scores
from pipelines.images.augmentation import Recipe, resize_and_crop
from pipelines.images.batches import evaluation_dataset, training_dataset
from pipelines.images.description import describe, read_description, require_described
from pipelines.images.files import MAX_PIXELS
from pipelines.images.labelled import KEYS, Images, read_images, statistics
from pipelines.images.preview import preview as draw_preview
from pipelines.runs.config import check_choices, check_keys, read_config
from pipelines.runs.weights import load_model
from pipelines.training import settings
from pipelines.training.task import Data

METRICS = ("loss", "top1", "top5")  # What a validation can report.
DEFAULTS = {
    "task": "classification",
    "seed": 1,
    "weights": "last",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "digits",
        "classes": (),  # Names of those to keep; all when it is empty.
        "on_bad_image": "stop",  # Or "skip": it is named, counted and left out.
        "max_pixels": MAX_PIXELS,
    },
    "augment": dataclasses.asdict(Recipe()),
    "model": {"variant": "ViT-Lite-7/4", "image_size": 32},
    "start": {
        "workdir": "",  # A run whose weights this one begins with.
        "freeze": False,  # Whether only the heads are trained (a linear probe).
    },
    "teacher": {
        "model": "",  # A run's folder or a .keras file; the student learns from it too.
        "kind": "hard",  # Or "soft".
        "alpha": 0.5,  # Share of the teacher in the loss.
        "temperature": 1.0,  # Of the soft kind.
    },
    "train": {
        **settings.DEFAULTS,
        "batch_size": 128,
        "learning_rate": 0.001,
        "schedule": "cosine",
        "warmup_steps": 1000,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "best_metric": "top1",
    },
    "serve": {
        "crop": 1.0,  # Share of the shorter side that is looked at.
        "batch_size": 256,  # Of an evaluation.
    },
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    A config file changes what it needs to. `model` holds a variant, an `image_size` and any
    argument of `VisionTransformer`; `data` is what `image_data.read_images` reads; `augment` the
    fields of `augmentation.Recipe`.
    """
    config = ml_collections.ConfigDict(copy.deepcopy(DEFAULTS)).lock()
    for part in (config.data, config.model):
        part.unlock()  # These take more keys; elsewhere, one that nothing reads is a mistake.
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses, before anything is read or trained, values that cannot be.

    Raises:
        ValueError: naming the first of them.
    """
    _recipe(config)
    check_choices(
        {
            "teacher.kind": (config.teacher.kind, ("hard", "soft")),
            "model.variant": (config.model.variant, VARIANTS),
        }
    )
    ranges = {
        "train.batch_size": (config.train.batch_size, 1, float("inf")),
        "serve.batch_size": (config.serve.batch_size, 1, float("inf")),
        "serve.crop": (config.serve.crop, 0.1, 1),
        "teacher.alpha": (config.teacher.alpha, 0, 1),
        "teacher.temperature": (config.teacher.temperature, 1e-3, float("inf")),
    }
    for key, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise ValueError(f"Expected {least} <= {key} <= {most}, received {key}={value}.")
    check_keys(config.data, KEYS)
    if config.start.freeze and not config.start.workdir:
        raise ValueError("Expected a start.workdir with start.freeze=True, received none.")


def _recipe(config):
    try:
        return Recipe(**config.augment.to_dict())
    except ValueError as error:
        raise ValueError(f"config.augment is wrong: {error}") from error


def _image_size(config):
    return pair("model.image_size", config.model.image_size)


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE) -> Data:
    """Reads the images, and makes batches of them.

    Args:
        config: the resolved config.
        workdir: folder of the run; the names of the classes are written there, and the mean and
            deviation of the training images.
        shard: part of each batch that is made here.

    Returns:
        The datasets, of the dicts that `image_batches` describes.

    Raises:
        ValueError: when the data is not what `config.data` says, or a batch has
            fewer images than there are replicas.
    """
    if config.train.batch_size < shard.num_replicas:
        raise ValueError(
            f"Expected train.batch_size to be at least the {shard.num_replicas} replicas, "
            f"received train.batch_size={config.train.batch_size}."
        )
    images = read_images(config.data, "train")
    describe(images, workdir, config.start.workdir)
    described = read_description(workdir)
    require_described(images, described, "train")
    validation = _read_described(config, described, "validation")
    counts = f"{len(images.labels)} to train, {len(validation.labels)} to validate"
    print(f"Images: {counts}, {len(images.class_names)} classes", flush=True)
    size, normalization = _image_size(config), (described["mean"], described["deviation"])
    return Data(
        train=lambda batch: training_dataset(
            images,
            config.train.batch_size,
            config.seed,
            _recipe(config),
            size,
            *normalization,
            start_batch=batch,
            shard=shard,
        ),
        validation=evaluation_dataset(
            validation, config.serve.batch_size, size, *normalization, config.serve.crop
        ),
        batches_per_epoch=len(images.labels) / config.train.batch_size,
        items="images",
        fingerprint={
            "set of training images": images.fingerprint(),
            "set of validation images": validation.fingerprint(),
        },
        begin=lambda model, is_new: _begin(model, config, described, is_new),
    )


def _read_described(config, described: dict, split: str) -> Images:
    """Reads the images of a split, of the classes and channels that the model knows."""
    images = read_images(config.data, split)
    require_described(images, described, split)
    return images


def preview(config: ml_collections.ConfigDict, path: str) -> None:
    """Draws augmented training images with their labels to a picture."""
    images, columns = read_images(config.data, "train"), 8
    normalization = statistics(images)
    batches = training_dataset(
        images, columns, config.seed, _recipe(config), _image_size(config), *normalization
    )
    draw_preview(batches, images.class_names, *normalization, path, columns=columns)


def show_batch(batch: dict, config: ml_collections.ConfigDict, workdir: str, picture: str) -> str:
    """Draws the first images of a training batch, as the model sees them."""
    described = read_description(workdir)
    columns = 8
    rows = min(8, -(-len(batch["labels"]) // columns))
    draw_preview(
        tf.data.Dataset.from_tensors(batch),
        described["class_names"],
        described["mean"],
        described["deviation"],
        picture,
        rows,
        columns,
    )
    return f"The first {min(len(batch['labels']), rows * columns)} images are in {picture}."


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the model with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    described = read_description(workdir)
    arguments = config.model.to_dict()
    try:
        model = VisionTransformer.from_variant(
            arguments.pop("variant"),
            arguments.pop("image_size"),
            num_classes=len(described["class_names"]),
            name="vit",
            dtype=config.train.precision,
            **arguments,
        )
    except TypeError as error:
        raise ValueError(f"config.model={config.model.to_dict()} is wrong: {error}.") from error
    model.build((None, *_image_size(config), described["channels"]))
    return model


def _begin(model, config, described, is_new):
    """Prepares a model for training: weights of another run, frozen layers, a teacher."""
    if config.start.workdir and is_new:
        first, _, own = _load_run(expanded(config.start.workdir))
        copy_weights(first, model, with_heads=own["class_names"] == described["class_names"])
    if config.start.freeze:
        for layer in model.layers:
            layer.trainable = "head" in layer.name
    if not config.teacher.model:
        return model
    teacher = load_teacher(config.teacher.model, described, _load_run)
    return Distiller(model, teacher, name="distiller")


def _load_run(workdir):
    """Loads another run of this task: its model, image size and description."""
    described = read_description(workdir)
    config = read_config(workdir)
    model = load_model(sys.modules[__name__], config, workdir, config.weights)
    return model, _image_size(config), described


def loss(model: keras.Model, batch: dict, config: ml_collections.ConfigDict):
    """Computes the smoothed cross-entropy of a training batch, mixed as its labels are.

    Returns:
        Tuple of its sum over the images and their number, float32 scalars.
    """
    share = batch["share"]

    def cross_entropy(logits):
        own, other = (
            smoothed_cross_entropy(batch[key], logits, config.train.label_smoothing)
            for key in ("labels", "other_labels")
        )
        return share * own + (1.0 - share) * other

    if isinstance(model, Distiller):
        losses = distillation_loss(model, batch["images"], cross_entropy, config.teacher)
    else:
        losses = cross_entropy(model(batch["images"], training=True))
    return ops.sum(losses), ops.cast(ops.shape(share)[0], "float32")


def metrics(model: keras.Model, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes what a validation reports, as (sum, count) over the real images of a batch.

    Returns:
        Dict with `loss` (nats an image, not smoothed), `top1` and `top5`.
    """
    labels = batch["labels"]
    real = ops.cast(labels >= 0, "float32")
    labels = ops.maximum(labels, 0)
    logits = model(batch["images"], training=False)
    values = {
        "loss": smoothed_cross_entropy(labels, logits),
        "top1": ops.cast(ops.argmax(logits, axis=-1) == labels, "float32"),
        "top5": ops.cast(ops.in_top_k(labels, logits, min(5, logits.shape[-1])), "float32"),
    }
    return {name: (ops.sum(value * real), ops.sum(real)) for name, value in values.items()}


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Classifier:
    """Makes the `tf.Module` whose signatures are exported."""
    return Classifier(model, read_description(workdir), _image_size(config), config.serve.crop)


def example(module: Classifier, config: ml_collections.ConfigDict) -> str:
    """Works one example through the module, for the model card."""
    images = _read_described(config, module.described, "validation")
    pixels = resize_and_crop(tf.constant(images.image(0)), _image_size(config), config.serve.crop)
    found = module.predict(pixels[None])
    probability = float(tf.reduce_max(found["probabilities"][0]))
    name = found["class_name"][0].numpy().decode()
    return (
        f"- input: the first image of the validation set, {images.class_names[images.labels[0]]}\n"
        f"- output: {name}, probability {probability:.3f}\n"
    )


def evaluate(module: Classifier, config: ml_collections.ConfigDict, split: str = "test"):
    """Classifies a split and scores it.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Tuple of the scores (a dict that JSON can hold), a table of the classes, and pictures by
        name: the confusion matrix and the worst mistakes.
    """
    images = _read_described(config, module.described, split)
    batches = evaluation_dataset(
        images,
        config.serve.batch_size,
        _image_size(config),
        *module.normalization,
        config.serve.crop,
    )
    probabilities = image_scores.predict(module.model, batches, len(images.labels))
    predictions = (probabilities, images.labels, images.class_names)
    scores = image_scores.score(*predictions)
    worst = image_scores.worst(probabilities, images.labels)
    pixels = [images.image(index) for index in worst]
    pictures = {
        "confusion": image_scores.draw_confusion(*predictions),
        "mistakes": image_scores.draw_mistakes(pixels, worst, *predictions),
    }
    return scores, image_scores.table(scores), pictures
