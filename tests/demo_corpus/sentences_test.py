import random

import pytest

from pipelines.demo_corpus import lexicon, sentences
from pipelines.demo_corpus.inflection import BARE, EVERY, MY, NO, POSSESSIVES, THE, A

NOUN = {noun.english: noun for noun in lexicon.NOUNS}
NUM_DRAWS = 2003


@pytest.fixture
def rng():
    return random.Random(7)


@pytest.fixture
def clauses(rng):
    return [sentences.random_clause(rng, role="subject") for _ in range(NUM_DRAWS)]


class DeterminersTest:
    def test_kin_is_always_somebodys(self):
        for role in ("subject", "object", "negated", "recipient"):
            assert sentences.determiners_of(NOUN["uncle"], role, plural=False) == POSSESSIVES

    def test_nobody_owns_an_unowned_noun(self):
        for plural in (False, True):
            owners = sentences.determiners_of(NOUN["man"], "subject", plural)
            assert THE in owners and MY not in owners

    def test_a_number_decides_which_articles_there_are(self):
        assert BARE not in sentences.determiners_of(NOUN["dog"], "object", plural=False)
        assert A not in sentences.determiners_of(NOUN["dog"], "object", plural=True)


class ClauseTest:
    def test_verbs_take_the_objects_and_subjects_that_they_accept(self, clauses):
        for clause in clauses:
            if clause.objects and clause.objects[-1].noun:
                assert clause.objects[-1].noun in lexicon.nouns_of(clause.verb.objects)
            if clause.subject.noun:
                assert clause.subject.noun in lexicon.nouns_of(clause.verb.subjects)

    def test_nobody_acts_on_themselves(self, clauses):
        for clause in clauses:
            for phrase in clause.objects:
                assert phrase.noun is None or phrase.noun is not clause.subject.noun
                assert phrase.english not in clause.subject.english.split()
                if clause.subject.english in ("I", "we"):
                    assert phrase.english not in ("me", "us")

    def test_no_clause_says_no_twice(self, clauses):
        for clause in clauses:
            assert not (clause.negated and clause.subject.determiner in (NO, EVERY))
            assert not (clause.negated and clause.adverb and clause.adverb.frequency)

    def test_a_must_is_not_negated(self, clauses):
        assert any(clause.tense == "must" for clause in clauses)
        assert not any(clause.tense == "must" and clause.negated for clause in clauses)

    def test_times_fit_tenses(self, clauses):
        for clause in clauses:
            assert clause.adverb is None or clause.tense in clause.adverb.tenses.split()

    def test_only_walking_has_a_whereto(self, clauses):
        for clause in clauses:
            whereto = clause.place is not None and clause.place.english.startswith("into ")
            assert whereto == (clause.verb.base == "walk")


class DescriptionTest:
    def test_nothing_is_two_things_of_one_group(self, rng):
        for _ in range(NUM_DRAWS):
            clause = sentences.random_description(rng)
            if clause.subject.adjective:
                assert clause.subject.adjective.group != clause.complement.group

    def test_a_state_is_asked_for_by_name(self, rng):
        described = [sentences.random_description(rng, state=True) for _ in range(101)]
        assert all(clause.complement.state for clause in described)


class PatternsTest:
    @pytest.mark.parametrize("pattern", sorted(set(sentences.PATTERNS), key=str))
    def test_every_pattern_makes_many_whole_sentences(self, pattern, rng):
        made = [pattern(rng) for _ in range(211)]
        assert len({sentence.english for sentence in made}) > 150
        for sentence in made:
            for text in (sentence.english, sentence.german):
                assert text[-1] in ".?" and text.count(text[-1]) == 1
                assert text[0].isupper() or text[0].isdigit()
                assert "  " not in text and text == text.strip()

    def test_the_same_source_of_chance_gives_the_same_sentence(self):
        first, second = random.Random(11), random.Random(11)
        for _ in range(101):
            assert sentences.random_sentence(first) == sentences.random_sentence(second)
