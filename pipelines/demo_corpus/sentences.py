"""Draws random sentences of the demo corpus that somebody could say.

`lexicon` knows which words go together and `grammar` how to put them together; this module chooses
among them. Every function takes its randomness from the `rng` it is given.
"""

import dataclasses
import functools
import random
from collections.abc import Sequence

from pipelines.demo_corpus import grammar, lexicon
from pipelines.demo_corpus.grammar import Clause, Phrase, Sentence
from pipelines.demo_corpus.inflection import (
    BARE,
    BE,
    EVERY,
    HOW_MANY,
    MANY,
    NO,
    NOT_ANY,
    PLURAL,
    POSSESSIVES,
    THE,
    THIS,
    WHICH,
    A,
    Adjective,
    Determiner,
    Noun,
    Verb,
)

ALL_KINDS = f"person {lexicon.GOODS} opening place"
WHO = Phrase("who", "wer")
WHOM = {"accusative": Phrase("who", "wen"), "dative": Phrase("who", "wem")}
WHAT = Phrase("what", "was")
QUESTION_WORDS = {"": "", "where": "wo", "when": "wann", "why": "warum"}
FUTURES = ("future", "can", "must", "should")

# The determiners of a noun in each role, singular and plural. One that is listed more often is
# drawn more often. Possessives join those that include THE.
ROLES = {
    "subject": (
        (THE, THE, THE, THE, A, A, A, THIS, EVERY, NO),
        (THE, THE, THE, BARE, BARE, BARE, THIS, MANY, NO),
    ),
    "object": ((THE, THE, THE, A, A, A, A, THIS, EVERY), (THE, THE, BARE, BARE, BARE, THIS, MANY)),
    "known": ((THE, THE, THE, THE, THIS), (THE, THE, THE, THE, THIS)),
    "asked": ((THE, THE, THE, THE, THIS), (THE, THE, THE, THE, THIS)),  # without "I"
    "new": ((A,), (BARE, BARE, MANY)),
    "recipient": ((THE, THE, THE, A, A, A, THIS), (THE, THE, THE, THIS)),
    "negated": ((THE, THE, THE, NOT_ANY, NOT_ANY, NOT_ANY, THIS), (THE, THE, NOT_ANY, NOT_ANY)),
    "place": ((THE, THE, THE, THE, THE, A, A, THIS), (BARE, BARE, MANY)),
    "which": ((WHICH,), (WHICH, HOW_MANY, HOW_MANY)),
}


@functools.cache
def determiners_of(noun: Noun, role: str, plural: bool) -> tuple[Determiner, ...]:
    """Lists the determiners of a noun in a role."""
    kinds = noun.kinds.split()
    plain = ROLES[role][plural]
    owners = POSSESSIVES if THE in plain and "unowned" not in kinds else ()
    return owners if owners and "kin" in kinds else plain + owners


# Random phrases.


def random_noun(
    rng: random.Random,
    kinds: str,
    case: str,
    role: str,
    avoid: Noun | None = None,
    adjective_probability: float = 0.45,
) -> Phrase:
    """Draws a noun phrase, with an adjective in some of the cases."""
    noun = rng.choice(lexicon.nouns_of(kinds))
    while noun is avoid:
        noun = rng.choice(lexicon.nouns_of(kinds))
    plural = rng.random() < 0.35
    determiner = rng.choice(determiners_of(noun, role, plural))
    has_adjective = rng.random() < adjective_probability
    adjective = rng.choice(lexicon.adjectives_of(noun)) if has_adjective else None
    numeral = ("", "")
    counted = {BARE: 1.0 if role == "subject" else 0.5, THE: 0.2}.get(determiner, 0.0)
    if plural and rng.random() < counted:
        numeral = rng.choice(lexicon.NUMERALS)
    return grammar.noun_phrase(noun, determiner, case, plural, adjective, numeral)


def random_subject(rng: random.Random, kinds: str, role: str) -> Phrase:
    """Draws a subject; a person may be a pronoun, a name or two names."""
    draw = rng.random()
    if "person" not in kinds or draw < 0.55:
        return random_noun(rng, kinds, "nominative", role)
    if draw < 0.8:
        myself = () if role == "asked" else ("I", "I")
        return grammar.pronoun(rng.choice(("he", "she", "we", "they", *myself)))
    if draw < 0.95:
        name = rng.choice(lexicon.NAMES)
        return Phrase(name, name)
    first, second = rng.sample(lexicon.NAMES, 2)
    return Phrase(f"{first} and {second}", f"{first} und {second}", PLURAL)


def random_object(rng: random.Random, kinds: str, case: str, role: str, subject: Phrase) -> Phrase:
    """Draws an object other than the subject; a person may be a pronoun or a name."""
    draw = rng.random() if "person" in kinds else 1.0
    if draw < 0.2:
        myself = subject.german in ("ich", "wir")
        pronouns: tuple[str, ...] = ("he", "she") if myself else ("he", "she", "I", "we")
        pronouns += ("they",) if case == "dative" else ()
        return grammar.pronoun(rng.choice(pronouns), case)
    if draw < 0.35:
        name = rng.choice([name for name in lexicon.NAMES if name not in subject.english])
        return Phrase(name, name)
    return random_noun(rng, kinds, case, role, avoid=subject.noun)


def random_place(rng: random.Random, preposition: str, role: str, avoid: list[Noun]) -> Phrase:
    """Draws a phrase of place."""
    places = lexicon.nouns_of(lexicon.PREPOSITIONS[preposition][1])
    noun = rng.choice([noun for noun in places if noun not in avoid])
    plural = role == "place" and rng.random() < 0.15
    determiner = rng.choice(determiners_of(noun, role, plural))
    adjective = rng.choice(lexicon.adjectives_of(noun)) if rng.random() < 0.25 else None
    return grammar.place_phrase(preposition, noun, determiner, plural=plural, adjective=adjective)


# Random clauses.


def random_clause(
    rng: random.Random, role: str = "known", tense: str = "", negatable: bool = True
) -> Clause:
    """Draws a clause with an object, if its verb takes one, and perhaps a time and a place.

    Args:
        rng: random.Random. The source of all choices.
        role: str. Of the subject: "subject", "known" where "no" would be odd, or "asked".
        tense: str. A tense or modal; any if empty.
        negatable: bool. Whether the clause may be negated.

    Returns:
        Clause.
    """
    verb = rng.choice(lexicon.VERBS)
    while tense and tense not in lexicon.tenses_of(verb):
        verb = rng.choice(lexicon.VERBS)
    tense = tense or rng.choice(lexicon.tenses_of(verb))
    role = "known" if tense == "must" and role == "subject" else role  # "no one must" is unclear
    subject = random_subject(rng, verb.subjects, role)
    sweeping = subject.determiner in (NO, EVERY, MANY)
    negated = negatable and not sweeping and tense != "must" and rng.random() < 0.3
    objects = random_objects(rng, verb, subject, negated)
    sweeping = sweeping or any(phrase.determiner is EVERY for phrase in objects)
    adverbs = lexicon.adverbs_of(tense, frequency=not (negated or sweeping))
    timed = adverbs and not verb.timeless and rng.random() < 0.45
    return Clause(
        subject,
        verb,
        tense,
        objects,
        adverb=rng.choice(adverbs) if timed else None,
        place=random_place_of(rng, verb, (subject, *objects), negated),
        negated=negated,
    )


def random_objects(
    rng: random.Random, verb: Verb, subject: Phrase, negated: bool
) -> tuple[Phrase, ...]:
    """Draws the objects of a verb: none, one, or a recipient and one."""
    role = "negated" if negated else "object"
    if not verb.objects:
        return ()
    if not verb.recipient:
        return (random_object(rng, verb.objects, verb.case, role, subject),)
    recipient_role = "known" if negated else "recipient"
    recipient = random_object(rng, "person", "dative", recipient_role, subject)
    while recipient.english == "her":  # "gives her books" could be two things
        recipient = random_object(rng, "person", "dative", recipient_role, subject)
    role = role if recipient.known else "new"
    return (recipient, random_noun(rng, verb.objects, verb.case, role))


def random_place_of(
    rng: random.Random, verb: Verb, participants: tuple[Phrase, ...], negated: bool
) -> Phrase | None:
    """Draws where it happens, unless the sentence is full or its object is itself a place."""
    nouns = [phrase.noun for phrase in participants if phrase.noun]
    role = "known" if negated else "place"
    if verb.place == "whereto":
        return random_place(rng, "into", role, nouns)
    fixed = not set(nouns).isdisjoint(lexicon.nouns_of("place opening"))
    if not verb.place or verb.recipient or fixed or rng.random() > (0.2 if verb.objects else 0.8):
        return None
    preposition = rng.choice(("in", "in", "in", "behind", "next to", "in front of"))
    return random_place(rng, preposition, role, nouns)


def random_description(
    rng: random.Random, role: str = "known", tense: str = "", state: bool = False
) -> Clause:
    """Draws "somebody is tired" or "something is old"; `state` asks for the former."""
    draw = rng.random()
    adjectives: Sequence[Adjective]
    if state or draw < 0.4:
        subject = random_subject(rng, "person", role)
        adjectives = [adjective for adjective in lexicon.ADJECTIVES if adjective.state]
    else:
        subject = random_noun(rng, ALL_KINDS, "nominative", role, adjective_probability=0.6)
        adjectives = lexicon.adjectives_of(subject.noun)
    if subject.adjective:
        adjectives = [word for word in adjectives if word.group != subject.adjective.group]
    return Clause(
        subject,
        BE,
        tense or rng.choice(("present", "past")),
        complement=rng.choice(adjectives),
        negated=subject.determiner not in (NO, EVERY, MANY) and rng.random() < 0.3,
    )


# Random sentences, a function a pattern.


def random_statement(rng: random.Random) -> Sentence:
    """Draws a main clause, sometimes with the time or the place in front."""
    clause = random_clause(rng, "subject")
    front = ""
    if clause.adverb and not clause.adverb.before_verb and rng.random() < 0.6:
        front = "adverb"
    elif clause.place and not clause.negated and rng.random() < 0.4:
        front = "place" if clause.verb.place == "where" else ""
    return grammar.statement(clause, front)


def random_description_sentence(rng: random.Random) -> Sentence:
    """Draws a statement or a question with "be"."""
    if rng.random() < 0.7:
        return grammar.statement(random_description(rng, "subject"))
    return grammar.question(random_description(rng, "asked"))


def random_price(rng: random.Random) -> Sentence:
    """Draws a statement of a price, or a question about it."""
    draw = rng.random()
    role = "subject" if draw < 0.6 else "asked"
    subject = random_noun(rng, lexicon.GOODS, "nominative", role, adjective_probability=0.8)
    tense = rng.choice(("present", "present", "future"))
    english, german = rng.choice(lexicon.NUMERALS)
    price = Phrase(f"{english} euros", f"{german} Euro", known=False)
    clause = Clause(subject, lexicon.COST, tense, (price,))
    if draw < 0.6:
        return grammar.statement(clause)
    if draw < 0.8:
        return grammar.question(clause)
    return grammar.question(dataclasses.replace(clause, objects=()), "how much", "wie viel")


def random_question(rng: random.Random) -> Sentence:
    """Draws a yes-no question, or one with where, when or why."""
    word = rng.choice(("", "", "", "where", "when", "why"))
    clause = random_clause(rng, "asked", negatable=word in ("", "why"))
    if word == "where" and clause.verb.place != "where":
        word = ""
    if word == "when" and clause.tense == "progressive":
        word = "why"
    if word == "where":
        clause = dataclasses.replace(clause, place=None)
    if word == "when":
        clause = dataclasses.replace(clause, adverb=None)
    return grammar.question(clause, word, QUESTION_WORDS[word])


def random_subject_question(rng: random.Random) -> Sentence:
    """Draws a question about the subject."""
    clause = random_clause(rng)
    asked = WHO if "person" in clause.verb.subjects else WHAT
    return grammar.statement(dataclasses.replace(clause, subject=asked), mark="?")


def random_object_question(rng: random.Random) -> Sentence:
    """Draws a question about the object: who, what, which or how many."""
    clause = random_clause(rng, negatable=False)
    while not clause.objects:
        clause = random_clause(rng, negatable=False)
    verb = clause.verb
    if rng.random() < 0.6:
        asked = random_noun(rng, verb.objects, verb.case, "which", avoid=clause.subject.noun)
    else:
        asked = WHOM[verb.case] if "person" in verb.objects else WHAT
    objects = (*clause.objects[:-1], asked)
    return grammar.object_question(dataclasses.replace(clause, objects=objects, place=None))


def random_report(rng: random.Random) -> Sentence:
    """Draws a sentence about what somebody thinks, hopes, says or knows."""
    verb, negated, english, german = rng.choice(lexicon.REPORTING)
    main = Clause(random_subject(rng, "person", "known"), verb, negated=negated)
    tense = "future" if verb is lexicon.HOPE else ""
    return grammar.subordinate(main, english, german, random_clause(rng, tense=tense))


def random_reason(rng: random.Random) -> Sentence:
    """Draws somebody's state and its cause."""
    tense = rng.choice(("present", "past"))
    cause = tense if tense == "past" else rng.choice(("present", "progressive", "past"))
    main = random_description(rng, tense=tense, state=True)
    main = dataclasses.replace(main, negated=False)
    return grammar.subordinate(main, "because", "weil", random_clause(rng, tense=cause))


def random_conditional(rng: random.Random) -> Sentence:
    """Draws a condition and what follows from it."""
    condition = random_clause(rng, tense="present")
    if rng.random() < 0.5:
        return grammar.conditional(condition, random_description(rng, tense="future", state=True))
    return grammar.conditional(condition, random_clause(rng, tense=rng.choice(FUTURES)))


def random_contrast(rng: random.Random) -> Sentence:
    """Draws two main clauses of one tense."""
    tense = rng.choice(("present", "progressive", "past", "future"))
    return grammar.contrast(random_clause(rng, tense=tense), random_clause(rng, tense=tense))


PATTERNS = (
    *(random_statement,) * 10,
    *(random_description_sentence,) * 3,
    *(random_price,) * 2,
    *(random_question,) * 5,
    random_subject_question,
    *(random_object_question,) * 3,
    *(random_report,) * 3,
    *(random_reason,) * 2,
    *(random_conditional,) * 3,
    random_contrast,
)


def random_sentence(rng: random.Random) -> Sentence:
    """Draws a sentence of any pattern."""
    return rng.choice(PATTERNS)(rng)
