"""The model of a classification run, its loss and its metrics."""

from collections.abc import Mapping
from typing import Any

import keras
import ml_collections
from keras import ops

from kerasformer.losses import smoothed_cross_entropy
from pipelines.data.sources import expanded
from pipelines.images import pretrained
from pipelines.images.description import read_description
from pipelines.images.fine_tuning import copy_weights
from pipelines.images.models import MODELS, image_size, make
from pipelines.runs.config import complete, read_config
from pipelines.runs.weights import load_model
from pipelines.tasks.classification.config import default_config
from pipelines.tasks.classification.distillation import Distiller, distillation_loss, load_teacher


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the model with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    description = read_description(workdir)
    model = make(config, len(description["class_names"]))
    model.build((None, *image_size(config), description["channels"]))
    return model


def begin(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str, is_new: bool
) -> keras.Model:
    """Prepares a model for training: weights of another run, frozen layers, a teacher."""
    description = read_description(workdir)
    if config.start.workdir and is_new:
        MODELS.check_start(config, read_config(expanded(config.start.workdir)))
        first, _, first_description = _load_run(expanded(config.start.workdir))
        same_classes = first_description["class_names"] == description["class_names"]
        copy_weights(first, model, with_heads=same_classes)
    if config.start.weights and is_new:
        pretrained.begin(model, config.start.weights, description["class_names"])
    if config.model.get("weights") and is_new:
        model.load_published(config.model.weights)
    if config.start.freeze:
        for layer in model.layers:
            layer.trainable = "head" in layer.name
    if not config.teacher.model:
        return model
    teacher = load_teacher(config.teacher.model, description, _load_run)
    return Distiller(model, teacher, name="distiller")


def _load_run(workdir):
    """Loads a run of images: its model, image size and description.

    Of a run of another task it is the encoder that `config.model` describes, without a head: tasks
    that learn without labels keep its variables before all others of their models.
    """
    description, config = read_description(workdir), read_config(workdir)
    is_own = config.task == default_config().task
    if is_own:
        complete(config, default_config())
    build_it = build if is_own else _build_encoder
    model = load_model(build_it, config, workdir, config.weights)
    return model, image_size(config), description


def _build_encoder(config, workdir):
    model = make(config)
    model.build((None, *image_size(config), read_description(workdir)["channels"]))
    return model


def loss(model: keras.Model, batch: dict, config: ml_collections.ConfigDict):
    """Computes the smoothed cross-entropy of a training batch, mixed as its labels are.

    Where an image may have several labels, it is the sum of that of each class by itself.

    Returns:
        Tuple of its sum over the images and their number, float32 scalars.
    """
    share = batch["share"]
    rest = batch.get("other_share", 1.0 - share)
    smoothing = config.train.label_smoothing

    def cross_entropy(logits):
        if config.data.labels == "multi":
            parts = (share, batch["labels"]), (rest, batch["other_labels"])
            mixed = sum(part[:, None] * ops.cast(labels, "float32") for part, labels in parts)
            return binary_cross_entropy(smoothed(mixed, smoothing), logits)
        first, second = (
            smoothed_cross_entropy(batch[key], logits, smoothing)
            for key in ("labels", "other_labels")
        )
        return share * first + rest * second

    if isinstance(model, Distiller):
        losses = distillation_loss(model, batch["images"], cross_entropy, config.teacher)
    else:
        losses = cross_entropy(model(batch["images"], training=True))
    return ops.sum(losses), ops.cast(ops.shape(share)[0], "float32")


def metrics(model: keras.Model, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes what a validation reports, as (sum, count) over the real images of a batch.

    Returns:
        Dict with `loss` (nats an image, not smoothed), `top1` and `top5` (whether its class, or one
        of its classes, is the most probable or among the five most probable; images without any
        class do not count) and, where labels are smoothed, `smoothed_loss`, which is comparable
        with the training's.
    """
    if config.data.labels == "multi":
        return _metrics_of_several(model, batch, config.train.label_smoothing)
    labels = batch["labels"]
    real = ops.cast(labels >= 0, "float32")
    labels = ops.maximum(labels, 0)
    logits = model(batch["images"], training=False)
    values = {
        "loss": smoothed_cross_entropy(labels, logits),
        "top1": ops.cast(ops.argmax(logits, axis=-1) == labels, "float32"),
        "top5": ops.cast(ops.in_top_k(labels, logits, min(5, logits.shape[-1])), "float32"),
    }
    if config.train.label_smoothing:
        values["smoothed_loss"] = smoothed_cross_entropy(
            labels, logits, config.train.label_smoothing
        )
    return {name: (ops.sum(value * real), ops.sum(real)) for name, value in values.items()}


def _metrics_of_several(model, batch, smoothing):
    labels, real = (ops.cast(batch[key], "float32") for key in ("labels", "real"))
    labelled = real * ops.max(labels, axis=-1)
    logits = model(batch["images"], training=False)
    values = {"loss": binary_cross_entropy(labels, logits)}
    for count in (1, 5):
        _, best = ops.top_k(logits, min(count, logits.shape[-1]))
        values[f"top{count}"] = ops.max(ops.take_along_axis(labels, best, axis=-1), axis=-1)
    if smoothing:
        values["smoothed_loss"] = binary_cross_entropy(smoothed(labels, smoothing), logits)
    return {
        name: (ops.sum(value * counted), ops.sum(counted))
        for name, value in values.items()
        for counted in [labelled if name.startswith("top") else real]
    }


def finish(sums: Mapping[str, Any]) -> dict[str, float]:
    """Divides pairs `(sum, count)`; what no image counts for is 0."""
    return {name: float(total) / max(float(count), 1.0) for name, (total, count) in sums.items()}


def smoothed(labels, smoothing):
    """Moves labels from 0 and 1 towards a half."""
    return labels * (1 - smoothing) + smoothing / 2


def binary_cross_entropy(labels, logits):
    """Sums the cross-entropy of each class by itself.

    Args:
        labels: float tensor `(B, C)`, from 0 to 1.
        logits: tensor `(B, C)`.

    Returns:
        float32 tensor `(B,)`.
    """
    logits = ops.cast(logits, "float32")
    return ops.sum(ops.softplus(logits) - labels * logits, axis=-1)
