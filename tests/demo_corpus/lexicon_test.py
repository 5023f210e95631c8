import pytest

from pipelines.demo_corpus import lexicon

KINDS = {kind for noun in lexicon.NOUNS for kind in noun.kinds.split()}

DICTIONARY = {
    "m": "Mann Junge Lehrer Arzt Student Nachbar Gast Onkel Bruder Hund Vogel Apfel Kuchen Brief "
    "Roman Tisch Stuhl Regenschirm Koffer Mantel Garten Wald Turm",
    "f": "Frau Königin Schwester Tochter Katze Kuh Maus Birne Kartoffel Geschichte Nachricht "
    "Tasche Kiste Uhr Tür Jacke Küche Stadt Schule Kirche",
    "n": "Kind Mädchen Pferd Schwein Kaninchen Ei Steak Buch Gedicht Fahrrad Zelt Radio Fenster "
    "Hemd Kleid Dorf Haus Hotel Schloss",
}


def repeated(words):
    words = list(words)
    return {word for word in words if words.count(word) > 1}


class WordsTest:
    def test_no_english_word_means_two_things(self):
        nouns = [word for n in lexicon.NOUNS for word in {n.english, n.english_plural}]
        verbs = [word for v in lexicon.VERBS for word in {v.base, v.third, v.past, v.ing} - {""}]
        assert not repeated(nouns + [adjective.english for adjective in lexicon.ADJECTIVES])
        assert not repeated(verbs)

    def test_no_german_word_means_two_things(self):
        assert not repeated(noun.german for noun in lexicon.NOUNS)
        assert not repeated(adjective.german for adjective in lexicon.ADJECTIVES)
        assert not repeated(entry.infinitive for entry in lexicon.VERBS)

    def test_nouns_are_capitalized_and_nothing_else_is(self):
        assert all(n.german.istitle() and n.german_plural.istitle() for n in lexicon.NOUNS)
        assert all(adjective.german.islower() for adjective in lexicon.ADJECTIVES)
        assert all(v.infinitive.islower() and v.base.islower() for v in lexicon.VERBS)

    def test_a_separable_verb_begins_with_its_prefix_and_keeps_it_in_the_participle(self):
        for entry in lexicon.VERBS:
            assert entry.infinitive.startswith(entry.prefix)
            assert entry.participle.startswith(entry.prefix)

    def test_all_three_genders_are_common(self):
        assert min(len(nouns.split()) for nouns in DICTIONARY.values()) >= 15

    def test_genders_are_those_of_the_dictionary(self):
        genders = {noun.german: noun.gender for noun in lexicon.NOUNS}
        listed = {word: gender for gender, words in DICTIONARY.items() for word in words.split()}
        assert genders == listed

    def test_every_kind_that_is_asked_for_has_nouns(self):
        asked = [word.kinds for word in lexicon.ADJECTIVES]
        asked += [f"{entry.objects} {entry.subjects}" for entry in lexicon.VERBS]
        asked += [kind for _, kind in lexicon.PREPOSITIONS.values()]
        assert {kind for kinds in asked for kind in kinds.split()} <= KINDS


class ChoicesTest:
    def test_nouns_of_several_kinds_are_the_nouns_of_any(self):
        food_or_text = lexicon.nouns_of("food text")
        assert set(food_or_text) == {*lexicon.nouns_of("food"), *lexicon.nouns_of("text")}

    def test_every_noun_has_adjectives_of_several_groups(self):
        for noun in lexicon.NOUNS:
            groups = {adjective.group for adjective in lexicon.adjectives_of(noun)}
            assert len(groups) >= 2, noun.english

    @pytest.mark.parametrize(
        ("base", "tense", "expected"),
        [
            ("read", "past", False),  # "they read" would be present or past
            ("eat", "past", True),
            ("see", "progressive", False),
            ("eat", "progressive", True),
            ("need", "must", False),
            ("eat", "must", True),
        ],
    )
    def test_a_verb_has_only_the_tenses_that_are_clear_and_natural(self, base, tense, expected):
        entry = next(entry for entry in lexicon.VERBS if entry.base == base)
        assert (tense in lexicon.tenses_of(entry)) == expected

    def test_adverbs_fit_the_tense(self):
        assert {adverb.english for adverb in lexicon.adverbs_of("past", frequency=True)} == {
            "yesterday",
            "last week",
            "on Monday",
            "today",
        }
        assert [a.english for a in lexicon.adverbs_of("present", frequency=False)] == ["in winter"]
