"""What differs between languages: how many words a text has, and how BLEU splits its words.

A text in a script without spaces has its words counted by its characters. How many characters make
a word was measured on the Universal Declaration of Human Rights, in the versions that
https://github.com/eric-muller/udhr collects, against the words of the English text: 1.44 to 1.48
characters in Chinese (Mandarin, Cantonese), 1.05 Han characters and 1.21 kana in Japanese (which
gives 4 kana a word, as the Han characters make 0.7 of one), and 5.2 (Thai), 5.7 (Lao), 5.8 (Khmer),
7.0 (Tibetan) and 8.4 (Burmese) in the scripts whose vowels are characters of their own.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from kerasformer.explain.words import ABUGIDAS, HAN, KANA, UNSPACED

CHARACTERS_PER_WORD = {HAN: 1.5, KANA: 4.0, ABUGIDAS: 6.0}
# A run of such characters, and the punctuation of the Far East and wide forms within and behind it.
RUN = re.compile(f"{UNSPACED.pattern}[{HAN}{KANA}{ABUGIDAS}\u3000-\u303f\uff00-\uff65]*")

# sacreBLEU's tokenizer by the code of the language, of two or three letters, or its English name.
BLEU_TOKENIZERS = {
    "zh": "zh zho cmn yue chinese",
    "ja-mecab": "ja jpn japanese",
    "ko-mecab": "ko kor korean",
    "char": "th tha thai lo lao km khm khmer my mya burmese bo bod tibetan dz dzo dzongkha",
}
# The codes of ISO 639-1, and languages by English names and other codes of ISO 639, as people have
# them in the names of files and columns.
CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy "
    "da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht "
    "hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky "
    "la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny "
    "oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss "
    "st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo "
    "za zh zu"
).split()
ENGLISH = (
    "albanian sq sqi, arabic ar ara arb, armenian hy hye, basque eu eus, bengali bn ben, "
    "bulgarian bg bul, burmese my mya, cantonese yue, catalan ca cat, chinese zh zho, "
    "croatian hr hrv, czech cs ces, danish da dan, dutch nl nld, english en eng, estonian et "
    "est, finnish fi fin, french fr fra, georgian ka kat, german de deu, greek el ell, "
    "gujarati gu guj, hebrew he heb, hindi hi hin, hungarian hu hun, icelandic is isl, "
    "indonesian id ind, irish ga gle, italian it ita, japanese ja jpn, khmer km khm, korean "
    "ko kor, lao lo lao, latvian lv lav, lithuanian lt lit, malay ms msa, mandarin cmn, "
    "mongolian mn mon, nepali ne nep, norwegian no nor nb nob nn nno, persian fa fas, polish "
    "pl pol, portuguese pt por, romanian ro ron, russian ru rus, serbian sr srp, slovak sk "
    "slk, slovenian sl slv, spanish es spa, swahili sw swa, swedish sv swe, tagalog tl tgl, "
    "tamil ta tam, thai th tha, tibetan bo bod, turkish tr tur, ukrainian uk ukr, urdu ur "
    "urd, vietnamese vi vie, welsh cy cym"
)
# The English name by each of these.
NAMES = {key: entry.split()[0].title() for entry in ENGLISH.split(", ") for key in entry.split()}


def count_words(text: str) -> int:
    """Counts the words of a text: those between spaces, and by characters where none are written.

    Example:

    >>> count_words("a dog runs"), count_words("一只狗在跑。"), count_words("我用 Python")
    (3, 4, 3)
    """
    if text.isascii() or not UNSPACED.search(text):
        return len(text.split())
    words = sum(
        len(re.findall(f"[{script}]", text)) / size for script, size in CHARACTERS_PER_WORD.items()
    )
    return len(RUN.sub(" ", text).split()) + math.ceil(words)


def read_languages(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns `data.languages`, (source, target), or `()` where a config names none.

    Args:
        data: the part of a config, whose `languages` is a tuple, a list, `"en,de"` or `None`.

    Raises:
        ValueError: when it names other than two languages.
    """
    languages = data.get("languages") or ()
    if isinstance(languages, str):
        languages = [name.strip() for name in languages.split(",")]
    languages = tuple(languages) if isinstance(languages, list | tuple) else (languages,)
    if languages and (len(languages) != 2 or not all(map(is_name, languages))):
        raise ValueError(
            "Expected data.languages to be a (source, target), received "
            f"data.languages={data.get('languages')!r}."
        )
    return languages


def is_name(value: Any) -> bool:
    """Tests whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def bleu_tokenizer(data: Mapping[str, Any]) -> str:
    """Chooses how sacreBLEU splits the words of the target language.

    Args:
        data: the part of a config. Its `bleu_tokenizer` is a name of sacreBLEU's, or `"auto"`: by
            the target of `languages`, and `"13a"` where that writes spaces or is not known.

    Example:

    >>> bleu_tokenizer({"languages": ("en", "zh-TW")}), bleu_tokenizer({"languages": "zh,en"})
    ('zh', '13a')
    """
    chosen = data.get("bleu_tokenizer") or "auto"
    languages = read_languages(data)
    if chosen != "auto" or not languages:
        return "13a" if chosen == "auto" else chosen
    code = re.split("[-_]", languages[1].strip().lower())[0]
    known = (name for name, codes in BLEU_TOKENIZERS.items() if code in codes.split())
    return next(known, "13a")


def is_language(text: str) -> bool:
    """Tests whether a text names a language: by its code of two or three letters, or in English.

    Example:

    >>> is_language("pt-BR"), is_language("eng_Latn"), is_language("Czech"), is_language("src")
    (True, True, True, False)
    """
    return re.split("[-_]", text.strip().casefold())[0] in {*CODES, *NAMES}


def language_name(code: str) -> str:
    """Returns the English name of a language, or what was given where it is not known.

    Example:

    >>> language_name("en"), language_name("pt-BR"), language_name("Klingon")
    ('English', 'Portuguese (BR)', 'Klingon')
    """
    base, _, region = code.strip().replace("_", "-").partition("-")
    name = NAMES.get(base.casefold())
    return code if name is None else f"{name} ({region})" if region else name


def tokenizer_of_script(text: str) -> str | None:
    """Chooses sacreBLEU's tokenizer by the script alone: `None` for one with spaces.

    Example:

    >>> [tokenizer_of_script(text) for text in ("一只狗", "犬がいる", "a dog 狗")]
    ['zh', 'char', None]
    """
    counts = [len(re.findall(f"[{script}]", text)) for script in CHARACTERS_PER_WORD]
    if 2 * sum(counts) <= sum(map(str.isalpha, text)):
        return None
    return "zh" if counts[0] > 0.9 * sum(counts) else "char"
