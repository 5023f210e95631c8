"""What a config of own pairs leaves to the data: where they are, and the sizes of what learns them.

The sizes grow with the number of pairs from what was measured on Multi30k, whose 29,000 pairs
`pipelines.configs.multi30k_en_de` trains on.
"""

import math
from collections import Counter
from itertools import accumulate
from typing import Any

import ml_collections

from kerasformer.tokenizers import SentencePieceTokenizer, VocabularySizeError
from pipelines.data.sources import expanded, required
from pipelines.runs.choice import AUTO, Choice, has_auto
from pipelines.runs.config import read_config
from pipelines.tasks.translation import foreign
from pipelines.tasks.translation.config import check_values
from pipelines.tasks.translation.data import training_pairs
from pipelines.tasks.translation.models import MODELS
from pipelines.tasks.translation.vocabulary import NUM_BYTES, read_foreign, train_tokenizers
from pipelines.text.cleaning import Pair, source_key
from pipelines.text.folder import find_pairs
from pipelines.text.languages import count_words, read_languages, tokenizer_of_script
from pipelines.text.pairs import CUT_SPLITS, read_pairs

FOUND = ("train", "validation", "test", "columns", "languages")  # In a folder.
# The values that may be "auto".
CHOSEN = [f"data.{key}" for key in ("format", *FOUND, "held_out")]
CHOSEN += ["tokenizer.vocabulary_size"]
CHOSEN += [f"model.{key}" for key in ("name", "variant", "norm_first", "dropout")]
CHOSEN += [f"train.{key}" for key in ("batch_tokens", "epochs", "learning_rate")]
MOST_HELD_OUT = 1000  # Sentences of a validation set, or a test set, that is cut from the others.
MAX_VOCABULARY = 32_000
TRIED_WORDS = 1_000_000  # Of so many words, any text fills the vocabulary that is chosen.


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Replaces the values `"auto"` by what the training pairs ask for, and prints them.

    Args:
        config: a config of the task, which takes values of any type; it is changed.

    Returns:
        The config.

    Raises:
        ValueError: when there is an `"auto"` and the pairs cannot be read, or another value is of a
            wrong type.
    """
    if not has_auto(config, CHOSEN):
        return config
    first = read_config(expanded(config.start.workdir)) if config.start.workdir else None
    if first and config.model.get("name") != AUTO:
        MODELS.check_start(config, first)
    if config.model.get("name") == AUTO:
        config.model.name = first.model.get("name", MODELS.default) if first else MODELS.default
    _check_given(config)
    other = foreign.read(config) if config.start.weights else None
    choice = Choice(config)
    own = has_auto(config, [f"data.{key}" for key in ("format", *FOUND)])
    if config.data.get("format") == AUTO:
        given = config.data.get("languages", AUTO)
        languages = () if given == AUTO else read_languages(config.data)
        found = find_pairs(required(config.data, "folder"), languages)
        choice.take(_named("data", found), adds=True)
    elif own:  # What is not given is not there.
        choice.take(_named("data", dict.fromkeys(FOUND)))
    if own or config.data.get("held_out") == AUTO:
        choice.take({"data.held_out": _held_out(config)}, adds=True)
    pairs, _ = training_pairs(config)
    if own and not read_languages(config.data):
        text = "".join(target for _, target in pairs[:1000])
        choice.take({"data.bleu_tokenizer": tokenizer_of_script(text)}, adds=True)
    words = [sum(map(count_words, side)) for side in zip(*pairs, strict=True)]
    model = _model(config, len(pairs))
    if first:
        choice.take(_named("tokenizer", first.tokenizer.to_dict()), adds=True)
        dropout = MODELS.of(first).model.VARIANTS[first.model.variant]["dropout"]
        model = {"norm_first": False, "dropout": dropout, **first.model.to_dict()}
    if other:
        choice.take({"tokenizer.vocabulary_size": other.vocabulary_size})
        model = other.model
    if config.tokenizer.vocabulary_size == AUTO:
        choice.take({"tokenizer.vocabulary_size": _vocabulary(config, pairs, words)})
    choice.take(_named("model", model), adds=config.model.variant == AUTO)
    training = _training(config, len(pairs), max(words))
    if other:
        training |= foreign.TRAINING
    choice.take(_named("train", training))
    choice.tell(f"{len(pairs):,} training pairs")
    return config


def _named(part: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{part}.{key}": value for key, value in values.items()}


def _check_given(config) -> None:
    """Refuses values of a wrong kind beside those that are `"auto"`, before they are read."""
    given = ml_collections.ConfigDict(config.to_dict(), type_safe=False)
    for part, _, key in (name.partition(".") for name in CHOSEN):
        if given[part].get(key) == AUTO:
            del given[part][key]
    check_values(given)


def _held_out(config) -> int:
    """Chooses the size of each set that is cut: a twentieth, but 20 sentences if these are few."""
    uncut = ml_collections.ConfigDict({**config.data, "held_out": 0})
    if all(uncut.get(split) for split in CUT_SPLITS):
        return 0
    count = len(set(map(source_key, read_pairs(uncut, "train"))))
    return max(1, min(MOST_HELD_OUT, max(count // 20, min(20, count // 5))))


def _vocabulary(config, pairs: list[Pair], words: list[int]) -> int:
    """Chooses pieces for the square root of the words, as their different ones grow by it too."""
    options = ml_collections.ConfigDict(config.tokenizer.to_dict(), type_safe=False)
    if options.path:
        return SentencePieceTokenizer(read_foreign(options)[0]).vocabulary_size
    count = sum(words) if options.shared else max(words)
    pieces = round(8 * math.sqrt(count)) + _common_characters(pairs)
    size = min(MAX_VOCABULARY, 100 * math.ceil((pieces + NUM_BYTES * options.byte_fallback) / 100))
    while count < TRIED_WORDS:
        options.vocabulary_size = size
        try:
            train_tokenizers(options, pairs, say=lambda text: None)
            break
        except VocabularySizeError as error:
            if error.most is None:
                raise
            size = error.most
    return size


def _common_characters(pairs: list[Pair]) -> int:
    """Counts the characters that make up 99.5 % of the text, of 100,000 pairs at most."""
    counts = Counter("".join(text for pair in pairs[:100_000] for text in pair))
    sums = accumulate(count for _, count in counts.most_common())
    return 1 + sum(total < 0.995 * counts.total() for total in sums)


def _model(config, count: int) -> dict[str, Any]:
    """Chooses a size that Multi30k's 29,000 pairs do not overfit, or the one for large corpora."""
    family = MODELS.of(config)
    variant = family.small if count < 100_000 else family.large
    return {"variant": variant, "norm_first": True, "dropout": 0.3 if count < 1_000_000 else 0.1}


def _training(config, count: int, words: int) -> dict[str, Any]:
    """Chooses the batches and the epochs: 30 for Multi30k, more of smaller corpora."""
    batch_tokens = config.train.batch_tokens
    if batch_tokens == AUTO:
        batch_tokens = 4096 if words > 20 * 4096 else 1024
    epochs = round(min(100, max(10, 30 * math.sqrt(29_000 / count))))
    family = MODELS.of(config)
    rate, large_rate = family.learning_rates
    if config.model.variant != family.small:
        rate = large_rate
    elif batch_tokens < 4096:
        rate = rate / 2
    return {
        "batch_tokens": batch_tokens,
        "epochs": None if config.train.steps else epochs,
        "learning_rate": rate,
    }
