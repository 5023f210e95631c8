"""How the words of the demo corpus inflect: word classes, endings, and the words of grammar.

The words that carry meaning are in `lexicon`. An object "sie" is always "her", never "them", and an
article "ihr" is "her", never "their", so that each sentence has one translation in both directions.
"""

import dataclasses

FIRST, THIRD, PLURAL = 0, 1, 2  # the subject's agreement: I, he, they; the index of a verb's forms
CASES = ("nominative", "accusative", "dative")

Endings = dict[str, dict[str, str]]  # by case, then by gender or plural


def endings(*rows: str) -> Endings:
    """Reads a table of endings: a row a case, columns m, f, n and plural, a dash for none."""
    columns = ("m", "f", "n", "plural")
    words = ([word.strip("-") for word in row.split()] for row in rows)
    tables = (dict(zip(columns, row, strict=True)) for row in words)
    return dict(zip(CASES, tables, strict=True))


DEFINITE = endings("er ie as ie", "en ie as ie", "em er em en")
STRONG = endings("er e es e", "en e es e", "em er em en")
EIN = endings("- e - e", "en e - e", "em er em en")
WEAK = endings("e e e en", "en e e en", "en en en en")
MIXED = endings("er e es en", "en e es en", "en en en en")


@dataclasses.dataclass(frozen=True, eq=False)
class Noun:
    """A countable noun; `weak` is added outside the nominative singular (der Junge, den Jungen)."""

    english: str
    english_plural: str
    german: str
    gender: str
    german_plural: str
    kinds: str
    weak: str = ""

    def in_case(self, case: str, plural: bool) -> str:
        """Returns the German noun in `case`."""
        if not plural:
            return self.german + (self.weak if case != "nominative" else "")
        dative = case == "dative" and self.german_plural[-1] not in "ns"
        return self.german_plural + ("n" if dative else "")


@dataclasses.dataclass(frozen=True, eq=False)
class Adjective:
    """An adjective; `stem` is what takes endings where it is not the bare form (teuer, teurer)."""

    english: str
    german: str
    kinds: str
    group: str  # A noun takes one adjective of a group.
    stem: str = ""
    state: bool = False  # something that comes and goes, and so may have a cause


@dataclasses.dataclass(frozen=True, eq=False)
class Determiner:
    """An article or the like; a number it lacks is `None`, and `known` means it is definite."""

    singular: str | None
    plural: str | None
    stem: str
    endings: Endings
    adjective_endings: Endings
    known: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Verb:
    """A verb and its principal parts; `ing` is empty where English avoids the progressive."""

    base: str
    third: str
    past: str
    ing: str
    infinitive: str
    german_third: str
    participle: str
    objects: str = ""  # kinds of noun
    subjects: str = "person"
    case: str = "accusative"  # of the object
    prefix: str = ""  # separable
    auxiliary: str = "haben"
    recipient: bool = False  # has a person in the dative before the object
    place: str = "where"  # may have one; or "whereto", needs one; or "", has none
    timeless: bool = False  # has no adverb of time
    modal: bool = True  # whether can, must, should and want to go with it
    german_first: str = ""  # the form with ich, if irregular

    def finite(self, agreement: int) -> str:
        """Returns the German present tense without a separable prefix."""
        infinitive = self.infinitive.removeprefix(self.prefix)
        if agreement == FIRST:
            regular = infinitive[:-1] if infinitive.endswith("en") else infinitive[:-1] + "e"
            return self.german_first or regular
        return self.german_third if agreement == THIRD else infinitive


@dataclasses.dataclass(frozen=True, eq=False)
class Adverb:
    """An adverbial of time; one of frequency is not negated, since it would be "not often"."""

    english: str
    german: str
    tenses: str
    frequency: bool = False
    before_verb: bool = False  # in English


def verb(english: str, german: str, objects: str = "", subjects: str = "person", **kwargs) -> Verb:
    """Reads a verb from its English and its German principal parts; a dash is none."""
    base, third, past, ing, infinitive, german_third, participle = (
        form.strip("-") for form in f"{english}, {german}".split(", ")
    )
    return Verb(
        base,
        third,
        past,
        ing,
        infinitive,
        german_third,
        participle,
        objects,
        subjects,
        **kwargs,
    )


THE = Determiner("the", "the", "d", DEFINITE, WEAK, known=True)
THIS = Determiner("this", "these", "dies", STRONG, WEAK, known=True)
MY = Determiner("my", "my", "mein", EIN, MIXED, known=True)
HIS = Determiner("his", "his", "sein", EIN, MIXED, known=True)
HER = Determiner("her", "her", "ihr", EIN, MIXED, known=True)
OUR = Determiner("our", "our", "unser", EIN, MIXED, known=True)
A = Determiner("a", None, "ein", EIN, MIXED)
BARE = Determiner(None, "", "", STRONG, STRONG)
NO = Determiner("no", "no", "kein", EIN, MIXED)
NOT_ANY = Determiner("a", "any", "kein", EIN, MIXED)  # the object of an English "not"
EVERY = Determiner("every", None, "jed", STRONG, WEAK)
MANY = Determiner(None, "many", "viel", STRONG, STRONG)
WHICH = Determiner("which", "which", "welch", STRONG, WEAK)
HOW_MANY = Determiner(None, "how many", "wie viel", STRONG, STRONG)
POSSESSIVES = (MY, HIS, HER, OUR)

BE = verb("be, -, -, -", "sein, -, -")
MODALS = ("can", "must", "should", "want")
ENGLISH_AUXILIARIES = {"future": "will", "can": "can", "must": "must", "should": "should"}
ENGLISH_BE = {"present": ("am", "is", "are"), "past": ("was", "was", "were")}  # I, he, they
ENGLISH_DO = {"present": ("do", "does", "do"), "past": ("did", "did", "did")}
GERMAN_BE = {"present": ("bin", "ist", "sind"), "past": ("war", "war", "waren")}
GERMAN_AUXILIARIES = {  # ich, er, sie
    "sein": ("bin", "ist", "sind"),
    "haben": ("habe", "hat", "haben"),
    "future": ("werde", "wird", "werden"),
    "can": ("kann", "kann", "können"),
    "must": ("muss", "muss", "müssen"),
    "should": ("sollte", "sollte", "sollten"),
    "want": ("will", "will", "wollen"),
}
PRONOUNS = {  # English object, German by case, agreement; None is left out
    "I": ("me", ("ich", "mich", "mir"), FIRST),
    "he": ("him", ("er", "ihn", "ihm"), THIRD),
    "she": ("her", ("sie", "sie", "ihr"), THIRD),
    "we": ("us", ("wir", "uns", "uns"), PLURAL),
    "they": ("them", ("sie", None, "ihnen"), PLURAL),
}
