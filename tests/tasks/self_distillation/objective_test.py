"""Steps of self-distillation against numpy: loss, gradient, teacher, centre and their schedules."""

import functools
import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.tasks import self_distillation
from pipelines.tasks.self_distillation.distiller import SelfDistiller
from pipelines.tasks.self_distillation.objective import describe_collapse, teacher_temperature
from pipelines.training.trainer import Trainer
from tests.training.token_task import ONE_DEVICE, two_replicas

STEPS, RATE, BETA_1, BETA_2, EPSILON, CLIP = 5, 0.01, 0.9, 0.95, 1e-6, 0.05
RANDOM = np.random.default_rng(0)
BATCH = {
    "global_views": RANDOM.standard_normal((6, 2, 5, 5, 3)).astype("float32"),
    "local_views": RANDOM.standard_normal((6, 3, 2, 2, 3)).astype("float32"),
}
HEAD = {"output_dim": 7, "intermediate_dim": 5, "bottleneck_dim": 3, "num_layers": 2}
HEAD["activation"] = "tanh"


def make_config(**train):
    config = self_distillation.default_config()
    config.train.update(steps=STEPS, epochs=STEPS / 2, schedule="constant", learning_rate=RATE)
    config.train.update(beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON, clip_norm=CLIP)
    config.train.update(weight_decay=0.1, weight_decay_end=0.5)
    config.teacher.update(momentum=0.7, warmup_epochs=2.0, warmup_temperature=0.2, temperature=0.4)
    config.student.frozen_epochs = 0.5  # one step of two
    config.train.update(train)
    return config


def make_encoder(name):
    """Makes an encoder of images of any size that numpy computes in a line."""
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4, name="dense")]
    model = keras.Sequential(layers, name=name)
    model.build((None, None, None, 3))
    return model


def make_trainer(strategy, **train):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        teacher, student = make_encoder("teacher"), make_encoder("student")
        model = SelfDistiller(teacher, student, (5, 5, 3), HEAD)
        for variable in model.trainable_variables:  # Or biases and centre could be missing.
            seed = sum(map(ord, variable.path.split("/", 1)[-1]))
            change = np.random.default_rng(seed).normal(size=variable.shape) / 3
            variable.assign(variable + change.astype("float32"))
        names = ("loss", "metrics", "finish", "after_step")
        task = types.SimpleNamespace(**{name: getattr(self_distillation, name) for name in names})
        return Trainer(task, make_config(**train), model, strategy)


def softmax(x):
    weights = np.exp(x - np.max(x.real, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def logits_of(weights, views):
    """Computes `(B, V, K)` from weights in the order of Keras."""
    dense, dense_bias, kernel, inner, inner_bias, bottleneck, bottleneck_bias = weights
    x = views.astype("float64").mean(axis=(2, 3)) @ dense + dense_bias
    x = np.tanh(x @ inner + inner_bias)
    x = x @ bottleneck + bottleneck_bias
    x = x / np.sqrt((x * x).sum(axis=-1, keepdims=True))  # no `norm`, because x may be complex
    return x @ (kernel / np.sqrt((kernel * kernel).sum(axis=0)))


def mean_loss(weights, targets):
    """Averages over images the cross-entropies of all pairs of different views."""
    student = np.concatenate(
        [logits_of(weights, BATCH[name]) for name in ("global_views", "local_views")], axis=1
    )
    terms = [
        -(targets[:, g] * np.log(softmax(student[:, v] / 0.1))).sum(axis=-1).mean()
        for g in range(2)
        for v in range(5)
        if v != g
    ]
    return sum(terms) / len(terms)


def gradients_of(weights, targets):
    """Differentiates by a step along the imaginary axis, which loses no digits."""
    gradients = []
    for index, weight in enumerate(weights):
        gradient = np.zeros(weight.shape)
        for place in np.ndindex(weight.shape):
            moved = [w.astype(complex) for w in weights]
            moved[index][place] += 1e-30j
            gradient[place] = mean_loss(moved, targets).imag / 1e-30
        gradients.append(gradient)
    return gradients


@functools.cache
def brute_force(count):
    """Returns losses and the numbers of student, teacher and centre after `count` steps."""
    model = make_trainer(ONE_DEVICE).model
    student, teacher = (
        [v.numpy().astype("float64") for part in parts for v in part.variables]
        for parts in ((model.student, model.student_head), (model.teacher, model.teacher_head))
    )
    center, losses = np.zeros(7), []
    first, second = ([np.zeros(w.shape) for w in student] for _ in range(2))
    for step in range(count):
        cosine = (1 + math.cos(math.pi * step / STEPS)) / 2
        logits = logits_of(teacher, BATCH["global_views"])
        temperature = 0.2 + (0.4 - 0.2) * min(step / 4, 1)
        targets = softmax((logits - center) / temperature)
        losses.append(mean_loss(student, targets))
        gradients = gradients_of(student, targets)
        if step == 0:
            gradients[2] = np.zeros(gradients[2].shape)
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        assert norm > CLIP
        for i, gradient in enumerate(gradients):
            gradient = gradient * CLIP / norm
            if student[i].ndim == 2:
                student[i] *= 1 - RATE * (0.5 + (0.1 - 0.5) * cosine)
            first[i] += (gradient - first[i]) * (1 - BETA_1)
            second[i] += (gradient**2 - second[i]) * (1 - BETA_2)
            rate = RATE * math.sqrt(1 - BETA_2 ** (step + 1)) / (1 - BETA_1 ** (step + 1))
            student[i] -= rate * first[i] / (np.sqrt(second[i]) + EPSILON)
        momentum = 1 + (0.7 - 1) * cosine
        teacher = [momentum * t + (1 - momentum) * s for t, s in zip(teacher, student, strict=True)]
        center = 0.9 * center + 0.1 * logits.mean(axis=(0, 1))
    return losses, student, teacher, center


@pytest.mark.parametrize("make_strategy", [lambda: ONE_DEVICE, two_replicas])
def test_steps_on_one_and_two_replicas_are_those_of_numpy_and_resume_exactly(make_strategy):
    trainer = make_trainer(make_strategy())
    batches = iter(tf.data.Dataset.from_tensors(BATCH).repeat())
    taken = [trainer.steps(batches, tf.constant(1))]
    saved = trainer.arrays()
    taken.append(trainer.steps(batches, tf.constant(2)))
    losses, *expected, center = brute_force(3)
    assert sum(float(steps.loss) for steps in taken) / 6 == pytest.approx(sum(losses), rel=1e-5)
    model = trainer.model
    parts = (model.student, model.student_head), (model.teacher, model.teacher_head)
    for numbers, layers in zip(expected, parts, strict=True):
        variables = [v for layer in layers for v in layer.variables]
        for number, variable in zip(numbers, variables, strict=True):
            np.testing.assert_allclose(variable.numpy(), number, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.observed.center.numpy(), center, rtol=1e-4, atol=1e-6)
    assert model.observed.step.numpy() == 3
    assert not model.observed.moving_sum.numpy().any()

    after = trainer.arrays()
    trainer.restore(saved)
    trainer.steps(batches, tf.constant(2))
    for name, array in trainer.arrays().items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)


class CollapseTest:
    """What `finish` says of outputs, and how a run is told."""

    def report(self, probabilities):
        model = types.SimpleNamespace(
            observed=types.SimpleNamespace(center=0.0, step=0),
            teacher_logits=lambda views: 0.2 * np.log(probabilities)[:, None],
            student_logits=lambda views, training: np.zeros((len(probabilities), 2, 7), "float32"),
        )
        real = np.ones(len(probabilities), bool)
        batch = {"global_views": np.zeros((len(probabilities), 1)), "real": real}
        sums = self_distillation.metrics(model, batch, make_config())
        return self_distillation.finish({k: np.asarray(v) for k, v in sums.items()})

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ([[1 / 7] * 7] * 2, "all prototypes are equally likely; a lower teacher.temperature"),
            ([[1.0] + [1e-9] * 6] * 2, "one prototype takes all; a lower teacher.center_momentum"),
            ([[0.4, 0.4] + [0.04] * 5] * 2, "its outputs are the same for all images"),
            ([[0.94] + [0.01] * 6, [0.01] * 6 + [0.94]], ""),
        ],
    )
    def test_outputs_that_tell_no_images_apart_are_told_in_a_sentence(self, capsys, rows, words):
        rows = np.array(rows, "float32") / np.sum(rows, axis=1, keepdims=True)
        found = self.report(rows)
        entropies = [-(row * np.log(row)).sum() for row in [*rows, rows.mean(axis=0)]]
        assert found["entropy"] == pytest.approx(np.mean(entropies[:-1]), rel=1e-3, abs=1e-5)
        assert found["mean_entropy"] == pytest.approx(entropies[-1], rel=1e-3, abs=1e-5)
        assert found["divergence"] == pytest.approx(
            found["mean_entropy"] - found["entropy"], abs=1e-5
        )
        printed = capsys.readouterr().out
        assert (words in printed) if words else not printed
        assert printed.count("\n") == bool(words)

    def test_the_sentence_has_the_numbers(self):
        said = describe_collapse(1.0, 1.001, 0.001, largest=2.0)
        assert "entropy 1, divergence 0.001 of at most 2 nats" in said


def test_the_temperature_rises_for_its_epochs_and_then_stays():
    found = [float(teacher_temperature(step, make_config())) for step in range(6)]
    np.testing.assert_allclose(found, [0.2, 0.25, 0.3, 0.35, 0.4, 0.4], rtol=1e-6)
