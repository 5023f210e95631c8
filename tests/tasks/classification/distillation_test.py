"""Distillation: losses against formulas, who learns, which teachers are taken."""

import keras
import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import VisionTransformer
from pipelines.tasks.classification.distillation import (
    Distiller,
    Teacher,
    distillation_loss,
    load_teacher,
)

RANDOM = np.random.default_rng(0)
NAMES = ["ant", "bee", "cat", "dog", "eel"]
COMMON = {"class_names": NAMES, "channels": 3}
DESCRIBED = COMMON | {"mean": [101.0, 103.0, 107.0], "deviation": [53.0, 59.0, 61.0]}
OWN = COMMON | {"mean": [127.0, 131.0, 137.0], "deviation": [67.0, 71.0, 73.0]}
PIXELS = RANDOM.integers(0, 256, (3, 8, 8, 3)).astype(np.float32)
LABELS = np.array([0, 3, 4], np.int32)


def normalised(pixels, described):
    return (pixels - np.float32(described["mean"])) / np.float32(described["deviation"])


IMAGES = normalised(PIXELS, DESCRIBED)


def make_student(num_classes=5, **options):
    model = VisionTransformer.from_variant(
        "ViT-Lite-6/4",
        8,
        num_classes,
        patch_size=2,
        num_layers=1,
        hidden_dim=12,
        num_heads=3,
        intermediate_dim=13,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        **options,
    )
    model.build((None, 8, 8, 3))
    for variable in model.variables:  # Heads start at zero, where no gradient passes.
        variable.assign(RANDOM.normal(size=variable.shape) / 2)
    return model


def make_network(image_size=(8, 8), num_classes=5, channels=3):
    return keras.Sequential(
        [
            keras.Input((*image_size, channels)),
            keras.layers.Conv2D(7, 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(num_classes),
        ]
    )


def make_distiller(**options):
    teacher = Teacher(make_network(), (8, 8), np.float32(1.0), np.float32(0.0))
    return Distiller(make_student(**options), teacher)


def no_run(path):
    raise AssertionError(f"{path} is no folder")


def cross_entropy(logits):
    return smoothed_cross_entropy(LABELS, logits, 0.0)


def settings(kind="hard", alpha=0.3, temperature=3.0):
    return ml_collections.ConfigDict({"kind": kind, "alpha": alpha, "temperature": temperature})


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


class LossTest:
    @pytest.mark.parametrize("distillation", [False, True])
    @pytest.mark.parametrize("kind", ["hard", "soft"])
    def test_it_is_what_the_papers_write(self, kind, distillation):
        model = make_distiller(distillation=distillation)
        found = distillation_loss(model, IMAGES, cross_entropy, settings(kind))
        taught = model.teacher.model(IMAGES, training=False).numpy()
        if distillation:
            own, other = (x.numpy() for x in model.student(IMAGES, return_both_heads=True))
        else:
            own = other = model.student(IMAGES).numpy()
        rows = np.arange(3)
        on_labels = -log_softmax(own)[rows, LABELS]
        if kind == "hard":
            on_teacher = -log_softmax(other)[rows, taught.argmax(axis=-1)]
        else:
            wanted, given = log_softmax(taught / 3.0), log_softmax(other / 3.0)
            on_teacher = 9.0 * (np.exp(wanted) * (wanted - given)).sum(axis=-1)
        np.testing.assert_allclose(found, 0.7 * on_labels + 0.3 * on_teacher, rtol=1e-4)

    def test_alpha_at_its_ends_leaves_one_part_out(self):
        model = make_distiller()
        found = distillation_loss(model, IMAGES, cross_entropy, settings(alpha=0.0))
        np.testing.assert_allclose(found, cross_entropy(model.student(IMAGES)), rtol=1e-5)
        student = model.student
        copy = Distiller(student, Teacher(student, (8, 8), np.float32(1.0), np.float32(0.0)))
        found = distillation_loss(copy, IMAGES, cross_entropy, settings("soft", alpha=1.0))
        np.testing.assert_allclose(found, 0.0, atol=1e-5)

    @pytest.mark.parametrize("kind", ["hard", "soft"])
    def test_the_gradient_reaches_the_student_alone(self, kind):
        model = make_distiller(distillation=True)
        teacher = model.teacher.model.variables
        before = [variable.numpy() for variable in teacher]
        with tf.GradientTape() as tape:
            tape.watch([variable.value for variable in teacher])
            loss = distillation_loss(model, IMAGES, cross_entropy, settings(kind))
        ours, theirs = tape.gradient(
            loss, ([v.value for v in model.variables], [v.value for v in teacher])
        )
        for variable, gradient in zip(model.student.variables, ours, strict=True):
            assert np.abs(gradient).max() > 0, variable.path
        assert theirs == [None] * len(teacher)
        for variable, value in zip(teacher, before, strict=True):
            np.testing.assert_array_equal(variable, value)


class DistillerTest:
    def test_it_answers_as_the_student(self):
        model = make_distiller(distillation=True)
        np.testing.assert_array_equal(model(IMAGES), model.student(IMAGES))

    def test_its_variables_are_those_of_the_student(self):
        model = make_distiller()
        for name in ("variables", "trainable_variables"):
            ours, theirs = getattr(model, name), getattr(model.student, name)
            assert [id(variable) for variable in ours] == [id(variable) for variable in theirs]


class TeacherTest:
    def test_one_of_other_normalisation_sees_the_same_pixels(self, tmp_path):
        network = make_network()
        teacher = load_teacher(str(tmp_path), DESCRIBED, lambda path: (network, (8, 8), OWN))
        expected = network(normalised(PIXELS, OWN), training=False)
        np.testing.assert_allclose(teacher(IMAGES), expected, rtol=1e-4, atol=1e-5)

    def test_one_of_another_size_sees_the_images_resized(self, tmp_path):
        network = make_network((5, 7))
        teacher = load_teacher(str(tmp_path), DESCRIBED, lambda path: (network, (5, 7), OWN))
        resized = tf.image.resize(normalised(PIXELS, OWN), (5, 7), "bicubic", antialias=True)
        expected = network(resized, training=False)
        np.testing.assert_allclose(teacher(IMAGES), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("make", [make_student, make_network])
    def test_a_keras_file_gets_the_images_of_the_student(self, tmp_path, make):
        model, path = make(), str(tmp_path / "teacher.keras")
        model.save(path)
        teacher = load_teacher(path, DESCRIBED, no_run)
        assert teacher.image_size == (8, 8)
        expected = model(IMAGES, training=False)
        np.testing.assert_allclose(teacher(IMAGES), expected, rtol=1e-4, atol=1e-5)

    def test_a_keras_file_for_images_of_any_size_gets_them_as_they_are(self, tmp_path):
        model, path = make_network((None, None)), str(tmp_path / "teacher.keras")
        model.save(path)
        found = load_teacher(path, DESCRIBED, no_run)(IMAGES)
        np.testing.assert_allclose(found, model(IMAGES, training=False), rtol=1e-4, atol=1e-5)

    def test_other_classes_are_one_sentence(self, tmp_path):
        path = str(tmp_path / "teacher.keras")
        make_network(num_classes=7).save(path)
        with pytest.raises(ValueError, match=r"classes ant, .* shape \(1, 7\) for an image\.$"):
            load_teacher(path, DESCRIBED, no_run)
        own = {**OWN, "class_names": NAMES[::-1]}
        with pytest.raises(ValueError, match="classes ant, bee, .* the classes eel, dog, cat"):
            load_teacher(str(tmp_path), DESCRIBED, lambda path: (make_network(), (8, 8), own))

    def test_a_teacher_of_images_with_other_channels_is_one_sentence(self, tmp_path):
        own = {**OWN, "channels": 1}
        with pytest.raises(ValueError, match="images with 3 channels, .* of images with 1"):
            load_teacher(str(tmp_path), DESCRIBED, lambda path: (make_network(), (8, 8), own))

    def test_a_path_where_nothing_is_is_one_sentence(self, monkeypatch, tmp_path):
        monkeypatch.setenv("RUNS", str(tmp_path))
        with pytest.raises(ValueError, match=rf"teacher.model={tmp_path}/no, which does not exist"):
            load_teacher("$RUNS/no", DESCRIBED, no_run)

    def test_a_file_that_is_no_model_is_one_sentence(self, tmp_path):
        path = tmp_path / "teacher.keras"
        path.write_bytes(b"no model")
        with pytest.raises(ValueError, match="Cannot load teacher.model=") as caught:
            load_teacher(str(path), DESCRIBED, no_run)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", ["gray", "words"])
    def test_a_model_that_does_not_take_the_images_is_one_sentence(self, tmp_path, kind):
        path = str(tmp_path / "teacher.keras")
        if kind == "gray":
            make_network(channels=1).save(path)
        else:
            inputs = keras.Input((None,), dtype="int32")
            keras.Model(inputs, keras.layers.Embedding(7, 5)(inputs)).save(path)
        with pytest.raises(ValueError, match="with 3 channels.* does not take them") as caught:
            load_teacher(path, DESCRIBED, no_run)
        assert "\n" not in str(caught.value)
