"""Tests of the scores of a classifier, against the definitions written out, and of pictures."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from pipelines.images import scores
from pipelines.images.scores import (
    confusion,
    pairs_table,
    score,
    score_several,
    table,
    worst,
)

NAMES = ("ant", "bee", "cat")
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.7, 0.1, 0.2], [0.25, 0.35, 0.4], [0.0, 1.0, 0.0], [0.6, 0.4, 0.0]],
    np.float32,
)
LABELS = np.array([0, 1, 1, 1, 0])  # right, wrong, wrong, right, right; no cat


def draws(count, classes):
    random = np.random.default_rng(3)
    logits = random.normal(size=(count, classes)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), random.integers(0, classes, count)


class ScoreTest:
    def test_a_small_case_has_the_numbers_worked_out_by_hand(self):
        found = score(PROBABILITIES, LABELS, NAMES)
        assert found["top1"] == pytest.approx(3 / 5)
        assert found["top5"] == 1.0
        # One bin has 0.7 twice, one right; alone in theirs are 0.4, 1.0 and 0.6.
        error = (2 * abs(0.5 - 0.7) + abs(0 - 0.4) + abs(1 - 1.0) + abs(1 - 0.6)) / 5
        assert found["expected_calibration_error"] == pytest.approx(error, rel=1e-5)
        nll = -(np.log(0.7) + np.log(0.1) + np.log(0.35) + np.log(1.0) + np.log(0.6)) / 5
        assert found["nll"] == pytest.approx(nll, rel=1e-5)
        assert found["images"] == 5
        assert found["balanced_accuracy"] == pytest.approx(2 / 3)
        assert found["macro_f1"] == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)
        assert found["per_class"] == {"ant": 1.0, "bee": pytest.approx(1 / 3), "cat": None}

    def test_many_images_have_the_scores_of_the_definitions(self):
        probabilities, labels = draws(211, 11)
        found = score(probabilities, labels, [str(i) for i in range(11)])
        order = np.argsort(-probabilities, axis=1)
        is_right = order[:, 0] == labels
        assert found["top1"] == pytest.approx(is_right.mean())
        top5 = np.mean([label in row[:5] for label, row in zip(labels, order, strict=True)])
        assert found["top5"] == pytest.approx(top5)
        confidence, error = probabilities.max(axis=1), 0.0
        for number in range(15):
            inside = (confidence >= number / 15) & (confidence < (number + 1) / 15)
            if inside.any():
                error += inside.mean() * abs(is_right[inside].mean() - confidence[inside].mean())
        assert found["expected_calibration_error"] == pytest.approx(error, rel=1e-5)
        best = order[:, 0]
        expected = metrics.balanced_accuracy_score(labels, best)
        assert found["balanced_accuracy"] == pytest.approx(expected)
        assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, best, average="macro"))
        for number in range(11):
            expected = is_right[labels == number].mean()
            assert found["per_class"][str(number)] == pytest.approx(expected)

    def test_a_label_that_was_ruled_out_costs_much_but_not_infinitely_much(self):
        found = score(np.array([[0.0, 1.0]]), np.array([0]), ("ant", "bee"))
        assert 50 < found["nll"] < 100
        json.dumps(found, allow_nan=False)

    @pytest.mark.parametrize("count", [0, 4])
    def test_no_labels_or_too_few_are_one_sentence(self, count):
        with pytest.raises(ValueError, match=f"at least one, received 5 and {count}"):
            score(PROBABILITIES, LABELS[:count], NAMES)

    def test_the_table_begins_with_the_worst_class(self):
        rows = table(score(PROBABILITIES, LABELS, NAMES)).splitlines()[2:]
        assert rows == ["| bee | 33.33 |", "| ant | 100.00 |"]

    def test_the_pairs_that_are_confused_most_come_first(self):
        counts = confusion(PROBABILITIES, LABELS)
        assert counts.tolist() == [[2, 0, 0], [1, 1, 1], [0, 0, 0]]
        assert pairs_table(
            counts * [[1], [1], [1]] + np.eye(3, k=1, dtype=int), NAMES
        ).splitlines()[2:] == [
            "| bee | cat | 2 | 50.0 |",
            "| ant | bee | 1 | 33.3 |",
            "| bee | ant | 1 | 25.0 |",
        ]

    def test_without_mistakes_there_is_no_table_of_pairs(self):
        assert pairs_table(np.diag([3, 0, 5]), NAMES) == ""


class ScoreSeveralTest:
    def test_precisions_are_those_of_scikit_learn(self):
        random = np.random.default_rng(5)
        probabilities = random.random((97, 5)).round(1)  # Many are equal.
        labels = (random.random((97, 5)) < 0.3).astype(np.uint8)
        labels[:, 4] = 0  # A class that no image has.
        found = score_several(probabilities, labels, "abcde")
        for number, name in enumerate("abcd"):
            expected = metrics.average_precision_score(labels[:, number], probabilities[:, number])
            assert found["per_class"][name] == pytest.approx(expected)
        expected = metrics.average_precision_score(labels[:, :4], probabilities[:, :4])
        assert found["mean_average_precision"] == pytest.approx(expected)
        expected = metrics.f1_score(labels, probabilities >= 0.5, average="macro", zero_division=0)
        assert found["macro_f1"] == pytest.approx(expected)
        assert found["per_class"]["e"] is None
        json.dumps(found, allow_nan=False)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, 0]
        rows = [(of, best) for of, best in zip(labels, order, strict=True) if of.any()]
        assert len(rows) < 97 and found["top1"] == np.mean([of[best] for of, best in rows])
        assert score_several(probabilities, labels * 0, "abcde")["top1"] is None
        mistakes = worst(probabilities, labels, 97)
        assert len(mistakes) == sum(1 - of[best] for of, best in rows)
        assert not labels[mistakes, probabilities[mistakes].argmax(axis=1)].any()
        with pytest.raises(ValueError, match="as many probabilities as labels"):
            score_several(probabilities, labels[:5], "abcde")


class WorstTest:
    def test_the_most_certain_mistakes_come_first(self):
        assert worst(PROBABILITIES, LABELS).tolist() == [1, 2]
        assert worst(PROBABILITIES, LABELS, 1).tolist() == [1]
        assert worst(PROBABILITIES[:1], LABELS[:1]).tolist() == []


class PredictTest:
    def test_it_gives_the_probabilities_of_as_many_images_as_there_are(self):
        images = np.random.default_rng(5).normal(size=(7, 2, 3, 1)).astype(np.float32)
        model = keras.Sequential(
            [keras.Input((2, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
        )
        padded = np.concatenate([images, np.zeros((2, 2, 3, 1), np.float32)])
        batches = tf.data.Dataset.from_tensor_slices({"images": padded}).batch(3)
        found = scores.predict(lambda x: tf.nn.softmax(model(x)), batches, 7)
        exponentials = np.exp(model(images).numpy())
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
