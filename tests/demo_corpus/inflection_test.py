import pytest

from pipelines.demo_corpus import lexicon
from pipelines.demo_corpus.inflection import (
    CASES,
    FIRST,
    PLURAL,
    STRONG,
    THIRD,
    Verb,
    endings,
    verb,
)

NOUN = {noun.english: noun for noun in lexicon.NOUNS}
VERB = {entry.base: entry for entry in lexicon.VERBS}


class EndingsTest:
    def test_a_table_is_read_by_case_and_column(self):
        table = endings("a b c d", "e - g h", "i j k l")
        assert table["accusative"] == {"m": "e", "f": "", "n": "g", "plural": "h"}
        assert table["dative"]["plural"] == "l"

    def test_a_table_that_lacks_a_column_is_refused(self):
        with pytest.raises(ValueError):
            endings("a b c", "a b c", "a b c")

    def test_the_strong_endings_are_those_of_the_article(self):
        assert [STRONG[case]["m"] for case in CASES] == ["er", "en", "em"]


class NounTest:
    @pytest.mark.parametrize(
        ("noun", "singular", "plural"),
        [
            ("dog", "Hund Hund Hund", "Hunde Hunde Hunden"),
            ("boy", "Junge Jungen Jungen", "Jungen Jungen Jungen"),
            ("student", "Student Studenten Studenten", "Studenten Studenten Studenten"),
            ("neighbor", "Nachbar Nachbarn Nachbarn", "Nachbarn Nachbarn Nachbarn"),
            ("apple", "Apfel Apfel Apfel", "Äpfel Äpfel Äpfeln"),
            ("daughter", "Tochter Tochter Tochter", "Töchter Töchter Töchtern"),
            ("radio", "Radio Radio Radio", "Radios Radios Radios"),
            ("girl", "Mädchen Mädchen Mädchen", "Mädchen Mädchen Mädchen"),
            ("castle", "Schloss Schloss Schloss", "Schlösser Schlösser Schlössern"),
        ],
    )
    def test_a_noun_declines(self, noun, singular, plural):
        assert [NOUN[noun].in_case(case, plural=False) for case in CASES] == singular.split()
        assert [NOUN[noun].in_case(case, plural=True) for case in CASES] == plural.split()


class VerbTest:
    @pytest.mark.parametrize(
        ("base", "forms"),
        [
            ("see", "sehe sieht sehen"),
            ("carry", "trage trägt tragen"),
            ("feed", "füttere füttert füttern"),
            ("work", "arbeite arbeitet arbeiten"),
            ("invite", "lade lädt laden"),
            ("open", "mache macht machen"),
            ("try on", "probiere probiert probieren"),
        ],
    )
    def test_a_verb_conjugates_without_its_prefix(self, base, forms):
        assert [VERB[base].finite(who) for who in (FIRST, THIRD, PLURAL)] == forms.split()

    def test_an_irregular_first_person_is_kept(self):
        assert lexicon.KNOW.finite(FIRST) == "weiß"
        assert lexicon.KNOW.finite(PLURAL) == "wissen"

    def test_a_dash_among_the_principal_parts_is_no_form(self):
        entry = verb("see, sees, saw, -", "sehen, sieht, gesehen", "person")
        assert isinstance(entry, Verb)
        assert (entry.past, entry.ing, entry.infinitive, entry.objects) == (
            "saw",
            "",
            "sehen",
            "person",
        )
