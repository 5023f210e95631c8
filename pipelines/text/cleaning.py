"""What a model trains on: pairs that teach something, corpora in proportion, nothing of the tests.

A split that is read as it stands is never touched; all of this is for the training pairs alone.
"""

import hashlib
import heapq
import math
from collections.abc import Collection, Iterable, Sequence

from pipelines.data.sources import held_out_count
from pipelines.text.languages import count_words

Pair = tuple[str, str]
Corpus = list[Pair]


def clean(
    corpora: Iterable[Iterable[Pair]],
    max_words: int | None = 250,
    max_ratio: float | None = 9.0,
    deduplicate: bool = True,
) -> tuple[list[Corpus], dict[str, int]]:
    """Removes the pairs that should not be trained on and counts them by the first reason.

    Args:
        corpora: iterable of corpora, iterables of (source, target) str pairs.
        max_words: int or None. Most words of either side, as `count_words` counts them.
        max_ratio: float or None. How many times the words of one side the other may have.
        deduplicate: bool. Keeps only the first of equal pairs, in whatever corpus it is.

    Returns:
        The kept pairs of each corpus in order, and a dict of the counts `read`, `empty`,
        `too_long`, `ratio`, `duplicate` and `kept` of all.

    Raises:
        ValueError: if no pair is left.

    Example:

    >>> clean([[("ein Hund", "a dog"), ("", "a cat"), ("ein Hund", "a dog")]])[1]
    {'read': 3, 'empty': 1, 'too_long': 0, 'ratio': 0, 'duplicate': 1, 'kept': 1}
    """
    counts = dict.fromkeys(("read", "empty", "too_long", "ratio", "duplicate", "kept"), 0)
    kept: list[Corpus] = []
    seen: set[Pair] = set()
    for corpus in corpora:
        kept.append([])
        for pair in corpus:
            counts["read"] += 1
            shorter, longer = sorted(map(count_words, pair))
            if shorter == 0:
                reason = "empty"
            elif max_words is not None and longer > max_words:
                reason = "too_long"
            elif max_ratio is not None and longer > max_ratio * shorter:
                reason = "ratio"
            elif deduplicate and pair in seen:
                reason = "duplicate"
            else:
                reason = "kept"
                kept[-1].append(pair)
                if deduplicate:
                    seen.add(pair)
            counts[reason] += 1
    if not counts["kept"]:
        removed = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise ValueError(f"Expected sentence pairs to train on, no sentence pairs left: {removed}.")
    return kept, counts


def mix(
    corpora: Sequence[Corpus],
    weights: Sequence[float] | None = None,
    temperature: float | None = None,
) -> Corpus:
    """Joins corpora to the pairs of an epoch, some of them repeated.

    Args:
        corpora: lists of pairs.
        weights: how often an epoch has each pair of each corpus; of 2.5, every second pair is
            there a third time, and of 0.5, every second pair is left out. `None` is once.
        temperature: in place of weights, at least 1: each corpus gets a share of the epoch that is
            proportional to its number of pairs to the power of `1 / temperature`, and the largest
            is there once.

    Returns:
        List of pairs.

    Raises:
        ValueError: for both, for weights that are not positive or not as many as the corpora, and
            for a temperature below 1.

    Example:

    >>> mix([[("a", "b")] * 4, [("c", "d")]], temperature=2)[4:]
    [('c', 'd'), ('c', 'd')]

    References:
        - [Arivazhagan et al., 2019](https://arxiv.org/abs/1907.05019) (temperature)
    """
    if weights is not None and temperature is not None:
        raise ValueError(
            "Expected data.corpus_weights or data.corpus_temperature, received both: "
            f"{weights} and {temperature}."
        )
    if temperature is not None:
        if not temperature >= 1:
            raise ValueError(
                "Expected data.corpus_temperature of at least 1, received "
                f"data.corpus_temperature={temperature}."
            )
        largest = max(map(len, corpora))
        weights = [(max(len(corpus), 1) / largest) ** (1 / temperature - 1) for corpus in corpora]
    if weights is None:
        weights = [1] * len(corpora)
    if len(weights) != len(corpora) or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(
            f"Expected data.corpus_weights of {len(corpora)} positive numbers, one for each "
            f"corpus, received data.corpus_weights={tuple(weights)}."
        )
    return [
        pair
        for corpus, weight in zip(corpora, weights, strict=True)
        for index, pair in enumerate(corpus)
        # Rounded, so that an epoch has the same pairs where floats differ in their last digit.
        for _ in range(_times(index + 1, weight) - _times(index, weight))
    ]


def _times(pairs: int, weight: float) -> int:
    return int(round(pairs * weight, 6))


def held_out(
    corpora: Iterable[Corpus], count: int | str, splits: Collection[str]
) -> dict[str, set[bytes]]:
    """Chooses the sentences of validation and test sets among all, by a hash of the source.

    Neither the order of the lines nor the pairs of other splits matter, and pairs with the same
    source, white space aside, are in the same split.

    Args:
        corpora: lists of pairs. One with an empty side is in no such set.
        count: how many different sources each split gets; or their share, such as "5%".
        splits: names of the splits.

    Returns:
        Dict of the names to sets of what `source_key` returns.

    Raises:
        ValueError: where there are too few different sources.
    """
    keys = {source_key(pair) for corpus in corpora for pair in corpus if all(map(str.strip, pair))}
    count = held_out_count(count, len(keys))
    if len(keys) <= count * len(splits):
        raise ValueError(
            f"Expected more than {len(splits)} times data.held_out different sentences, received "
            f"{len(keys)} of them and data.held_out={count}."
        )
    lowest = heapq.nsmallest(count * len(splits), keys)
    return {
        split: set(lowest[number * count : (number + 1) * count])
        for number, split in enumerate(splits)
    }


def source_key(pair: Pair) -> bytes:
    """Hashes the source of a pair, white space aside."""
    return hashlib.blake2b(_plain(pair[0]).encode(), digest_size=8).digest()


def count_leaks(train: Iterable[Pair], other: Iterable[Pair]) -> tuple[int, int]:
    """Counts the pairs of another split that training pairs equal, white space aside.

    Returns:
        Tuple of the number of pairs that are in both, and of those whose source is.

    Example:

    >>> count_leaks([("ein Hund", "a dog")], [("ein  Hund", "a dog"), ("ein Hund", "a hound")])
    (1, 2)
    """
    plain = [(_plain(source), _plain(target)) for source, target in other]
    sources = {source for source, _ in plain}
    found: set[str] = set()
    found_pairs: set[Pair] = set()
    for pair in train:
        source = _plain(pair[0])
        if source in sources:
            found.add(source)
            found_pairs.add((source, _plain(pair[1])))
    leaked = sum(pair in found_pairs for pair in plain)
    return leaked, sum(source in found for source, _ in plain)


def _plain(text: str) -> str:
    return " ".join(text.split())
