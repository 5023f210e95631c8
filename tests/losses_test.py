"""The losses against their definitions, and handwritten gradients against automatic ones."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.losses import self_distillation_loss, smoothed_cross_entropy
from tests.backend import gradients, needs_tensorflow, tf

BATCH, LENGTH, VOCABULARY = 2, 5, 11


def example(scale=3.0):
    random = np.random.default_rng(0)
    labels = random.integers(0, VOCABULARY, (BATCH, LENGTH))
    logits = scale * random.standard_normal((BATCH, LENGTH, VOCABULARY))
    return labels, logits.astype("float32"), random.random((BATCH, LENGTH)).astype("float32")


def value_and_gradient(loss, logits, weights):
    """Computes the losses of a variable, and the gradient of their weighted sum."""
    (gradient,) = gradients(lambda: ops.sum(ops.multiply(loss(logits.value), weights)), [logits])
    return loss(logits.value), gradient


def naive(labels, logits, label_smoothing):
    """The definition, with all its large arrays."""
    targets = ops.one_hot(labels, VOCABULARY)
    targets = (1 - label_smoothing) * targets + label_smoothing / VOCABULARY
    return -ops.sum(targets * ops.log_softmax(ops.cast(logits, "float32")), axis=-1)


def arrays_kept_for_backward(loss):
    """Counts the arrays of the logits' size that are made before the gradient and used by it."""
    kept = set()

    def is_large(x):
        return x.shape.num_elements() == BATCH * LENGTH * VOCABULARY

    @tf.function(autograph=False)
    def gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.reduce_sum(loss(labels, logits, 0.1))
        before = logits.graph.get_operations()
        gradient = tape.gradient(total, logits)
        for operation in logits.graph.get_operations()[len(before) :]:
            kept.update(x.ref() for x in operation.inputs if x.op in before and is_large(x))
        return gradient

    labels, logits, _ = example()
    gradient(tf.cast(labels, "int32"), tf.constant(logits))
    return len(kept)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.7])
class OracleTest:
    def test_it_equals_the_loss_of_keras_on_one_hot_labels(self, label_smoothing):
        labels, logits, _ = example()
        oracle = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing, reduction="none"
        )
        np.testing.assert_allclose(
            smoothed_cross_entropy(labels, logits, label_smoothing),
            oracle(ops.one_hot(labels, VOCABULARY), logits),
            rtol=1e-5,
        )

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_value_and_gradient_equal_those_of_the_definition(self, label_smoothing, dtype):
        labels, logits, weights = example()
        logits = keras.Variable(logits, dtype=dtype)
        losses, gradient = value_and_gradient(
            lambda x: smoothed_cross_entropy(labels, x, label_smoothing), logits, weights
        )
        expected, expected_gradient = value_and_gradient(
            lambda x: naive(labels, x, label_smoothing), logits, weights
        )
        assert keras.backend.standardize_dtype(losses.dtype) == "float32"
        assert keras.backend.standardize_dtype(gradient.dtype) == dtype
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        np.testing.assert_allclose(
            ops.cast(gradient, "float32"),
            ops.cast(expected_gradient, "float32"),
            atol=1e-6 if dtype == "float32" else 1e-2,
        )

    def test_extreme_logits_give_finite_numbers(self, label_smoothing):
        labels, logits, weights = example(scale=1e30)
        losses, gradient = value_and_gradient(
            lambda x: smoothed_cross_entropy(labels, x, label_smoothing),
            keras.Variable(logits),
            weights,
        )
        assert np.isfinite(losses).all()
        assert np.isfinite(gradient).all()
        # Each row of the gradient sums to zero, because probabilities and targets sum to one.
        np.testing.assert_allclose(ops.sum(gradient, axis=-1), 0, atol=1e-5)

    @needs_tensorflow
    def test_it_is_the_same_compiled(self, label_smoothing):
        labels, logits, weights = example()
        logits = keras.Variable(logits)

        def run():
            return value_and_gradient(
                lambda x: smoothed_cross_entropy(labels, x, label_smoothing), logits, weights
            )

        for eager, compiled in zip(run(), tf.function(run, jit_compile=True)(), strict=True):
            np.testing.assert_allclose(eager, compiled, rtol=1e-5, atol=1e-6)


class PropertyTest:
    def test_the_best_logits_reach_the_entropy_of_the_targets(self):
        targets = np.full(VOCABULARY, 0.1 / VOCABULARY)
        targets[3] += 0.9
        loss = smoothed_cross_entropy([3], np.log(targets)[np.newaxis], 0.1)
        assert float(loss[0]) == pytest.approx(-np.sum(targets * np.log(targets)), rel=1e-5)

    def test_labels_of_any_shape_keep_it(self):
        labels, logits, _ = example()
        losses = smoothed_cross_entropy(labels, logits, 0.1)
        assert losses.shape == (BATCH, LENGTH)
        np.testing.assert_array_equal(smoothed_cross_entropy(labels[0], logits[0], 0.1), losses[0])
        assert smoothed_cross_entropy(labels[0, 0], logits[0, 0], 0.1).shape == ()

    @needs_tensorflow
    def test_the_backward_pass_needs_no_large_array_but_the_logits(self):
        assert arrays_kept_for_backward(naive) > 1
        assert arrays_kept_for_backward(smoothed_cross_entropy) == 1

    @needs_tensorflow
    def test_batch_and_length_may_be_known_only_when_a_graph_runs(self):
        labels, logits, _ = example()
        signature = [tf.TensorSpec([None, None], "int32"), tf.TensorSpec([None, None, VOCABULARY])]
        loss = tf.function(lambda y, z: smoothed_cross_entropy(y, z, 0.1), signature)
        np.testing.assert_allclose(
            loss(tf.cast(labels, "int32"), logits), naive(labels, logits, 0.1), rtol=1e-5
        )

    @pytest.mark.parametrize("label_smoothing", [-0.1, 1.0])
    def test_an_impossible_smoothing_is_refused(self, label_smoothing):
        message = f"Expected 0 <= label_smoothing < 1, received label_smoothing={label_smoothing}."
        with pytest.raises(ValueError, match=message):
            smoothed_cross_entropy([1], np.zeros((1, 2), "float32"), label_smoothing)


class SelfDistillationTest:
    def example(self):
        random = np.random.default_rng(0)
        student, teacher = (random.standard_normal((3, views, 7)) for views in (5, 2))
        return student.astype("float32"), teacher.astype("float32"), random.standard_normal(7)

    def brute_force(self, student, teacher, center):
        def softmax(x):
            weights = [np.exp(float(value)) for value in x]
            return np.array(weights) / sum(weights)

        losses = []
        for own, taught in zip(student, teacher, strict=True):
            terms = [
                -np.sum(softmax((taught[g] - center) / 0.3) * np.log(softmax(own[v] / 0.7)))
                for g in range(len(taught))
                for v in range(len(own))
                if g != v
            ]
            losses.append(np.mean(terms))
        return np.array(losses)

    def test_it_is_the_mean_over_pairs_of_different_views(self):
        student, teacher, center = self.example()
        losses = self_distillation_loss(student, teacher, center, 0.7, 0.3)
        np.testing.assert_allclose(losses, self.brute_force(student, teacher, center), rtol=1e-5)

    def test_the_gradient_is_that_of_small_changes_and_none_reaches_the_teacher(self):
        student, teacher, center = self.example()
        variables = [keras.Variable(x) for x in (student, teacher)]
        found = gradients(
            lambda: ops.sum(
                self_distillation_loss(*(v.value for v in variables), center, 0.7, 0.3)
            ),
            variables,
        )
        assert found[1] is None or not np.any(ops.convert_to_numpy(found[1]))
        expected = np.zeros_like(student, dtype=float)
        for place in np.ndindex(student.shape):
            change = np.zeros_like(student, dtype=float)
            change[place] = 1e-5
            ends = [
                self.brute_force(student + sign * change, teacher, center).sum() for sign in (1, -1)
            ]
            expected[place] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(ops.convert_to_numpy(found[0]), expected, atol=1e-5)

    @pytest.mark.parametrize(("views", "taught"), [(1, 1), (2, 3)])
    def test_without_two_views_there_is_nothing_to_compare(self, views, taught):
        with pytest.raises(ValueError, match="two views or more.*student_logits.shape"):
            self_distillation_loss(np.zeros((2, views, 3)), np.zeros((2, taught, 3)), np.zeros(3))
