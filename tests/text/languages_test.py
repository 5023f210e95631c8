"""Tests of lengths in all scripts, and of the names of languages."""

import pytest

from pipelines.text.languages import bleu_tokenizer, count_words, read_languages
from tests import own_words

# Article 3 of the Universal Declaration of Human Rights.
ENGLISH = "Everyone has the right to life, liberty and security of person."
UNSPACED = {
    "zh": "人人有权享有生命、自由和人身安全。",
    "zh-TW": "人人有權享有生命、自由與人身安全。",
    "ja": "すべて人は、生命、自由及び身体の安全に対する権利を有する。",
    "th": "คนทุกคนมีสิทธิในการดำรงชีวิต เสรีภาพ และความมั่นคงแห่งตัวตน",
    "km": "មនុស្សម្នាក់ៗមានសិទ្ធិរស់រានមានជីវិត សេរីភាព និងសន្តិសុខផ្ទាល់ខ្លួន ។",
    "lo": "ຄົນທຸກຄົນມີສິດໃນການດຳລົງຊີວິດ, ອິດສະລະພາບ ແລະຄວາມໝັ້ນຄົງແຫ່ງຕົນ",
    "bo": "སྐྱེ་བོ་ཡོངས་ལ་སྲོག་དང༌། རང་དབང༌། རང་ལུས་བདེ་འཇགས་བཅས་ཀྱི་ཐོབ་ཐང་ཡོད།",
}
SPACED = {
    "de": "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
    "ko": "모든 사람은 생명과 신체의 자유와 안전에 대한 권리를 가진다.",
    "vi": "Mọi người đều có quyền sống, quyền tự do và an toàn cá nhân.",
    "ar": "لكل فرد حق في الحياة والحرية وفي الأمان على شخصه.",
    "he": "שלום 👩‍👩‍👧 עולם",
    "strange": "\u2028 a\u200bb\u3000c\x85d ｅ，ｆ \ufeff ☃。",
    "none": " \t\u3000",
}


class CountWordsTest:
    @pytest.mark.parametrize("text", SPACED.values(), ids=SPACED)
    def test_words_with_spaces_between_them_are_counted_by_these(self, text):
        assert count_words(text) == len(text.split())

    @pytest.mark.parametrize("text", UNSPACED.values(), ids=UNSPACED)
    def test_a_script_without_spaces_has_about_the_words_of_english(self, text):
        assert 0.6 < count_words(text) / count_words(ENGLISH) < 1.7
        assert count_words(3 * text) == pytest.approx(3 * count_words(text), abs=3)

    @pytest.mark.parametrize("language", [name for name in own_words.GRAMMARS if name != "en"])
    def test_of_clean_pairs_with_english_none_is_three_times_as_long(self, language):
        pairs = own_words.pairs("en", language)
        ratios = [count_words(target) / count_words(source) for source, target in pairs]
        assert 1 / 3 < min(ratios) and max(ratios) < 3

    def test_words_among_characters_count_too(self):
        assert count_words("我用 Python 写代码") == count_words("我用Python写代码") == 5
        assert count_words("in Peking (北京)") == 6  # With a bracket on each side.
        assert count_words("一") == count_words("。一。") - 1 == 1


class ReadLanguagesTest:
    @pytest.mark.parametrize("given", [("en", "zh"), ["en", "zh"], "en,zh", "en, zh"])
    def test_each_form_is_read(self, given):
        assert read_languages({"languages": given}) == ("en", "zh")

    @pytest.mark.parametrize("given", [None, (), ""])
    def test_none_need_be_named(self, given):
        assert read_languages({"languages": given}) == read_languages({}) == ()

    @pytest.mark.parametrize("given", ["en", ("en",), ("en", "de", "fr"), (1, 2), ("en", "")])
    def test_other_than_two_names_are_refused(self, given):
        with pytest.raises(ValueError, match="data.languages="):
            read_languages({"languages": given})


class BleuTokenizerTest:
    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("zh", "zh"),
            ("zh_Hant", "zh"),
            ("Chinese", "zh"),
            ("yue", "zh"),
            ("ja", "ja-mecab"),
            ("kor_Hang", "ko-mecab"),
            ("th", "char"),
            ("khm", "char"),
            ("my", "char"),
            ("de", "13a"),
            ("x", "13a"),
        ],
    )
    def test_the_target_language_decides(self, target, expected):
        assert bleu_tokenizer({"languages": ("en", target)}) == expected
        assert bleu_tokenizer({"languages": (target, "en")}) == "13a"
        chosen = {"languages": ("en", target), "bleu_tokenizer": "flores200"}
        assert bleu_tokenizer(chosen) == "flores200"

    def test_without_languages_it_is_13a(self):
        assert bleu_tokenizer({}) == "13a"
