"""The grammar against 192 pairs that were read one by one, and what a sentence combines.

`pairs.tsv` holds pairs of the corpus that together have every determiner, case and gender with and
without an adjective, every pronoun, tense, kind of sentence and word order. Where a change of the
words or of the draws makes other pairs, choose new ones in the same way, and read each of them.
"""

import dataclasses
from pathlib import Path

from pipelines.demo_corpus import corpus, inflection, lexicon
from pipelines.demo_corpus.grammar import (
    Clause,
    Phrase,
    contrast,
    noun_phrase,
    object_question,
    place_phrase,
    pronoun,
    statement,
)

NOUN = {noun.english: noun for noun in lexicon.NOUNS}
VERB = {verb.base: verb for verb in lexicon.VERBS}
ADJECTIVE = {adjective.english: adjective for adjective in lexicon.ADJECTIVES}


def noun(word, adjective=None, case="accusative", **kwargs):
    return noun_phrase(NOUN[word], case=case, adjective=ADJECTIVE.get(adjective), **kwargs)


class PairsTest:
    def test_every_pair_that_was_read_is_made(self):
        lines = (Path(__file__).parent / "pairs.tsv").read_text("utf-8").splitlines()
        made = dict(corpus.generate(12_000, 0))
        pairs = dict(line.split("\t") for line in lines)
        assert len(pairs) == 192
        assert {english: made.get(english) for english in pairs} == pairs


class CombinationsTest:
    def test_a_clause_lists_adjectives_and_the_object_of_its_verb(self):
        boy = noun("boy", "tired", "dative")
        objects = (boy, noun("book", "old", plural=True))
        made = Clause(noun("woman", "rich", "nominative"), VERB["give"], objects=objects)
        assert set(made.combinations()) == {
            ("adjective", "rich", "woman"),
            ("adjective", "tired", "boy"),
            ("adjective", "old", "book"),
            ("verb", "give", "book"),
        }

    def test_a_predicate_adjective_counts(self):
        cat = noun("cat", case="nominative")
        made = Clause(cat, inflection.BE, complement=ADJECTIVE["black"])
        assert made.combinations() == (("adjective", "black", "cat"),)

    def test_a_sentence_has_those_of_all_its_clauses_and_of_what_is_fronted(self):
        place = place_phrase("behind", NOUN["house"], adjective=ADJECTIVE["big"])
        part = Clause(pronoun("he"), VERB["eat"], objects=(noun("pear"),), place=place)
        expected = {("adjective", "big", "house"), ("verb", "eat", "pear")}
        assert set(statement(part, "place").combinations) == expected
        sleeping = Clause(Phrase("I", "ich", inflection.FIRST), VERB["sleep"])
        assert set(contrast(sleeping, part).combinations) == expected
        asked = dataclasses.replace(part, objects=(noun("pear", determiner=inflection.WHICH),))
        assert set(object_question(asked).combinations) == expected
