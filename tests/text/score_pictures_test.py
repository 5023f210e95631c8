"""The picture of BLEU against the length of the source."""

from pipelines.text.score_pictures import draw_by_length

GROUPS = [
    {"words": [1, 5], "sentences": 23, "bleu": 41.5},
    {"words": [7, 7], "sentences": 29, "bleu": 17.25},
]


class DrawByLengthTest:
    def test_one_system_is_drawn_with_the_numbers_of_its_sentences(self):
        (axis,) = draw_by_length({"": GROUPS}).axes
        (line,) = axis.lines
        assert line.get_xydata().tolist() == [[0.0, 41.5], [1.0, 17.25]]
        assert [text.get_text() for text in axis.get_xticklabels()] == ["1 to 5\n(23)", "7\n(29)"]
        assert axis.get_legend() is None and axis.get_ylim()[1] > 41.5

    def test_several_are_told_apart_by_their_names(self):
        (axis,) = draw_by_length({"with": GROUPS, "without": GROUPS[::-1]}).axes
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["with", "without"]

    def test_labels_of_many_groups_do_not_overlap(self):
        groups = [{**GROUPS[0], "words": [5 * i + 1, 5 * i + 5]} for i in range(12)]
        figure = draw_by_length({"": [*groups, {**GROUPS[1], "words": [61, 150]}]})
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
        pairs = zip(boxes, boxes[1:], strict=False)
        assert len(boxes) == 13 and all(left.x1 < right.x0 for left, right in pairs)
