"""Distillation: a student that learns from labels and from a teacher, a model trained before.

Letters: `B` images, `C` classes.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasformer.losses import smoothed_cross_entropy
from pipelines.data.sources import expanded


class Distiller(keras.Model):
    """Trains a student with its teacher, and answers as the student.

    It has the variables of the student alone: the teacher is neither trained nor saved with it.

    Args:
        student: built model of any family.
        teacher: `Teacher`.
        **kwargs: passed to `keras.Model`.
    """

    def __init__(self, student, teacher, **kwargs):
        super().__init__(**kwargs)
        self.student, self.teacher = student, teacher
        self.built = True

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)


class Teacher:
    """Calls a trained model with images normalised and resized as that model expects them.

    Args:
        model: built Keras model from images `(B, h, w, c)` to logits `(B, C)`.
        image_size: pair `(h, w)` of the model; `(None, None)` when it takes images of any size.
        scale, shift: numpy arrays `(c,)` that turn the student's images into the teacher's.
    """

    def __init__(self, model, image_size, scale, shift):
        self.model, self.image_size = model, image_size
        self.scale, self.shift = scale, shift

    def __call__(self, images):
        """Returns float32 logits `(B, C)` of the student's images `(B, h, w, c)`."""
        images = images * self.scale + self.shift
        if tuple(images.shape[1:3]) != self.image_size and None not in self.image_size:
            images = ops.image.resize(images, self.image_size, "bicubic", antialias=True)
        return ops.cast(self.model(images, training=False), "float32")


def load_teacher(path: str, description: dict, load_run: Callable) -> Teacher:
    """Loads a teacher.

    Args:
        path: the folder of a run of this task, or a `.keras` file of a model from images as
            the student gets them to logits.
        description: description of the student's images: `class_names`, `mean` and `deviation`.
        load_run: function from a run's folder to its model, image size and description.

    Returns:
        The `Teacher`.

    Raises:
        ValueError: when there is no such model, or it knows other classes or channels.
    """
    path = expanded(path)
    if not Path(path).exists():
        raise ValueError(
            "Expected a run's folder or a .keras file as the teacher, received "
            f"teacher.model={path}, which does not exist."
        )
    scale, shift = np.float32(1.0), np.float32(0.0)
    classes = teacher_classes = description["class_names"]
    channels = len(description["mean"])
    if Path(path).is_dir():
        model, image_size, taught = load_run(path)
        teacher_classes = taught["class_names"]
        if taught["channels"] != channels:
            raise ValueError(
                f"Expected a teacher of images with {channels} channels, received "
                f"teacher.model={path} of images with {taught['channels']}."
            )
        teacher_deviation = np.float32(taught["deviation"])
        scale = np.float32(description["deviation"]) / teacher_deviation
        shift = (np.float32(description["mean"]) - np.float32(taught["mean"])) / teacher_deviation
    else:
        model, image_size = _load_file(path)
    teacher = Teacher(model, image_size, scale, shift)
    try:
        outputs = teacher(np.zeros((1, *(size or 32 for size in image_size), channels), "float32"))
    except Exception as error:  # The model may be of any kind, and raise anything.
        raise ValueError(
            f"Expected a teacher of images with {channels} channels, received "
            f"teacher.model={path}, which does not take them."
        ) from error
    if teacher_classes != classes or outputs.shape != (1, len(classes)):
        difference = f" and the classes {', '.join(teacher_classes)}" * (teacher_classes != classes)
        raise ValueError(
            f"Expected a teacher of the classes {', '.join(classes)}, received "
            f"teacher.model={path} with outputs of shape {tuple(outputs.shape)} for an image"
            f"{difference}."
        )
    return teacher


def _load_file(path):
    """Loads a model from a `.keras` file, and the image size that it takes."""
    try:
        model = keras.saving.load_model(path, compile=False)
    except (OSError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"Cannot load teacher.model={path}: {reason}") from error
    # A model of ours may have no input_shape, as it takes images of any size.
    size = getattr(model, "image_size", None) or getattr(model, "input_shape", None)
    if isinstance(size, tuple) and len(size) == 4:
        size = size[1:3]
    return model, (size, size) if isinstance(size, int) else tuple(size or (None, None))


def distillation_loss(model: Distiller, images, cross_entropy, config):
    """Computes the loss of each image from its label and from the teacher.

    With a distillation token the class head learns from the label and the other head from the
    teacher. Without one, the class head learns from both.

    Args:
        model: `Distiller`.
        images: float tensor `(B, h, w, c)`.
        cross_entropy: function from logits `(B, C)` to losses `(B,)` of the labels.
        config: ConfigDict, the `teacher` part of a config: `kind`, `alpha`, `temperature`.

    Returns:
        float32 tensor `(B,)`.

    References:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531), the soft kind
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), section 4, the hard kind
    """
    student = model.student
    if getattr(student, "distillation", False):
        on_labels, on_teacher = student(images, training=True, return_both_heads=True)
    else:
        on_labels = on_teacher = student(images, training=True)
    taught = ops.stop_gradient(model.teacher(images))
    if config.kind == "hard":
        losses = smoothed_cross_entropy(ops.argmax(taught, axis=-1), on_teacher)
    else:
        target = ops.log_softmax(taught / config.temperature)
        predicted = ops.log_softmax(on_teacher / config.temperature)
        divergence = ops.sum(ops.exp(target) * (target - predicted), axis=-1)
        losses = divergence * config.temperature**2
    return (1.0 - config.alpha) * cross_entropy(on_labels) + config.alpha * losses
