"""Tests of what a model trains on: cleaning, proportions of corpora, held-out sets and leaks."""

import pytest

from pipelines.text.cleaning import clean


class CleanTest:
    def test_each_pair_is_counted_once_by_its_first_reason(self):
        good = [("ein Hund", "a dog"), ("ein Hund", "a hound"), ("zwei Hunde", "a dog")]
        empty = [("", "a"), (" \u3000\t", "a"), ("a", "\n"), ("", "")]
        too_long = [("a " * 13, "b " * 12), ("a", "b " * 10007)]
        ratio = [("a", "b c d e"), ("a b c d e f g", "b c")]
        pairs = [*good, *empty, *too_long, *ratio, good[1], ratio[0], good[1]]
        kept, counts = clean([pairs], max_words=11, max_ratio=3)
        assert kept == [good]
        assert counts == {
            "read": 14,
            "empty": 4,
            "too_long": 2,
            "ratio": 3,
            "duplicate": 2,
            "kept": 3,
        }

    def test_limits_are_allowed_themselves(self):
        pairs = [("a " * 11, "b " * 11), ("a", "b c d")]
        assert clean([pairs], max_words=11, max_ratio=3)[0] == [pairs]

    def test_every_check_can_be_left_out(self):
        pairs = [("a " * 10007, "b")] * 2
        kept, counts = clean([pairs], max_words=None, max_ratio=None, deduplicate=False)
        assert kept == [pairs]
        assert counts["kept"] == counts["read"] == 2

    def test_nothing_is_changed(self):
        pairs = [("  Ein \u200b Hund ", "A\u2028dog\n")]
        assert clean(iter([iter(pairs)])) == ([pairs], clean([pairs])[1])
        assert pairs == [("  Ein \u200b Hund ", "A\u2028dog\n")]

    @pytest.mark.parametrize("pairs", [[], [("", "")], [("a", "b " * 1009)]])
    def test_nothing_left_is_an_error_with_the_counts(self, pairs):
        with pytest.raises(ValueError, match=f"no sentence pairs left: read={len(pairs)}"):
            clean([pairs])
