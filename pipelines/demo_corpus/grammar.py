"""The grammar of the demo corpus: phrases, clauses and sentences in English and German at once.

Forms come from the tables of `lexicon`. Each English sentence has exactly one German translation.
Between its two verbs stand what is known, the time, "nicht", the place and what is new, in this
order. The perfect translates the past. "gerade" translates the progressive, and stands before
everything but pronouns and negated objects.
"""

import dataclasses

from pipelines.demo_corpus import inflection, lexicon
from pipelines.demo_corpus.inflection import (
    NOT_ANY,
    PLURAL,
    THE,
    THIRD,
    Adjective,
    Adverb,
    Determiner,
    Noun,
    Verb,
)

Combination = tuple[str, str, str]  # "adjective" or "verb", the word, the noun


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence pair, and the combinations of words that it contains."""

    english: str
    german: str
    combinations: tuple[Combination, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Phrase:
    """A noun phrase or a phrase of place in both languages; `known` if it is definite."""

    english: str
    german: str
    agreement: int = THIRD
    known: bool = True
    pronoun: bool = False
    determiner: Determiner | None = None
    noun: Noun | None = None
    adjective: Adjective | None = None

    def combinations(self) -> tuple[Combination, ...]:
        """Lists the adjective with its noun, if there are both."""
        if self.adjective and self.noun:
            return (_combination(self.adjective, self.noun),)
        return ()


@dataclasses.dataclass(frozen=True, eq=False)
class Clause:
    """The parts of a clause before either language orders them; a recipient precedes the object."""

    subject: Phrase
    verb: Verb
    tense: str = "present"
    objects: tuple[Phrase, ...] = ()
    complement: Adjective | None = None  # of the verb "be"
    adverb: Adverb | None = None
    place: Phrase | None = None
    negated: bool = False

    def combinations(self) -> tuple[Combination, ...]:
        """Lists the combinations of the clause and of its phrases."""
        combinations = self.subject.combinations()
        for phrase in (*self.objects, self.place):
            combinations += phrase.combinations() if phrase else ()
        if self.objects and self.objects[-1].noun:
            combinations += (("verb", self.verb.base, self.objects[-1].noun.english),)
        if self.complement and self.subject.noun:
            combinations += (_combination(self.complement, self.subject.noun),)
        return combinations


def _combination(adjective: Adjective, noun: Noun) -> Combination:
    return ("adjective", adjective.english, noun.english)


def join(*words: str | None) -> str:
    """Joins the words that are not empty."""
    return " ".join(word for word in words if word)


# Phrases.


def noun_phrase(
    noun: Noun,
    determiner: Determiner = THE,
    case: str = "nominative",
    plural: bool = False,
    adjective: Adjective | None = None,
    numeral: tuple[str, str] = ("", ""),
) -> Phrase:
    """Builds determiner, numeral, adjective and noun, agreeing in gender, case and number."""
    column = "plural" if plural else noun.gender
    english = join(
        numeral[0],
        adjective.english if adjective else "",
        noun.english_plural if plural else noun.english,
    )
    article = determiner.plural if plural else determiner.singular
    if article == "a" and english[0] in "aeiou":
        article = "an"
    german_article = determiner.stem and determiner.stem + determiner.endings[case][column]
    german_adjective = ""
    if adjective:
        stem = adjective.stem or adjective.german
        german_adjective = stem + determiner.adjective_endings[case][column]
    return Phrase(
        join(article, english),
        join(german_article, numeral[1], german_adjective, noun.in_case(case, plural)),
        PLURAL if plural else THIRD,
        known=determiner.known,
        determiner=determiner,
        noun=noun,
        adjective=adjective,
    )


def pronoun(english: str, case: str = "nominative") -> Phrase:
    """Builds the personal pronoun that has the subject form `english` ("I", "he", ...)."""
    other, german, agreement = inflection.PRONOUNS[english]
    subject = case == "nominative"
    german_form = german[inflection.CASES.index(case)]
    if german_form is None:
        raise ValueError(f"Expected a pronoun that has the case {case}, received {english!r}.")
    return Phrase(english if subject else other, german_form, agreement, pronoun=True)


def place_phrase(preposition: str, noun: Noun, determiner: Determiner = THE, **kwargs) -> Phrase:
    """Puts a preposition before a noun phrase: dative for where, accusative after "into"."""
    case = "accusative" if preposition == "into" else "dative"
    phrase = noun_phrase(noun, determiner, case, **kwargs)
    german = f"{lexicon.PREPOSITIONS[preposition][0]} {phrase.german}"
    for full, short in lexicon.CONTRACTIONS.items():
        german = german.replace(full, short)
    return dataclasses.replace(phrase, english=f"{preposition} {phrase.english}", german=german)


# Clauses.


def english_predicate(clause: Clause, inverted: bool) -> tuple[str, str]:
    """Returns the auxiliary, required by "not" and by inversion, and the main verb."""
    verb, tense, agreement = clause.verb, clause.tense, clause.subject.agreement
    if tense in inflection.ENGLISH_AUXILIARIES:
        return inflection.ENGLISH_AUXILIARIES[tense], verb.base
    if tense == "progressive":
        return inflection.ENGLISH_BE["present"][agreement], verb.ing
    if verb is inflection.BE:
        return inflection.ENGLISH_BE[tense][agreement], ""
    base = f"want to {verb.base}" if tense == "want" else verb.base
    if clause.negated or inverted:
        return inflection.ENGLISH_DO["past" if tense == "past" else "present"][agreement], base
    if tense == "past":
        return "", verb.past
    if agreement != THIRD:
        return "", base
    return "", f"wants to {verb.base}" if tense == "want" else verb.third


def english_clause(clause: Clause, inverted: bool = False) -> str:
    """Orders an English clause; a question is inverted: its auxiliary precedes the subject."""
    auxiliary, main = english_predicate(clause, inverted)
    adverb = clause.adverb.english if clause.adverb else ""
    early = clause.adverb is not None and clause.adverb.before_verb
    subject = clause.subject.english
    text = join(
        *((auxiliary, subject) if inverted else (subject, auxiliary)),
        "not" if clause.negated else "",
        adverb if early else "",
        main,
        *(phrase.english for phrase in clause.objects),
        clause.complement.english if clause.complement else "",
        clause.place.english if clause.place else "",
        "" if early else adverb,
    )
    return text.replace(" can not ", " cannot ")


def german_predicate(clause: Clause) -> tuple[str, str, str]:
    """Returns the finite verb, the prefix that it leaves behind, and the verb at the end."""
    verb, tense, agreement = clause.verb, clause.tense, clause.subject.agreement
    if verb is inflection.BE and tense in inflection.GERMAN_BE:
        return inflection.GERMAN_BE[tense][agreement], "", ""
    if tense in ("present", "progressive"):
        return verb.finite(agreement), verb.prefix, ""
    auxiliary = verb.auxiliary if tense == "past" else tense
    final = verb.participle if tense == "past" else verb.infinitive
    return inflection.GERMAN_AUXILIARIES[auxiliary][agreement], "", final


def german_clause(clause: Clause, finite_verb: str = "second") -> str:
    """Orders a German clause, whose finite verb is "first", "second" or "last"."""
    finite, prefix, final = german_predicate(clause)
    adverb = clause.adverb.german if clause.adverb else ""
    before = clause.tense == "progressive" and not clause.negated  # "gerade" stands before nouns
    negative_object = any(phrase.determiner is NOT_ANY for phrase in clause.objects)
    late = [p for p in clause.objects if not p.known or (before and not p.pronoun)]
    middle = join(
        *(phrase.german for phrase in clause.objects if phrase not in late),
        "gerade" if clause.tense == "progressive" else adverb,
        "nicht" if clause.negated and not negative_object else "",
        clause.place.german if clause.place else "",
        *(phrase.german for phrase in late),
        clause.complement.german if clause.complement else "",
    )
    subject = clause.subject.german
    if finite_verb == "last":
        return join(subject, middle, final, prefix + finite)
    beginning = (subject, finite) if finite_verb == "second" else (finite, subject)
    return join(*beginning, middle, prefix, final)


# Sentences.


def sentence(english: str, german: str, mark: str, *clauses: Clause) -> Sentence:
    """Adds the capitals and the mark at the end."""
    combinations = sum((clause.combinations() for clause in clauses), ())
    english, german = (text[0].upper() + text[1:] + mark for text in (english, german))
    return Sentence(english, german, combinations)


def statement(clause: Clause, fronted: str = "", mark: str = ".") -> Sentence:
    """Builds a main clause; a `fronted` "adverb" or "place" makes German invert."""
    if not fronted:
        return sentence(english_clause(clause), german_clause(clause), mark, clause)
    front = getattr(clause, fronted)
    if fronted == "adverb":
        rest = dataclasses.replace(clause, adverb=None)
    else:
        rest = dataclasses.replace(clause, place=None)
    return sentence(
        f"{front.english} {english_clause(rest)}",
        f"{front.german} {german_clause(rest, 'first')}",
        mark,
        clause,
    )


def question(clause: Clause, english: str = "", german: str = "") -> Sentence:
    """Builds a yes-no question, or with a question word one about what the clause lacks."""
    return sentence(
        join(english, english_clause(clause, inverted=True)),
        join(german, german_clause(clause, "first")),
        "?",
        clause,
    )


def object_question(clause: Clause) -> Sentence:
    """Builds a question that begins with the object, which holds the question word."""
    asked = clause.objects[-1]
    rest = dataclasses.replace(clause, objects=clause.objects[:-1])
    asking = question(rest, asked.english, asked.german)
    return dataclasses.replace(asking, combinations=clause.combinations())


def subordinate(main: Clause, english: str, german: str, clause: Clause) -> Sentence:
    """Adds a subordinate clause, whose German verb comes last, after a main clause."""
    return sentence(
        f"{english_clause(main)} {english} {english_clause(clause)}",
        f"{german_clause(main)}, {german} {german_clause(clause, 'last')}",
        ".",
        main,
        clause,
    )


def conditional(condition: Clause, main: Clause) -> Sentence:
    """Puts an if-clause in front, after which the German main clause begins with its verb."""
    return sentence(
        f"if {english_clause(condition)}, {english_clause(main)}",
        f"wenn {german_clause(condition, 'last')}, {german_clause(main, 'first')}",
        ".",
        condition,
        main,
    )


def contrast(first: Clause, second: Clause) -> Sentence:
    """Joins two main clauses with "but"."""
    return sentence(
        f"{english_clause(first)}, but {english_clause(second)}",
        f"{german_clause(first)}, aber {german_clause(second)}",
        ".",
        first,
        second,
    )
