"""BLEU against counts made by hand, the two scales, the intervals and the table."""

import json
import math
import random

import pytest
from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_spm

from pipelines.text.scores import bleu, by_length, check_tokenizer, score, table

# Matches and n-grams of the hypotheses, for n = 1 to 4, "the" clipped to one match:
# 4/5 2/4 1/3 0/2 in the first sentence, 4/4 3/3 2/2 1/1 in the second.
HYPOTHESES = ["the the cat sat here", "a dog runs fast"]
REFERENCES = ["the cat sat down here", "a dog runs fast today"]
BLEU = 100 * math.exp(1 - 10 / 9) * (8 / 9 * 5 / 7 * 3 / 5 * 1 / 3) ** (1 / 4)


def corpus(sentences):
    """Draws references and hypotheses that share about three words of four."""
    draw = random.Random(sentences)
    words = [f"word{number}" for number in range(97)]
    references = [draw.choices(words, k=draw.randint(5, 19)) for _ in range(sentences)]
    hypotheses = [[w if draw.random() < 0.75 else "other" for w in r] for r in references]
    return [" ".join(h) for h in hypotheses], [" ".join(r) for r in references]


def width(interval):
    return interval[1] - interval[0]


class BleuTest:
    @pytest.mark.parametrize("is_tokenized", [False, True])
    def test_it_equals_the_count_by_hand(self, is_tokenized):
        found = bleu(HYPOTHESES, REFERENCES, is_tokenized)
        assert math.isclose(found.score, BLEU)
        assert (found.sys_len, found.ref_len) == (9, 10)

    def test_case_counts_in_detokenised_text_alone(self):
        hypotheses, references = ["das haus ist ganz rot"], ["Das Haus ist ganz rot"]
        assert bleu(hypotheses, references, is_tokenized=False).score < 70
        assert bleu(hypotheses, references, is_tokenized=True).score == pytest.approx(100)

    def test_tokenised_words_are_taken_as_they_are(self):
        hypotheses, references = ["wir gehen nun heim."], ["wir gehen nun heim ."]
        assert bleu(hypotheses, references, is_tokenized=False).score == pytest.approx(100)
        assert bleu(hypotheses, references, is_tokenized=True).score < 70


class TokenizerTest:
    def test_chinese_is_split_into_characters_and_the_signature_says_so(self):
        hypotheses, references = ["老师今天看报。"], ["老师今天看书。"]
        spaced = [[" ".join(text[0])] for text in (hypotheses, references)]
        found = bleu(hypotheses, references, False, tokenizer="zh").score
        assert found == pytest.approx(bleu(*spaced, is_tokenized=True).score) and found > 40
        assert bleu(hypotheses, references, is_tokenized=False).score < 10
        scores = score(hypotheses, references, False, bootstrap=0, tokenizer="zh")
        assert scores["bleu"] == scores["bleu_lowercase_tokenized"] == round(found, 2)
        assert "tok:zh" in scores["signature"]

    @pytest.mark.parametrize(
        ("name", "error", "sentence"),
        [
            ("words", ValueError, "one of none, zh, 13a.*data.bleu_tokenizer='words'"),
            ("ja-mecab", ImportError, r'pip install "sacrebleu\[ja\]".*"char" needs nothing'),
            ("flores200", ValueError, "cannot download or read the model.*flores200: .*Errno"),
        ],
    )
    def test_what_cannot_be_used_is_one_sentence(self, name, error, sentence, monkeypatch):
        monkeypatch.setattr(tokenizer_ja_mecab, "MeCab", None)
        monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", "/dev/null/absent")
        with pytest.raises(error, match=sentence) as caught:
            check_tokenizer(name)
        assert "\n" not in str(caught.value)


class ScoreTest:
    def test_identical_texts_give_100_everywhere(self):
        _, references = corpus(13)
        scores = score(references, references, is_tokenized=False)
        assert scores["bleu"] == scores["chrf"] == scores["bleu_lowercase_tokenized"] == 100.0
        assert scores["bleu_interval"] == scores["chrf_interval"] == [100.0, 100.0]
        assert scores["length_ratio"] == scores["brevity_penalty"] == 1.0

    def test_texts_without_a_common_letter_give_0(self):
        scores = score(["aaa aaa aaa aaa"], ["bbb bbb bbb bbb"], is_tokenized=False)
        assert scores["bleu"] == scores["chrf"] == 0.0
        assert scores["bleu_interval"] == scores["chrf_interval"] == [0.0, 0.0]

    def test_an_interval_may_hold_resamples_that_score_0(self):
        scores = score(["aaa aaa", "bbb"], ["ccc", "bbb bb"], is_tokenized=False)
        # A resample of the first sentence alone scores 0, and of the second alone the most.
        most = score(["bbb"], ["bbb bb"], is_tokenized=False)["chrf"]
        assert scores["chrf_interval"][0] < scores["chrf"] < scores["chrf_interval"][1]
        assert width(scores["chrf_interval"]) == pytest.approx(most, abs=0.02)
        json.dumps(scores)

    def test_it_reports_lengths_and_the_brevity_penalty(self):
        scores = score(HYPOTHESES, REFERENCES, is_tokenized=False)
        assert scores["bleu"] == round(BLEU, 2)
        assert scores["brevity_penalty"] == round(math.exp(1 - 10 / 9), 3)
        assert (scores["hypothesis_words"], scores["reference_words"]) == (9, 10)
        assert (scores["length_ratio"], scores["sentences"]) == (0.9, 2)

    def test_the_two_scales_differ_by_case(self):
        hypotheses, references = ["das haus ist ganz rot."], ["Das Haus ist ganz rot ."]
        scores = score(hypotheses, references, is_tokenized=False)
        assert scores["bleu"] < 70 < scores["bleu_lowercase_tokenized"] == 100.0
        assert "case:mixed" in scores["signature"] and "tok:13a" in scores["signature"]
        words = scores["bleu_lowercase_tokenized_signature"]
        assert "case:lc" in words and "tok:13a" in words

    def test_words_of_tokenised_text_are_not_split_again(self):
        hypotheses, references = ["we paid ( 5.) there"], ["we paid ( 5. ) there"]
        words = score(hypotheses, references, is_tokenized=True)
        assert words["bleu_lowercase_tokenized"] < words["bleu"] == 100.0
        assert "tok:none" in words["bleu_lowercase_tokenized_signature"]

    def test_intervals_hold_the_score_and_shrink_with_more_sentences(self):
        few, many = (score(*corpus(n), is_tokenized=False) for n in (23, 397))
        for scores in (few, many):
            for name in ("bleu", "chrf"):
                low, high = scores[f"{name}_interval"]
                assert 0 <= low < scores[name] < high <= 100
        assert width(many["bleu_interval"]) < width(few["bleu_interval"]) / 2
        assert width(many["chrf_interval"]) < width(few["chrf_interval"]) / 2

    def test_the_same_texts_give_the_same_json_twice(self):
        first, second = (json.dumps(score(*corpus(31), False)) for _ in range(2))
        assert first == second

    def test_without_a_bootstrap_an_interval_is_the_score(self):
        scores = score(HYPOTHESES, REFERENCES, is_tokenized=False, bootstrap=1)
        assert scores["bleu_interval"] == [scores["bleu"]] * 2


class TableTest:
    def test_worst_come_first_then_best_and_none_twice(self):
        references = [f"satz nummer {'abcdefg'[i]}" for i in range(7)]
        hypotheses = [r[:length] for r, length in zip(references, range(1, 14, 2), strict=True)]
        text = table("ABCDEFG", hypotheses, references, count=2)
        rows = [line for line in text.splitlines() if "| source |" in line]
        assert [row.split("|")[3].strip() for row in rows] == ["A", "B", "G", "F"]
        values = [float(row.split("|")[1]) for row in rows]
        assert values[0] < values[1] < values[3] < values[2]
        assert text.index("Worst sentences:") < text.index("| B |") < text.index("Best sentences:")

    def test_few_sentences_are_all_among_the_worst(self):
        text = table(["A", "B"], HYPOTHESES, REFERENCES)
        assert text.count("| source |") == 2
        assert "Best" not in text

    def test_nothing_in_a_text_breaks_a_row(self):
        text = table(["a|b\\"], ["c\nd\x1b[2J"], ["e\u2028\tf"])
        assert text.splitlines()[-3:] == [
            "| 0.0 | source | a\\|b\\\\ |",
            "| | reference | e  f |",
            "| | translation | c d [2J |",
        ]


class BadInputTest:
    @pytest.mark.parametrize("compute", [bleu, score])
    def test_unequal_numbers_of_sentences_are_named(self, compute):
        with pytest.raises(ValueError, match="2 hypotheses, 1 references"):
            compute(HYPOTHESES, REFERENCES[:1], False)

    @pytest.mark.parametrize("compute", [bleu, score])
    def test_no_sentences_are_an_error(self, compute):
        with pytest.raises(ValueError, match="at least one sentence"):
            compute([], [], False)

    def test_a_table_needs_sources_and_a_count(self):
        with pytest.raises(ValueError, match="0 sources, 2 hypotheses"):
            table([], HYPOTHESES, REFERENCES)
        with pytest.raises(ValueError, match="count=0"):
            table(REFERENCES, HYPOTHESES, REFERENCES, count=0)


class ByLengthTest:
    def test_each_group_has_the_bleu_of_its_sentences(self):
        hypotheses, references = corpus(200)
        sources = [" ".join(["x"] * len(reference.split())) for reference in references]
        groups = by_length(sources, hypotheses, references, is_tokenized=True)
        assert [group["words"] for group in groups] == [[5, 10], [11, 15], [16, 19]]
        for group in groups:
            low, high = group["words"]
            chosen = [i for i, source in enumerate(sources) if low <= len(source.split()) <= high]
            pairs = [[texts[i] for i in chosen] for texts in (hypotheses, references)]
            assert group["sentences"] == len(chosen) >= 20
            assert group["bleu"] == round(bleu(*pairs, is_tokenized=True).score, 2)

    def test_a_group_of_few_joins_the_next_or_at_the_end_the_one_before(self):
        for counts in ([3, *[9] * 20], [*[3] * 20, 9]):
            texts = [" ".join(["x"] * count) for count in counts]
            (group,) = by_length(texts, texts, texts, is_tokenized=True)
            assert group == {"words": [3, 9], "sentences": 21, "bleu": 100.0}
