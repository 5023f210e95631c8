"""Real English and German sentence pairs, made by a grammar, for a demo that downloads nothing.

The rule of the splits: a *combination* is an adjective with the noun it describes, or a verb with
the noun that is its object. About a tenth of the combinations of each adjective and of each verb
is held out. No training sentence contains one of those, and every validation and test sentence
does. To translate it, a model must combine words that it learnt apart. The seed decides everything.
"""

import functools
import itertools
import random
from collections.abc import Iterator

from pipelines.demo_corpus import lexicon
from pipelines.demo_corpus.grammar import Combination, Sentence
from pipelines.demo_corpus.inflection import Noun
from pipelines.demo_corpus.sentences import random_sentence

Pair = tuple[str, str]

MIN_WORDS, MAX_WORDS = 4, 14


def generate(num_pairs: int, seed: int) -> list[Pair]:
    """Makes distinct (English, German) sentence pairs.

    Args:
        num_pairs: int. How many; at least 0.
        seed: int. The same seed gives the same pairs, everywhere.

    Returns:
        List of `num_pairs` (str, str) pairs.

    Raises:
        ValueError: if `num_pairs` is negative.

    Example:

    >>> len(generate(num_pairs=3, seed=0))
    3
    """
    _check_sizes(num_pairs=num_pairs)
    return [
        (sentence.english, sentence.german)
        for sentence in itertools.islice(sentences(seed), num_pairs)
    ]


def splits(
    seed: int = 0, num_train: int = 30_000, num_validation: int = 500, num_test: int = 500
) -> dict[str, list[Pair]]:
    """Makes training, validation and test pairs; only the last two hold held-out combinations.

    Args:
        seed: int. The same seed gives the same splits, everywhere.
        num_train: int. Number of training pairs.
        num_validation: int. Number of validation pairs.
        num_test: int. Number of test pairs.

    Returns:
        Dict from "train", "validation" and "test" to lists of (English, German) str pairs, of
        which no two are the same.

    Raises:
        ValueError: if a size is negative.

    Example:

    >>> data = splits(num_train=5, num_validation=2, num_test=3)
    >>> {name: len(pairs) for name, pairs in data.items()}
    {'train': 5, 'validation': 2, 'test': 3}
    """
    return {
        name: [(sentence.english, sentence.german) for sentence in chosen]
        for name, chosen in sentence_splits(seed, num_train, num_validation, num_test).items()
    }


def sentence_splits(
    seed: int = 0, num_train: int = 30_000, num_validation: int = 500, num_test: int = 500
) -> dict[str, list[Sentence]]:
    """Makes what `splits` makes, with the combinations of each sentence."""
    sizes = {"train": num_train, "validation": num_validation, "test": num_test}
    _check_sizes(**{f"num_{name}": size for name, size in sizes.items()})
    held_out = held_out_combinations(seed)
    chosen: dict[str, list[Sentence]] = {name: [] for name in sizes}
    stream = sentences(seed)
    while any(len(chosen[name]) < size for name, size in sizes.items()):
        sentence = next(stream)
        unseen = not held_out.isdisjoint(sentence.combinations)
        for name in ("validation", "test") if unseen else ("train",):
            if len(chosen[name]) < sizes[name]:
                chosen[name].append(sentence)
                break
    return chosen


@functools.cache
def held_out_combinations(seed: int = 0) -> frozenset[Combination]:
    """Chooses the combinations that no training sentence may contain."""
    rng = random.Random(seed)
    families = [("adjective", word.english, word.kinds) for word in lexicon.ADJECTIVES]
    families += [("verb", word.base, word.objects) for word in lexicon.VERBS if word.objects]
    return frozenset(
        (family, word, noun.english)
        for family, word, kinds in families
        for noun in _a_tenth(rng, lexicon.nouns_of(kinds))
    )


def sentences(seed: int) -> Iterator[Sentence]:
    """Yields distinct sentences without end."""
    rng = random.Random(seed)
    seen = set()
    while True:
        sentence = random_sentence(rng)
        lengths = (len(sentence.english.split()), len(sentence.german.split()))
        if min(lengths) < MIN_WORDS or max(lengths) > MAX_WORDS:
            continue
        pair = (sentence.english, sentence.german)
        if pair not in seen:
            seen.add(pair)
            yield sentence


def _a_tenth(rng: random.Random, nouns: tuple[Noun, ...]) -> list[Noun]:
    """Draws a tenth of some nouns, at least one, and never the only noun of a gender."""
    genders = [noun.gender for noun in nouns]
    shared = [noun for noun in nouns if genders.count(noun.gender) > 1]
    return rng.sample(shared, max(1, len(nouns) // 10))


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"Expected {name} to be at least 0, received {name}={size}.")
