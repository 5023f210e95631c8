"""Tests of what a model trains on: cleaning, proportions of corpora, held-out sets and leaks."""

import pytest

from pipelines.text.cleaning import clean, count_leaks, held_out, mix, source_key
from tests import own_words


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

    @pytest.mark.parametrize("language", ["zh", "ja", "th", "km"])
    def test_scripts_without_spaces_keep_all_clean_pairs(self, language):
        pairs = own_words.pairs("en", language, 1009)
        long = [tuple(" ".join(side) for side in zip(*pairs[:20], strict=True))]
        assert clean([pairs, long])[1]["kept"] == 1010
        assert clean([pairs, long], max_words=100)[1]["too_long"] == 1

    def test_a_pair_of_two_corpora_stays_in_the_first(self):
        first, second = [("a", "b"), ("c", "d")], [("c", "d"), ("e", "f")]
        assert clean([first, second])[0] == [first, [("e", "f")]]
        assert clean([first, first])[0] == [first, []]


class MixTest:
    CORPORA = ([("a", str(n)) for n in range(8)], [("b", str(n)) for n in range(2)])

    def count(self, **options):
        pairs = mix(self.CORPORA, **options)
        return [sum(source == name for source, _ in pairs) for name in "ab"]

    def test_alone_corpora_are_joined(self):
        assert mix(self.CORPORA) == [*self.CORPORA[0], *self.CORPORA[1]]

    @pytest.mark.parametrize(
        ("weights", "expected"), [((1, 3), [8, 6]), ((0.5, 2.5), [4, 5]), ((0.1, 1 / 3), [0, 0])]
    )
    def test_weights_say_how_often_a_pair_is_there(self, weights, expected):
        assert self.count(weights=weights) == expected

    def test_a_part_of_a_corpus_is_taken_from_all_over(self):
        assert [int(number) for _, number in mix(self.CORPORA[:1], weights=(0.5,))] == [1, 3, 5, 7]

    @pytest.mark.parametrize(("temperature", "expected"), [(1, [8, 2]), (2, [8, 4]), (1e9, [8, 8])])
    def test_a_temperature_evens_out_the_shares(self, temperature, expected):
        assert self.count(temperature=temperature) == expected

    @pytest.mark.parametrize(
        "options",
        [
            {"weights": (1,)},
            {"weights": (1, 0)},
            {"weights": (1, float("nan"))},
            {"temperature": 0.5},
            {"weights": (1, 1), "temperature": 2},
        ],
    )
    def test_what_cannot_be_is_refused(self, options):
        with pytest.raises(ValueError, match="data.corpus_"):
            mix(self.CORPORA, **options)


class HeldOutTest:
    PAIRS = [(f"source {number}", f"target {number}") for number in range(101)]
    SPLITS = ("validation", "test")

    def test_the_order_does_not_matter_and_equal_sources_stay_together(self):
        keys = held_out([self.PAIRS], 7, self.SPLITS)
        same = [(source.replace(" ", "\t  "), "other") for source, _ in reversed(self.PAIRS)]
        assert held_out([same[:50], same, [("", "x"), ("only this", " ")]], 7, self.SPLITS) == keys
        assert [len(found) for found in keys.values()] == [7, 7]
        assert held_out([self.PAIRS], "6.9%", self.SPLITS) == keys
        assert not keys["validation"] & keys["test"]
        assert keys["test"] < {source_key(pair) for pair in self.PAIRS}

    @pytest.mark.parametrize("count", [0, 51, 1009])
    def test_too_few_sentences_are_refused(self, count):
        with pytest.raises(ValueError, match=f"received (101 of them and )?data.held_out={count}"):
            held_out([self.PAIRS], count, self.SPLITS)


class CountLeaksTest:
    def test_pairs_and_sources_are_counted_as_often_as_they_stand_there(self):
        train = [("a  b", "c"), ("d", "e"), ("f", "g"), ("f", "h")]
        others = [("a b", "c"), ("a b", " c "), ("d", "x"), ("f", "h"), ("new", "e")]
        assert count_leaks(iter(train), others) == (3, 4)
        assert count_leaks([], others) == count_leaks(train, []) == (0, 0)
