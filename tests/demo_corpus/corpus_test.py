import collections
import os
import re
import subprocess
import sys

import pytest

from pipelines.demo_corpus import corpus, lexicon
from tests import ROOT

NUMBERS = {number for pair in lexicon.NUMERALS for number in pair}
ADJECTIVES = {adjective.english for adjective in lexicon.ADJECTIVES}
STEMS = {(adjective.stem or adjective.german) for adjective in lexicon.ADJECTIVES}
PREPOSITIONS = {german for german, _ in lexicon.PREPOSITIONS.values()}
FUNCTION_WORDS = set("the a an any no every this these many my his her our which what how".split())
AUXILIARIES = set(
    "bin ist sind war waren habe hat haben werde wird werden kann können muss müssen will wollen "
    "sollte sollten".split()
)
PRESENT = {verb.prefix + verb.german_third for verb in lexicon.VERBS}
PARTICIPLES = {verb.participle for verb in lexicon.VERBS} - PRESENT  # "besucht" may be either

# Nominative, accusative, dative: every way in which a noun phrase may end.
PARADIGMS = """
der gute Hund     den guten Hund        dem guten Hund        m
die gute Frau     die gute Frau         der guten Frau        f
das gute Kind     das gute Kind         dem guten Kind        n
die guten Kinder  die guten Kinder      den guten Kindern     plural
dieser gute x     diesen guten x        diesem guten x        m
diese gute x      diese gute x          dieser guten x        f
dieses gute x     dieses gute x         diesem guten x        n
diese guten x     diese guten x         diesen guten x        plural
kein guter x      keinen guten x        keinem guten x        m
keine gute x      keine gute x          keiner guten x        f
kein gutes x      kein gutes x          keinem guten x        n
keine guten x     keine guten x         keinen guten x        plural
viele gute x      viele gute x          vielen guten x        plural
- gute x          - gute x              - guten x             plural
"""
LIKE = {  # stems that decline like those above
    "dies": ("dies", "jed", "welch"),
    "kein": ("kein", "mein", "sein", "ihr", "unser"),
    "viel": ("viel",),
}


def allowed_phrases():
    """Maps (article, ending of the adjective, gender) to the cases that it can be."""
    allowed = collections.defaultdict(set)
    for line in PARADIGMS.strip().splitlines():
        *words, gender = line.split()
        for case, at in zip(("nominative", "accusative", "dative"), (0, 3, 6), strict=True):
            article, ending = words[at], words[at + 1].removeprefix("gut")
            articles = [article]
            for stem, others in LIKE.items():
                if article.startswith(stem):
                    articles = [other + article.removeprefix(stem) for other in others]
                    if stem == "kein" and gender != "plural":
                        articles.append(article.removeprefix("k"))
            for article in articles:
                allowed[article, ending, gender].add(case)
                allowed[article, None, gender].add(case)
    return allowed


ALLOWED = allowed_phrases()
ARTICLES = {article for article, _, _ in ALLOWED}


def noun_forms():
    """Maps a German form to the (gender or plural, cases) that it can be."""
    forms = collections.defaultdict(list)
    for noun in lexicon.NOUNS:
        oblique = noun.german + noun.weak
        forms[noun.german].append((noun.gender, {"nominative"}))
        forms[oblique].append((noun.gender, {"accusative", "dative"}))
        forms[noun.german_plural].append(("plural", {"nominative", "accusative"}))
        dative = noun.german_plural + ("" if re.search("[ns]$", noun.german_plural) else "n")
        forms[dative].append(("plural", {"dative"}))
    return forms


def adjective_ending(word):
    """Returns the ending of an inflected adjective, or None for any other word."""
    found = re.fullmatch("(.+?)(e[mnrs]?)", word)
    return found[2] if found and found[1] in STEMS else None


def noun_phrases(german, forms):
    """Yields (preposition or "", article or "-", adjective ending or None, noun)."""
    german = german[0].lower() + german[1:]
    words = re.findall(r"\w+", german.replace("im ", "in dem "))
    words = [part for word in words for part in (["in", "das"] if word == "ins" else [word])]
    for at, word in enumerate(words):
        if word not in forms:
            continue
        before = words[:at]
        ending = adjective_ending(before[-1]) if before else None
        if ending is not None:
            before.pop()
        if before and before[-1] in NUMBERS:
            before.pop()
        article = before.pop() if before and before[-1] in ARTICLES else "-"
        preposition = before[-1] if before and before[-1] in PREPOSITIONS else ""
        yield preposition, article, ending, word


@pytest.fixture(scope="module")
def data():
    return corpus.sentence_splits()


@pytest.fixture(scope="module")
def sentences(data):
    return [sentence for chosen in data.values() for sentence in chosen]


class GenerateTest:
    def test_the_seed_decides_on_every_machine(self):
        program = (
            "from pipelines.demo_corpus import corpus as d;"
            "print(d.generate(97, 5), sorted(d.held_out_combinations(5)), d.splits(5, 53, 11, 13))"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", program],
                cwd=ROOT,
                env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
                capture_output=True,
                check=True,
            ).stdout
            for hash_seed in ("0", "1", "2017")
        }
        assert len(outputs) == 1
        assert repr(corpus.generate(97, 5)) in outputs.pop().decode()

    def test_more_pairs_begin_with_the_same_ones(self):
        assert corpus.generate(211, 3)[:101] == corpus.generate(101, 3)

    def test_another_seed_gives_other_pairs(self):
        assert corpus.generate(101, 3) != corpus.generate(101, 4)

    def test_all_pairs_are_distinct(self):
        assert len(set(corpus.generate(5003, 1))) == 5003

    def test_no_pairs_are_no_pairs(self):
        assert corpus.generate(0, 1) == []

    def test_a_negative_size_is_refused_by_name(self):
        with pytest.raises(ValueError, match="num_pairs=-1"):
            corpus.generate(-1, 0)
        with pytest.raises(ValueError, match="num_test=-2"):
            corpus.splits(num_test=-2)


class SplitsTest:
    def test_the_sizes_are_those_asked_for(self, data):
        sizes = {name: len(chosen) for name, chosen in data.items()}
        assert sizes == {"train": 30_000, "validation": 500, "test": 500}

    def test_the_pairs_are_those_of_the_sentences(self):
        made = corpus.sentence_splits(7, 23, 5, 3)
        pairs = {name: [(s.english, s.german) for s in chosen] for name, chosen in made.items()}
        assert corpus.splits(7, 23, 5, 3) == pairs

    def test_no_sentence_is_in_two_splits_or_twice_in_one(self, sentences):
        assert len({sentence.english for sentence in sentences}) == len(sentences)

    def test_no_training_sentence_has_a_held_out_combination_and_every_other_one_has(self, data):
        held_out = corpus.held_out_combinations(0)
        assert all(held_out.isdisjoint(sentence.combinations) for sentence in data["train"])
        for sentence in (*data["validation"], *data["test"]):
            assert not held_out.isdisjoint(sentence.combinations)

    def test_a_full_training_split_does_not_spill_into_the_others(self):
        made = corpus.sentence_splits(0, num_train=2, num_validation=31, num_test=37)
        held_out = corpus.held_out_combinations(0)
        for sentence in (*made["validation"], *made["test"]):
            assert not held_out.isdisjoint(sentence.combinations)

    def test_no_training_text_shows_a_held_out_combination(self, data):
        text = "".join(f" {sentence.english.lower()}\n" for sentence in data["train"])
        plurals = {noun.english: noun.english_plural for noun in lexicon.NOUNS}
        forms = {verb.base: {verb.third, verb.past, verb.ing} - {""} for verb in lexicon.VERBS}
        between = rf"(?: (?:{'|'.join(FUNCTION_WORDS | ADJECTIVES | NUMBERS)}))*"
        recipients = {verb.base for verb in lexicon.VERBS if verb.recipient}  # stand between
        for _, word, noun in corpus.held_out_combinations(0):
            if word not in recipients:
                shown = "|".join({word} | forms.get(word, set()))
                assert not re.search(rf" (?:{shown}){between} (?:{noun}|{plurals[noun]})\b", text)

    def test_every_adjective_and_verb_with_objects_has_something_held_out(self):
        words = {word for _, word, _ in corpus.held_out_combinations(0)}
        assert words == ADJECTIVES | {verb.base for verb in lexicon.VERBS if verb.objects}

    def test_every_word_that_is_tested_has_been_seen_often(self, data):
        for language in ("english", "german"):
            seen = collections.Counter(
                word
                for sentence in data["train"]
                for word in re.findall(r"\w+", getattr(sentence, language).lower())
            )
            tested = [
                word
                for name in ("validation", "test")
                for sentence in data[name]
                for word in re.findall(r"\w+", getattr(sentence, language).lower())
            ]
            assert min(seen[word] for word in tested) >= 5
            assert sum(seen[word] >= 50 for word in tested) >= 0.98 * len(tested)

    def test_held_out_combinations_depend_on_the_seed(self):
        assert corpus.held_out_combinations(0) != corpus.held_out_combinations(1)


class LanguageTest:
    def test_translation_is_a_function_both_ways(self, sentences):
        # Duplicates are removed by pair, so a second translation would still be here.
        assert len({sentence.english for sentence in sentences}) == len(sentences)
        assert len({sentence.german for sentence in sentences}) == len(sentences)

    def test_lengths_are_within_bounds(self, sentences):
        for sentence in sentences:
            for text in (sentence.english, sentence.german):
                assert 4 <= len(text.split()) <= 14

    def test_every_german_noun_phrase_follows_the_table_of_endings(self, sentences):
        forms = noun_forms()
        num_described = 0
        for sentence in sentences:
            to_somewhere = re.search(r"\b(gehe|gehst|geht|gehen|gegangen)\b", sentence.german, re.I)
            for preposition, article, ending, noun in noun_phrases(sentence.german, forms):
                cases = set()
                for gender, its_cases in forms[noun]:
                    cases |= its_cases & ALLOWED.get((article, ending, gender), set())
                if preposition:
                    whereto = {"accusative"} if preposition == "in" and to_somewhere else set()
                    cases &= {"dative"} | whereto
                assert cases, f"{preposition} {article} -{ending} {noun}: {sentence.german}"
                num_described += ending is not None
        assert num_described > 15_000

    def test_the_check_of_noun_phrases_sees_wrong_endings(self):
        forms = noun_forms()
        for wrong in ("Der alter Hund", "den alte Katze", "mit ein alten Pferd", "vor die Hunden"):
            for _, article, ending, noun in noun_phrases(wrong, forms):
                for gender, cases in forms[noun]:
                    assert not cases & ALLOWED.get((article, ending, gender), set())

    def test_a_german_subordinate_clause_ends_in_its_finite_verb(self, sentences):
        num_checked = 0
        for sentence in sentences:
            for clause in re.findall(r"(?:dass|weil|ob|Wenn) ([^,.]+)", sentence.german):
                last = clause.split()[-1]
                assert last in AUXILIARIES or re.fullmatch("[a-zäöü]+(e|t|en|ern)", last), clause
                assert last not in PARTICIPLES, clause
                num_checked += 1
        assert num_checked > 3000

    def test_a_german_auxiliary_follows_what_is_in_front(self, sentences):
        fronts = re.compile("(?:Gestern|Heute|Morgen|Bald|Letzte Woche|Am Montag) (.+?) ")
        fronted = [found[1] for s in sentences if (found := fronts.match(s.german))]
        assert len(fronted) > 1000
        assert set(fronted) <= AUXILIARIES

    def test_an_stands_before_vowels_alone(self, sentences):
        for sentence in sentences:
            text = sentence.english.lower()
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), sentence.english

    def test_english_numbers_and_articles_fit_their_nouns(self, sentences):
        singular = {noun.english for noun in lexicon.NOUNS}
        plural = {noun.english_plural for noun in lexicon.NOUNS}
        counts = {number.lower() for number in NUMBERS} | {"many", "these"}
        for sentence in sentences:
            words = [w for w in re.findall(r"\w+", sentence.english.lower()) if w not in ADJECTIVES]
            for word, following in zip(words, words[1:], strict=False):
                if following in singular | plural:
                    assert word not in {"a", "an", "this", "every"} or following in singular
                    assert word not in counts or following in plural

    def test_all_that_the_demo_promises_is_there(self, sentences):
        text = "\n".join(sentence.german for sentence in sentences)
        for shown in ("kein", "nicht", "dass", "weil", "ob", "Wenn", "aber", "Wo", "Wann", "Warum"):
            assert len(re.findall(rf"\b{shown}\b", text)) > 100, shown
        for shown in ("Wie viele", "Wie viel", "Welche", "im", "ins", "zwölf", "27", "gerade"):
            assert len(re.findall(rf"\b{shown}\b", text)) > 20, shown
