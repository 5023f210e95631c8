"""Tests of the pictures of what a classifier confuses."""

import numpy as np
import pytest

from pipelines.images.score_pictures import MOST_CLASSES, draw_confusion, draw_mistakes

COUNTS = np.array([[2, 0, 0], [1, 1, 1], [0, 0, 0]])


class ConfusionTest:
    def test_it_holds_shares_of_rows_and_numbers_of_images(self, tmp_path):
        names = ("$x^$", "bee", "cat")  # the first is no formula
        figure = draw_confusion(COUNTS, names)
        axis, scale = figure.axes
        expected = 100 * np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]])
        np.testing.assert_allclose(axis.images[0].get_array(), expected)
        texts = {text.get_position()[::-1]: text.get_text() for text in axis.texts}
        assert texts == {(0, 0): "100", (1, 0): "33", (1, 1): "33", (1, 2): "33"}
        assert [label.get_text() for label in axis.get_xticklabels()] == list(names)
        rows = [label.get_text() for label in axis.get_yticklabels()]
        assert rows == ["$x^$ (2)", "bee (3)", "cat (0)"] and "%" in scale.get_ylabel()
        figure.savefig(tmp_path / "confusion.png")

    def test_of_a_thousand_classes_those_are_named_that_are_confused_most(self):
        counts = 50 * np.eye(1000, dtype=int)
        for number in range(20):  # Each is taken for the one behind it.
            counts[37 * number, 37 * number + 1] = 20 - number
        axis = draw_confusion(counts, [f"class {i}" for i in range(1000)]).axes[0]
        shown = [label.get_text() for label in axis.get_xticklabels()]
        assert len(shown) == MOST_CLASSES and shown[-1] == "971 others"
        assert {f"class {37 * i + j}" for i in range(14) for j in (0, 1)} <= set(shown)
        rows = [label.get_text() for label in axis.get_yticklabels()]
        totals = [int(row.split("(")[1][:-1]) for row in rows]
        assert sum(totals) == counts.sum()
        assert "29 of 1000 classes" in axis.get_title()


def sides(figure):
    """Returns the smaller and the larger side of a picture in pixels."""
    return sorted(figure.get_size_inches() * figure.dpi)


class SizeTest:
    @pytest.mark.parametrize("count", [2, 30, 100])
    def test_a_matrix_has_room_for_its_words_and_is_not_too_large(self, count):
        for name in ("a", "n" * 99):
            smaller, larger = sides(draw_confusion(np.eye(count, dtype=int), [name] * count))
            assert 400 <= smaller <= larger <= 2000

    @pytest.mark.parametrize("shape", [(24, 400, 3), (400, 24, 3), (7, 7, 3)])
    @pytest.mark.parametrize("count", [1, 24])
    def test_a_sheet_follows_the_shape_of_its_images(self, shape, count):
        figure = MistakesTest().draw([np.zeros(shape, np.uint8)] * count)
        smaller, larger = sides(figure)
        assert 100 <= smaller <= larger <= 2000 and larger >= 400


class MistakesTest:
    def draw(self, pixels, name="a.png"):
        words = ["$x^$ 70 %"] * len(pixels), ["bee"] * len(pixels), [name] * len(pixels)
        return draw_mistakes(pixels, *words)

    def test_images_stand_under_their_classes_and_above_their_names(self, tmp_path):
        pixels = [np.full((5, 3, 3), level, np.uint8) for level in (101, 7)]
        name = "a folder/of a folder/DSC_00001.JPG"
        figure = self.draw(pixels, name)
        axes = [axis for axis in figure.axes if axis.images]
        for axis, image in zip(axes, pixels, strict=True):
            assert axis.get_title() == "$x^$ 70 %\nis bee"
            (text,) = (text.get_text() for text in axis.texts)
            start, end = text.split("…")
            assert name.startswith(start) and name.endswith(end) and len(text) < len(name)
            np.testing.assert_array_equal(axis.images[0].get_array(), image)
        figure.savefig(tmp_path / "mistakes.png")

    def test_gray_levels_are_drawn_as_they_are(self):
        figure = self.draw([np.full((5, 3, 1), 200, np.uint8)])
        assert figure.axes[0].images[0].get_clim() == (0, 255)

    def test_a_sheet_has_several_rows(self):
        for count in (5, 24):
            width, height = self.draw([np.zeros((5, 3, 3), np.uint8)] * count).get_size_inches()
            assert width < 2 * height and width < 13

    def test_without_mistakes_the_sheet_says_so(self):
        (axis,) = self.draw([]).axes
        assert not axis.images and axis.texts[0].get_text() == "no mistakes"
