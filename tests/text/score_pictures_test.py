"""The picture of BLEU against the length of the source."""

from pipelines.text.score_pictures import draw_by_length

GROUPS = [
    {"words": [1, 5], "sentences": 23, "bleu": 41.5},
    {"words": [7, 7], "sentences": 29, "bleu": 17.25},
]


class DrawByLengthTest:
    def test_one_system_is_drawn_with_its_sentences(self):
        (axis,) = draw_by_length({"": GROUPS}).axes
        (line,) = axis.lines
        assert line.get_xydata().tolist() == [[3.0, 41.5], [7.0, 17.25]]
        assert [text.get_text() for text in axis.get_xticklabels()] == ["1 to 5", "7"]
        assert [text.get_text() for text in axis.texts] == ["23 sentences", "29 sentences"]
        assert axis.get_legend() is None

    def test_several_are_told_apart_by_their_names(self):
        (axis,) = draw_by_length({"with": GROUPS, "without": GROUPS[::-1]}).axes
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["with", "without"]
        assert not axis.texts
