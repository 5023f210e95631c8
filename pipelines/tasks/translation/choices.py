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
from pipelines.runs.config import read_config
from pipelines.tasks.translation.config import check_values
from pipelines.tasks.translation.data import training_pairs
from pipelines.tasks.translation.models import DEFAULT, family, left_out
from pipelines.tasks.translation.vocabulary import NUM_BYTES, read_foreign, train_tokenizers
from pipelines.text.cleaning import Pair, source_key
from pipelines.text.folder import find_pairs
from pipelines.text.languages import count_words, read_languages, tokenizer_of_script
from pipelines.text.pairs import CUT_SPLITS, read_pairs

AUTO = "auto"
FOUND = ("train", "validation", "test", "columns", "languages")  # In a folder.
# The values that may be "auto".
KEYS = [("data", key) for key in ("format", *FOUND, "held_out")]
KEYS += [("tokenizer", "vocabulary_size")]
KEYS += [("model", key) for key in ("name", "variant", "norm_first", "dropout")]
KEYS += [("train", key) for key in ("batch_tokens", "epochs", "learning_rate")]
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
    if not any(config[part].get(key) == AUTO for part, key in KEYS):
        _print_left_out(config)
        return config
    first = read_config(expanded(config.start.workdir)) if config.start.workdir else None
    if config.model.get("name") == AUTO:
        config.model.name = first.model.get("name", DEFAULT) if first else DEFAULT
    _print_left_out(config)
    _check_given(config)
    chosen: dict[str, Any] = {}
    own = any(config.data.get(key) == AUTO for key in ("format", *FOUND))
    if config.data.get("format") == AUTO:
        given = config.data.get("languages", AUTO)
        languages = () if given == AUTO else read_languages(config.data)
        _choose(config, chosen, "data", find_pairs(required(config.data, "folder"), languages))
    elif own:  # What is not given is not there.
        absent = (key for key in FOUND if config.data.get(key) == AUTO)
        _choose(config, chosen, "data", dict.fromkeys(absent))
    if own or config.data.get("held_out") == AUTO:
        _choose(config, chosen, "data", {"held_out": _held_out(config)})
    pairs, _ = training_pairs(config)
    if own and not read_languages(config.data):
        text = "".join(target for _, target in pairs[:1000])
        _choose(config, chosen, "data", {"bleu_tokenizer": tokenizer_of_script(text)})
    words = [sum(map(count_words, side)) for side in zip(*pairs, strict=True)]
    model = _model(config, len(pairs))
    if first:
        _choose(config, chosen, "tokenizer", first.tokenizer.to_dict())
        dropout = family(first).model.VARIANTS[first.model.variant]["dropout"]
        model = {"norm_first": False, "dropout": dropout, **first.model.to_dict()}
    if config.tokenizer.vocabulary_size == AUTO:
        _choose(config, chosen, "tokenizer", {"vocabulary_size": _vocabulary(config, pairs, words)})
    if config.model.variant != AUTO:
        model = {key: model[key] for key in model if config.model.get(key) == AUTO}
    _choose(config, chosen, "model", model)
    _choose(config, chosen, "train", _training(config, len(pairs), max(words)))
    values = ", ".join(f"{key}={value!r}" for key, value in chosen.items())
    print(f"Chosen for {len(pairs):,} training pairs: {values}", flush=True)
    return config


def _print_left_out(config) -> None:
    if left := [f"model.{key}" for key in left_out(config)]:
        print(
            f"Left out of model.name={config.model.name}, which has no use for them: "
            f"{', '.join(left)}",
            flush=True,
        )


def _check_given(config) -> None:
    """Refuses values of a wrong kind beside those that are `"auto"`, before they are read."""
    given = ml_collections.ConfigDict(config.to_dict(), type_safe=False)
    for part, key in KEYS:
        if given[part].get(key) == AUTO:
            del given[part][key]
    check_values(given)


def _choose(config, chosen: dict[str, Any], name: str, values: dict[str, Any]) -> None:
    """Sets the keys of a part that are `"auto"` or missing, and notes the values for a print."""
    part = config[name]
    for key, value in values.items():
        if part.get(key, AUTO) == AUTO:
            part[key] = value
            if value not in (None, ()):
                chosen[f"{name}.{key}"] = value


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
    variant = family(config).small if count < 100_000 else family(config).large
    return {"variant": variant, "norm_first": True, "dropout": 0.3 if count < 1_000_000 else 0.1}


def _training(config, count: int, words: int) -> dict[str, Any]:
    """Chooses the batches and the epochs: 30 for Multi30k, more of smaller corpora."""
    batch_tokens = config.train.batch_tokens
    if batch_tokens == AUTO:
        batch_tokens = 4096 if words > 20 * 4096 else 1024
    epochs = round(min(100, max(10, 30 * math.sqrt(29_000 / count))))
    rate, large_rate = family(config).learning_rates
    if config.model.variant != family(config).small:
        rate = large_rate
    elif batch_tokens < 4096:
        rate = rate / 2
    return {
        "batch_tokens": batch_tokens,
        "epochs": None if config.train.steps else epochs,
        "learning_rate": rate,
    }
