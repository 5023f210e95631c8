"""The student and the teacher of a run of self-distillation, their loss, and signs of collapse."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from keras import ops

from kerasformer.losses import self_distillation_loss
from kerasformer.schedules import half_cosine
from pipelines.images.description import read_description
from pipelines.images.models import image_size, make
from pipelines.tasks.self_distillation.distiller import SelfDistiller

TRIVIAL = 0.01  # part of the largest entropy that counts as nothing


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the encoder without a head, with fresh weights: what is evaluated and exported.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    model = make(config)
    model.build((None, *image_size(config), read_description(workdir)["channels"]))
    return model


def begin(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str, is_new: bool
) -> SelfDistiller:
    """Makes the model the teacher of a student that begins as its copy.

    Raises:
        ValueError: when the model cannot take the local views.
    """
    student, channels = build(config, workdir), read_description(workdir)["channels"]
    if config.views.local_count:
        side = config.views.local_size
        try:
            student(np.zeros((1, side, side, channels), "float32"))
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise ValueError(
                "Expected a views.local_size that the model can take, such as the size of its own "
                f"images, or views.local_count=0, received views.local_size={side} with "
                f"model.variant={config.model.variant!r} and model.image_size="
                f"{config.model.image_size}."
            ) from error
    head, image_shape = config.head.to_dict(), (*image_size(config), channels)
    return SelfDistiller(model, student, image_shape, head, name="self_distiller")


def teacher_temperature(step, config: ml_collections.ConfigDict):
    """Returns the temperature of the teacher's outputs at a step, which rises in its warm-up."""
    teacher, train = config.teacher, config.train
    warm_up = max(teacher.warmup_epochs * train.steps / train.epochs, 1e-6)
    progress = ops.minimum(ops.cast(step, "float32") / warm_up, 1.0)
    rise = teacher.temperature - teacher.warmup_temperature
    return teacher.warmup_temperature + rise * progress


def loss(model: SelfDistiller, batch: dict, config: ml_collections.ConfigDict):
    """Computes the cross-entropy between teacher and student on different views of each image.

    Returns:
        Tuple of its sum over the images, each the mean of its pairs of views, and their number,
        float32 scalars.
    """
    step, train = model.observed.step, config.train
    frozen_steps = config.student.frozen_epochs * train.steps / train.epochs
    is_frozen = ops.cast(step, "float32") < frozen_steps
    targets = model.teacher_logits(batch["global_views"])
    losses = _losses(model, batch, config, targets, training=True, freeze_prototypes=is_frozen)
    model.observed.add(targets)
    return ops.sum(losses), ops.cast(ops.shape(losses)[0], "float32")


def _losses(model, batch, config, targets, **options):
    views = [batch[key] for key in ("global_views", "local_views") if key in batch]
    temperature = teacher_temperature(model.observed.step, config)
    logits = model.student_logits(views, **options)
    temperatures = config.student.temperature, temperature
    return self_distillation_loss(logits, targets, model.observed.center, *temperatures)


def metrics(model: SelfDistiller, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes the loss and what tells of a collapse, over the real images of a batch.

    Returns:
        Dict of pairs (sum, count) with `loss` and `entropy`, that of the teacher's outputs, in
        nats, and `probabilities` `(K,)`, the sum of its outputs.
    """
    real = ops.cast(batch["real"], "float32")
    targets = model.teacher_logits(batch["global_views"])
    losses = _losses(model, batch, config, targets, training=False)
    temperature = teacher_temperature(model.observed.step, config)
    logs = ops.log_softmax((targets - model.observed.center) / temperature)
    probabilities, count = ops.exp(logs), ops.sum(real)
    entropies = ops.mean(-ops.sum(probabilities * logs, axis=-1), axis=1)
    return {
        "loss": (ops.sum(losses * real), count),
        "entropy": (ops.sum(entropies * real), count),
        "probabilities": ops.sum(ops.mean(probabilities, axis=1) * real[:, None], axis=0),
    }


def finish(sums: Mapping[str, Any]) -> dict[str, float]:
    """Computes the entropies of the teacher's outputs, and prints a sentence if it has collapsed.

    Returns:
        Dict of `loss`; `entropy`, the mean of the entropies of the outputs; `mean_entropy`, the
        entropy of their mean; and `divergence`, by how much the second is the larger: the mean
        divergence of the outputs from their mean, 0 if all images have the same output.
    """
    (loss_sum, count), (entropy_sum, _) = sums["loss"], sums["entropy"]
    shares = np.asarray(sums["probabilities"]) / count
    entropy = float(entropy_sum / count)
    of_mean = float(-np.sum(shares * np.log(np.maximum(shares, 1e-30))))
    report = {"entropy": entropy, "mean_entropy": of_mean, "divergence": of_mean - entropy}
    if sentence := describe_collapse(**report, largest=math.log(len(shares))):
        print(sentence, flush=True)
    return {"loss": float(loss_sum / count), **report}


def describe_collapse(
    entropy: float, mean_entropy: float, divergence: float, largest: float
) -> str:
    """Describes how the teacher's outputs have collapsed, or nothing.

    Args:
        entropy, mean_entropy, divergence: float, as `finish` returns them.
        largest: float. The entropy of equal outputs.

    Example:

    >>> describe_collapse(2.0, 3.0, 1.0, largest=4.0)
    ''
    """
    if divergence > TRIVIAL * largest:
        return ""
    values = f"entropy {entropy:.3g}, divergence {divergence:.2g} of at most {largest:.3g} nats"
    if entropy > (1 - TRIVIAL) * largest:
        how = "all prototypes are equally likely; a lower teacher.temperature sharpens them"
    elif mean_entropy < TRIVIAL * largest:
        how = "one prototype takes all; a lower teacher.center_momentum moves the centre faster"
    else:
        how = "its outputs are the same for all images; a lower train.learning_rate may help"
    return f"Collapse: the teacher does not tell images apart ({values}): {how}."


def after_step(model: SelfDistiller, config: ml_collections.ConfigDict) -> None:
    """Lets the teacher follow the student, and the centre the teacher's logits."""
    teacher = config.teacher
    model.follow(half_cosine(model.observed.step, teacher.momentum, 1.0, config.train.steps))
    model.observed.finish_step(teacher.center_momentum)
