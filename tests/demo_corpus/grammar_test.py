import dataclasses
import functools

import pytest

from pipelines.demo_corpus import inflection, lexicon
from pipelines.demo_corpus.grammar import (
    Clause,
    Phrase,
    conditional,
    contrast,
    noun_phrase,
    object_question,
    place_phrase,
    pronoun,
    question,
    statement,
    subordinate,
)

NOUN = {noun.english: noun for noun in lexicon.NOUNS}
VERB = {entry.base: entry for entry in lexicon.VERBS}
ADJECTIVE = {adjective.english: adjective for adjective in lexicon.ADJECTIVES}
ADVERB = {adverb.english: adverb for adverb in lexicon.ADVERBS}
DETERMINER = {name: getattr(inflection, name) for name in inflection.__dict__ if name.isupper()}

ANNA = Phrase("Anna", "Anna")
IN_SCHOOL = place_phrase("in", NOUN["school"])
ME, HE, SHE, WE, THEY = map(pronoun, ("I", "he", "she", "we", "they"))


def noun(case, word, determiner="THE", adjective=None, plural=False, **kwargs):
    adjective = ADJECTIVE.get(adjective)
    return noun_phrase(NOUN[word], DETERMINER[determiner], case, plural, adjective, **kwargs)


nom, acc, dat = (functools.partial(noun, case) for case in inflection.CASES)


def clause(subject, base, *objects, adverb=None, **kwargs):
    return Clause(subject, VERB[base], objects=objects, adverb=ADVERB.get(adverb), **kwargs)


def be(subject, adjective, **kwargs):
    return Clause(subject, inflection.BE, complement=ADJECTIVE[adjective], **kwargs)


def both(sentence):
    return f"{sentence.english} | {sentence.german}"


class NounPhraseTest:
    @pytest.mark.parametrize(
        ("determiner", "word", "expected"),
        [
            ("THE", "dog", "der alte Hund, den alten Hund, dem alten Hund"),
            ("THE", "cat", "die alte Katze, die alte Katze, der alten Katze"),
            ("THE", "horse", "das alte Pferd, das alte Pferd, dem alten Pferd"),
            ("A", "dog", "ein alter Hund, einen alten Hund, einem alten Hund"),
            ("A", "cat", "eine alte Katze, eine alte Katze, einer alten Katze"),
            ("A", "horse", "ein altes Pferd, ein altes Pferd, einem alten Pferd"),
            ("NO", "dog", "kein alter Hund, keinen alten Hund, keinem alten Hund"),
            ("OUR", "cat", "unsere alte Katze, unsere alte Katze, unserer alten Katze"),
            ("HER", "horse", "ihr altes Pferd, ihr altes Pferd, ihrem alten Pferd"),
            ("THIS", "dog", "dieser alte Hund, diesen alten Hund, diesem alten Hund"),
            ("EVERY", "horse", "jedes alte Pferd, jedes alte Pferd, jedem alten Pferd"),
            ("WHICH", "cat", "welche alte Katze, welche alte Katze, welcher alten Katze"),
        ],
    )
    def test_the_singular_declines(self, determiner, word, expected):
        declined = [noun(case, word, determiner, "old").german for case in inflection.CASES]
        assert ", ".join(declined) == expected

    @pytest.mark.parametrize(
        ("determiner", "expected"),
        [
            ("THE", "die alten Hunde, die alten Hunde, den alten Hunden"),
            ("NO", "keine alten Hunde, keine alten Hunde, keinen alten Hunden"),
            ("HIS", "seine alten Hunde, seine alten Hunde, seinen alten Hunden"),
            ("THIS", "diese alten Hunde, diese alten Hunde, diesen alten Hunden"),
            ("BARE", "alte Hunde, alte Hunde, alten Hunden"),
            ("MANY", "viele alte Hunde, viele alte Hunde, vielen alten Hunden"),
        ],
    )
    def test_the_plural_declines(self, determiner, expected):
        declined = [
            noun(case, "dog", determiner, "old", plural=True).german for case in inflection.CASES
        ]
        assert ", ".join(declined) == expected

    @pytest.mark.parametrize(
        ("phrase", "english", "german"),
        [
            (nom("apple", "A"), "an apple", "ein Apfel"),
            (nom("apple", "A", "fresh"), "a fresh apple", "ein frischer Apfel"),
            (nom("dog", "A", "old"), "an old dog", "ein alter Hund"),
            (acc("coat", adjective="expensive"), "the expensive coat", "den teuren Mantel"),
            (dat("forest", adjective="dark"), "the dark forest", "dem dunklen Wald"),
            (nom("dog", "THIS", plural=True), "these dogs", "diese Hunde"),
            (
                dat("mouse", "BARE", "white", plural=True, numeral=("three", "drei")),
                "three white mice",
                "drei weißen Mäusen",
            ),
            (
                nom("child", "THE", "small", plural=True, numeral=("17", "17")),
                "the 17 small children",
                "die 17 kleinen Kinder",
            ),
        ],
    )
    def test_both_languages_agree(self, phrase, english, german):
        assert (phrase.english, phrase.german) == (english, german)

    @pytest.mark.parametrize(
        ("preposition", "word", "determiner", "english", "german"),
        [
            ("in", "garden", "THE", "in the garden", "im Garten"),
            ("in", "kitchen", "THE", "in the kitchen", "in der Küche"),
            ("in", "house", "THIS", "in this house", "in diesem Haus"),
            ("into", "garden", "THE", "into the garden", "in den Garten"),
            ("into", "house", "THE", "into the house", "ins Haus"),
            ("behind", "house", "THE", "behind the house", "hinter dem Haus"),
            ("in front of", "tower", "OUR", "in front of our tower", "vor unserem Turm"),
        ],
    )
    def test_a_place_takes_the_case_of_its_preposition(
        self, preposition, word, determiner, english, german
    ):
        phrase = place_phrase(preposition, NOUN[word], DETERMINER[determiner])
        assert (phrase.english, phrase.german) == (english, german)


class StatementTest:
    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (
                clause(nom("dog", adjective="old"), "see", acc("child", "THE", "small")),
                "The old dog sees the small child. | Der alte Hund sieht das kleine Kind.",
            ),
            (clause(ME, "feed", acc("pig", "MY")), "I feed my pig. | Ich füttere mein Schwein."),
            (
                clause(nom("boy"), "open", acc("door", "A"), adverb="often"),
                "The boy often opens a door. | Der Junge macht oft eine Tür auf.",
            ),
            (
                clause(SHE, "read", acc("novel"), tense="progressive"),
                "She is reading the novel. | Sie liest gerade den Roman.",
            ),
            (
                clause(WE, "follow", pronoun("he", "dative"), tense="progressive"),
                "We are following him. | Wir folgen ihm gerade.",
            ),
            (
                clause(WE, "buy", acc("egg", "A"), tense="past", adverb="today", place=IN_SCHOOL),
                "We bought an egg in the school today. | "
                "Wir haben heute in der Schule ein Ei gekauft.",
            ),
            (
                clause(nom("cat", plural=True), "follow", dat("man"), tense="past"),
                "The cats followed the man. | Die Katzen sind dem Mann gefolgt.",
            ),
            (
                clause(THEY, "call", pronoun("she", "accusative"), tense="future", adverb="soon"),
                "They will call her soon. | Sie werden sie bald anrufen.",
            ),
            (
                clause(nom("woman"), "give", pronoun("they", "dative"), acc("apple", "A")),
                "The woman gives them an apple. | Die Frau gibt ihnen einen Apfel.",
            ),
            (
                clause(ANNA, "buy", acc("shirt"), tense="want"),
                "Anna wants to buy the shirt. | Anna will das Hemd kaufen.",
            ),
            (
                clause(HE, "walk", place=place_phrase("into", NOUN["forest"]), tense="past"),
                "He walked into the forest. | Er ist in den Wald gegangen.",
            ),
        ],
    )
    def test_the_finite_verb_comes_second(self, made, expected):
        assert both(statement(made)) == expected

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (
                clause(ANNA, "eat", acc("egg"), negated=True),
                "Anna does not eat the egg. | Anna isst das Ei nicht.",
            ),
            (
                clause(ANNA, "eat", acc("egg", "NOT_ANY"), negated=True),
                "Anna does not eat an egg. | Anna isst kein Ei.",
            ),
            (
                clause(WE, "need", acc("bag", "NOT_ANY", plural=True), negated=True, tense="past"),
                "We did not need any bags. | Wir haben keine Taschen gebraucht.",
            ),
            (
                clause(ME, "work", place=IN_SCHOOL, adverb="today", negated=True, tense="can"),
                "I cannot work in the school today. | Ich kann heute nicht in der Schule arbeiten.",
            ),
            (
                clause(ANNA, "try on", acc("dress"), tense="progressive", negated=True),
                "Anna is not trying on the dress. | Anna probiert das Kleid gerade nicht an.",
            ),
            (
                be(nom("book"), "short", tense="past", negated=True),
                "The book was not short. | Das Buch war nicht kurz.",
            ),
            (
                clause(nom("student", "NO"), "help", dat("queen")),
                "No student helps the queen. | Kein Student hilft der Königin.",
            ),
        ],
    )
    def test_negation_is_nicht_or_kein(self, made, expected):
        assert both(statement(made)) == expected

    def test_what_is_fronted_makes_german_invert(self):
        made = clause(ANNA, "wait", tense="past", adverb="last week", place=IN_SCHOOL)
        assert both(statement(made, "adverb")) == (
            "Last week Anna waited in the school. | Letzte Woche hat Anna in der Schule gewartet."
        )
        assert both(statement(made, "place")) == (
            "In the school Anna waited last week. | In der Schule hat Anna letzte Woche gewartet."
        )


class QuestionTest:
    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (
                clause(nom("child"), "bring", acc("cake", "A")),
                "Does the child bring a cake? | Bringt das Kind einen Kuchen mit?",
            ),
            (
                clause(THEY, "see", acc("dog"), tense="past", negated=True),
                "Did they not see the dog? | Haben sie den Hund nicht gesehen?",
            ),
            (clause(SHE, "sleep", tense="progressive"), "Is she sleeping? | Schläft sie gerade?"),
            (
                be(nom("bag", plural=True), "heavy"),
                "Are the bags heavy? | Sind die Taschen schwer?",
            ),
        ],
    )
    def test_yes_or_no_puts_the_verb_first(self, made, expected):
        assert both(question(made)) == expected

    def test_a_question_word_comes_before_the_verb(self):
        made = question(clause(HE, "read", acc("letter"), tense="must"), "where", "wo")
        assert both(made) == "Where must he read the letter? | Wo muss er den Brief lesen?"

    def test_a_question_for_the_subject_needs_no_inversion(self):
        made = clause(Phrase("who", "wer"), "write", acc("poem", "THIS"))
        expected = "Who writes this poem? | Wer schreibt dieses Gedicht?"
        assert both(statement(made, mark="?")) == expected

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (
                clause(ANNA, "look for", Phrase("what", "was"), tense="past"),
                "What did Anna look for? | Was hat Anna gesucht?",
            ),
            (clause(WE, "thank", Phrase("who", "wem")), "Who do we thank? | Wem danken wir?"),
            (
                clause(nom("coat"), "belong to", dat("man", "WHICH", "rich")),
                "Which rich man does the coat belong to? | Welchem reichen Mann gehört der Mantel?",
            ),
            (
                clause(SHE, "buy", acc("egg", "HOW_MANY", plural=True), tense="future"),
                "How many eggs will she buy? | Wie viele Eier wird sie kaufen?",
            ),
        ],
    )
    def test_a_question_for_the_object_begins_with_it(self, made, expected):
        assert both(object_question(made)) == expected


class LongerSentenceTest:
    @pytest.mark.parametrize(
        ("tense", "expected"),
        [
            ("present", "Er glaubt, dass sie die Kiste aufmacht."),
            ("past", "Er glaubt, dass sie die Kiste aufgemacht hat."),
            ("future", "Er glaubt, dass sie die Kiste aufmachen wird."),
        ],
    )
    def test_the_verb_of_a_subordinate_clause_comes_last(self, tense, expected):
        part = clause(SHE, "open", acc("box"), tense=tense)
        assert subordinate(Clause(HE, lexicon.THINK), "that", "dass", part).german == expected

    def test_what_is_not_known_is_asked_with_ob(self):
        main = Clause(ME, lexicon.KNOW, negated=True)
        made = subordinate(main, "whether", "ob", clause(ANNA, "sleep", tense="past"))
        assert both(made) == (
            "I do not know whether Anna slept. | Ich weiß nicht, ob Anna geschlafen hat."
        )

    def test_a_cause_follows_with_weil(self):
        part = clause(nom("sister", "HER"), "sleep", tense="can", negated=True)
        assert both(subordinate(be(ANNA, "sad"), "because", "weil", part)) == (
            "Anna is sad because her sister cannot sleep. | "
            "Anna ist traurig, weil ihre Schwester nicht schlafen kann."
        )

    def test_a_condition_in_front_makes_the_main_clause_invert(self):
        condition = clause(HE, "call", acc("doctor"))
        assert both(conditional(condition, clause(THEY, "wait", tense="should"))) == (
            "If he calls the doctor, they should wait. | "
            "Wenn er den Arzt anruft, sollten sie warten."
        )

    def test_aber_changes_no_word_order(self):
        made = contrast(clause(ME, "dance", tense="past"), clause(WE, "work", tense="past"))
        expected = "I danced, but we worked. | Ich habe getanzt, aber wir haben gearbeitet."
        assert both(made) == expected


class CombinationsTest:
    def test_a_clause_lists_adjectives_and_the_object_of_its_verb(self):
        made = clause(
            nom("woman", adjective="rich"),
            "give",
            dat("boy", adjective="tired"),
            acc("book", adjective="old", plural=True),
        )
        assert set(made.combinations()) == {
            ("adjective", "rich", "woman"),
            ("adjective", "tired", "boy"),
            ("adjective", "old", "book"),
            ("verb", "give", "book"),
        }

    def test_a_predicate_adjective_counts(self):
        assert be(nom("cat"), "black").combinations() == (("adjective", "black", "cat"),)

    def test_a_sentence_has_those_of_all_its_clauses_and_of_what_is_fronted(self):
        place = place_phrase("behind", NOUN["house"], adjective=ADJECTIVE["big"])
        part = clause(HE, "eat", acc("pear"), place=place)
        expected = {("adjective", "big", "house"), ("verb", "eat", "pear")}
        assert set(statement(part, "place").combinations) == expected
        assert set(contrast(clause(ME, "sleep"), part).combinations) == expected
        asked = dataclasses.replace(part, objects=(acc("pear", "WHICH"),))
        assert set(object_question(asked).combinations) == expected
