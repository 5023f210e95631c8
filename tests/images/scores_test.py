"""Tests of the scores of a classifier, against the definitions written out, and of pictures."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.images import scores
from pipelines.images.scores import draw_confusion, draw_mistakes, score, table, worst

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


class WorstTest:
    def test_the_most_certain_mistakes_come_first(self):
        assert worst(PROBABILITIES, LABELS).tolist() == [1, 2]
        assert worst(PROBABILITIES, LABELS, 1).tolist() == [1]
        assert worst(PROBABILITIES[:1], LABELS[:1]).tolist() == []


class PredictTest:
    def test_it_gives_the_softmax_of_the_model_for_as_many_images_as_there_are(self):
        images = np.random.default_rng(5).normal(size=(7, 2, 3, 1)).astype(np.float32)
        model = keras.Sequential(
            [keras.Input((2, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
        )
        padded = np.concatenate([images, np.zeros((2, 2, 3, 1), np.float32)])
        batches = tf.data.Dataset.from_tensor_slices({"images": padded}).batch(3)
        found = scores.predict(model, batches, 7)
        exponentials = np.exp(model(images).numpy())
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


class PicturesTest:
    def test_the_confusion_matrix_holds_shares_of_rows(self, tmp_path):
        names = ("$x^$", "bee", "cat")  # the first is no formula
        figure = draw_confusion(PROBABILITIES, LABELS, names)
        axis = figure.axes[0]
        expected = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]])
        np.testing.assert_allclose(axis.images[0].get_array(), expected)
        texts = {text.get_position()[::-1]: text.get_text() for text in axis.texts}
        assert texts == {(0, 0): "100", (1, 0): "33", (1, 1): "33", (1, 2): "33"}
        for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
            assert [label.get_text() for label in labels] == list(names)
        figure.savefig(tmp_path / "confusion.png")

    def test_of_many_classes_no_names_are_written(self):
        probabilities, labels = draws(53, 31)
        axis = draw_confusion(probabilities, labels, [f"class {i}" for i in range(31)]).axes[0]
        assert axis.images[0].get_array().shape == (31, 31)
        assert not axis.texts
        assert "class 0" not in [label.get_text() for label in axis.get_xticklabels()]

    def test_mistakes_stand_under_what_they_were_taken_for_and_are(self, tmp_path):
        pixels = [np.full((5, 3, 3), level, np.uint8) for level in (101, 7)]
        figure = draw_mistakes(
            pixels, worst(PROBABILITIES, LABELS), PROBABILITIES, LABELS, ("$x^$", "bee", "cat")
        )
        axes = [axis for axis in figure.axes if axis.images]
        assert [axis.get_title() for axis in axes] == ["$x^$ 70 %\nis bee", "cat 40 %\nis bee"]
        for axis, image in zip(axes, pixels, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), image)
        figure.savefig(tmp_path / "mistakes.png")

    def test_gray_levels_are_drawn_as_they_are(self):
        pixels = [np.full((5, 3, 1), 200, np.uint8)]
        figure = draw_mistakes(pixels, [1], PROBABILITIES, LABELS, NAMES)
        assert figure.axes[0].images[0].get_clim() == (0, 255)

    def test_without_mistakes_the_sheet_is_empty(self):
        figure = draw_mistakes([], [], PROBABILITIES[:1], LABELS[:1], NAMES)
        assert not any(axis.images for axis in figure.axes)
