"""What a translation config holds, and what is refused."""

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import ml_collections

from kerasformer.tokenizers import KINDS
from pipelines.data.sources import SHARE_FORM
from pipelines.runs.config import check_choices, check_keys
from pipelines.tasks.translation import decode, foreign, vocabulary
from pipelines.tasks.translation.models import MODELS
from pipelines.text.languages import bleu_tokenizer, read_languages
from pipelines.text.pairs import PAIR_KEYS
from pipelines.text.scores import check_tokenizer
from pipelines.training import settings

METRICS: tuple[str, ...] = ("loss", "accuracy", "bleu")
PREPARED: tuple[str, ...] = vocabulary.FILES
FIXED_KEYS: tuple[str, ...] = ("data", "tokenizer", "model", "start")
FREE_KEYS: tuple[str, ...] = ("data.test", "data.bleu_tokenizer", "decode")
LOCAL_KEYS: tuple[str, ...] = (
    "data.folder",
    "data.data_dir",
    "data.download",
    "start.workdir",
    "start.weights",
)
DEFAULTS: dict[str, Any] = {
    "task": "translation",
    "seed": 1,
    "weights": "average",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "embedded",
        "is_tokenized": False,  # Whether the text holds words split off by spaces already.
        "max_words": 250,
        "max_ratio": 9.0,
        "deduplicate": True,
    },
    "tokenizer": {
        "kind": "unigram",
        "vocabulary_size": 8000,
        "target_vocabulary_size": None,  # Where it is not shared, and another.
        "lowercase": False,
        "normalization": "nmt_nfkc",
        "byte_fallback": True,
        "character_coverage": None,  # All that there is room for, with byte_fallback; else 1.
        "user_defined_symbols": None,  # Texts that are one piece each.
        "shared": True,  # Or one vocabulary for each language.
        "path": None,  # A SentencePiece model to take instead (two of them if not shared).
    },
    "model": {"name": MODELS.default, "variant": "base"},
    "start": {
        "workdir": "",  # A run whose weights and tokenizers this one begins with.
        "weights": "",  # Or a Marian model: a folder of transformers, or "hf://owner/name".
    },
    "train": {
        **settings.DEFAULTS,
        "batch_tokens": 4096,  # Of the longer side of a batch, padding counted.
        "max_length": 256,  # Tokens of either side; longer pairs are dropped and counted.
        "label_smoothing": 0.1,
    },
    "decode": decode.DEFAULTS,  # How translations are searched for.
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    A config file changes what it needs to. `model` holds the `name` of a family of `models.MODELS`,
    a `variant` of it and any argument of its models; `data` is what `text.pairs.read_pairs` reads.
    """
    config = ml_collections.ConfigDict(copy.deepcopy(DEFAULTS), type_safe=False).lock()
    for part in (config.data, config.model):
        part.unlock()  # These take more keys; elsewhere, one that nothing reads is a mistake.
    return config


def settle(config: ml_collections.ConfigDict) -> list[str]:
    """Fits a config to its family, or leaves the model to `start.weights`; see `Task.settle`."""
    foreign.settle(config, default_config())
    return MODELS.settle(config)


def _is_number(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and _is_number(value, least)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


# What keys hold that are None or missing by default, and the test of it.
VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "data.held_out": (
        'a whole number of at least 0 or a share such as "5%"',
        lambda value: _is_whole(value, 0) or bool(re.fullmatch(SHARE_FORM, str(value))),
    ),
    "data.corpus_weights": ("numbers, one for each corpus", _are_numbers),
    "data.corpus_temperature": ("a number of at least 1", lambda value: _is_number(value, 1)),
    **{f"data.{key}": ("text", _is_text) for key in ("folder", "data_dir", "name")},
    "tokenizer.character_coverage": ("a number", _is_number),
    "tokenizer.target_vocabulary_size": (
        "a whole number of at least 1",
        lambda value: _is_whole(value, 1),
    ),
}


def check_values(config: ml_collections.ConfigDict) -> None:
    """Refuses values of a wrong type under keys that are `None` or missing by default.

    Raises:
        ValueError: naming the first of them.
    """
    for name, (expected, fits) in VALUES.items():
        part, key = name.split(".")
        value = config[part].get(key)
        if value is not None and not fits(value):
            raise ValueError(f"Expected {name} to be {expected}, received {name}={value!r}.")
    read_languages(config.data)
    for key in ("path", "user_defined_symbols"):
        vocabulary.texts(config.tokenizer, key)


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot be, before anything is read or trained.

    Raises:
        ValueError: naming the first value that cannot be.
    """
    MODELS.check_variant(config)
    check_choices({"tokenizer.kind": (config.tokenizer.kind, KINDS)})
    check_keys(config.data, PAIR_KEYS)
    check_values(config)
    vocabulary.check(config)
    foreign.check(config)
    check_tokenizer(bleu_tokenizer(config.data))
    if config.train.max_length > config.train.batch_tokens:
        raise ValueError(
            "Expected the longest pair to fit into a batch, received "
            f"train.max_length={config.train.max_length} and "
            f"train.batch_tokens={config.train.batch_tokens}."
        )
    decode.check(config.decode)
