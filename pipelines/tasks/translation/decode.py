"""How a translator searches: the `decode` part of a config, which is also flags of programs."""

import math
from typing import Any, NamedTuple

import ml_collections
from keras import ops

from kerasformer import decoding
from kerasformer.tokenizers import START_ID
from pipelines.runs.config import check_ranges

HYPOTHESES = 4  # that are returned unless a config says otherwise


class Key(NamedTuple):
    """A key of `config.decode`.

    Attributes:
        default: its value unless a config says otherwise.
        types: the types that it may have.
        help: a sentence.
    """

    default: Any
    types: tuple[type, ...]
    help: str


INT, FLOAT, STR = (int,), (float, int), (str,)
SEARCH_KEYS = {
    "beam_size": Key(4, INT, "Hypotheses that the search follows at once; 1 is a greedy search."),
    "num_hypotheses": Key(
        None,
        (int, type(None)),
        "Translations that are returned; None: 4, or the beam_size if less.",
    ),
    "length_penalty": Key(
        "wu", (str, type(None)), "What a log-probability is divided by: wu, length, or None."
    ),
    "alpha": Key(
        0.6, FLOAT, "Exponent of the length penalty; a higher one favours long sentences."
    ),
    "min_length": Key(0, INT, "Tokens that a translation must have before its end."),
    "no_repeat_ngram": Key(0, INT, "With N > 0, no N tokens in a row occur twice."),
    "prefix": Key("", STR, "Text that each translation begins with."),
    "temperature": Key(
        0.0, FLOAT, "Above 0, tokens are drawn at this temperature instead of searched for."
    ),
    "top_k": Key(0, INT, "With K > 0, only the K most probable tokens are drawn."),
    "top_p": Key(1.0, FLOAT, "Only the most probable tokens that sum to this share are drawn."),
    "seed": Key(1, INT, "Seed of what is drawn; the same draws in each batch."),
    "max_source_length": Key(256, INT, "Tokens of a sentence that are read; the rest is cut off."),
    "max_ratio": Key(
        1.5, FLOAT, "A translation has at most max_ratio * source + max_extra tokens."
    ),
    "max_extra": Key(10, INT, "See max_ratio."),
    "batch_size": Key(32, INT, "Sentences that are translated at a time."),
}
DEFAULTS = {name: key.default for name, key in SEARCH_KEYS.items()}
LEAST = {"max_source_length": 2, "max_ratio": 0, "max_extra": 0, "batch_size": 1, "min_length": 0}
LEAST |= {"no_repeat_ngram": 0, "temperature": 0, "top_k": 0, "seed": 0}


def check(decode: ml_collections.ConfigDict) -> None:
    """Refuses a search that cannot be.

    Raises:
        ValueError: naming the first value that cannot be.
    """
    for name, key in SEARCH_KEYS.items():
        if not isinstance(decode[name], key.types) or isinstance(decode[name], bool):
            types = " or ".join(kind.__name__.replace("NoneType", "None") for kind in key.types)
            raise ValueError(
                f"Expected decode.{name} to be of type {types}, "
                f"received decode.{name}={decode[name]!r}."
            )
    check_ranges({f"decode.{key}": (decode[key], least, math.inf) for key, least in LEAST.items()})
    check_ranges({"decode.top_p": (decode.top_p, 1e-6, 1)})
    if decode.temperature:
        check_ranges({"decode.num_hypotheses": (num_hypotheses(decode), 1, math.inf)})
        return
    for name in ("top_k", "top_p"):
        if decode[name] != DEFAULTS[name]:
            raise ValueError(
                f"Expected decode.temperature above 0 with decode.{name}={decode[name]}, "
                f"received decode.temperature={decode.temperature}."
            )
    if 1 <= decode.beam_size < num_hypotheses(decode):
        raise ValueError(
            "Expected decode.beam_size to be at least the hypotheses that are returned, received "
            f"decode.beam_size={decode.beam_size} and num_hypotheses={num_hypotheses(decode)}."
        )
    # The search checks its own arguments, here in one step over seven tokens.
    decoding.beam_search(
        lambda ids, state, context: (ops.zeros((*ids.shape, 7)), state),
        (),
        (),
        [START_ID],
        max_length=1,
        **search_arguments(decode),
    )


def num_hypotheses(decode: ml_collections.ConfigDict) -> int:
    """Returns how many translations a search returns."""
    if decode.num_hypotheses is None:
        return HYPOTHESES if decode.temperature else min(HYPOTHESES, decode.beam_size)
    return decode.num_hypotheses


def search_arguments(decode: ml_collections.ConfigDict) -> dict:
    """Selects what `decoding.beam_search` takes, beside its rules."""
    arguments = {key: decode[key] for key in ("beam_size", "length_penalty", "alpha")}
    return arguments | {"num_hypotheses": num_hypotheses(decode)}


def described(decode: ml_collections.ConfigDict) -> str:
    """Writes in words how translations are searched for, for a model card."""
    if decode.temperature:
        how = f"Tokens are drawn at temperature {decode.temperature} (seed {decode.seed})"
        how += f", of the {decode.top_k} most probable" if decode.top_k else ""
        how += f", of those that sum to {decode.top_p}" if decode.top_p < 1 else ""
    else:
        how = f"Beam search with {decode.beam_size} beams, length penalty "
        how += f"{decode.length_penalty} with alpha {decode.alpha}"
    how += f"; each begins with {decode.prefix!r}" if decode.prefix else ""
    limit = f"{decode.max_ratio} times the tokens of the sentence and {decode.max_extra}"
    return f"{how}. A translation has at most {limit} tokens."


def search(
    decode: ml_collections.ConfigDict, count: int | None, begin: tuple, rules: dict
) -> decoding.Hypotheses:
    """Searches for translations, or draws them.

    Args:
        decode: the `decode` part of a config.
        count: int or None. How many translations are drawn, `num_hypotheses` by default.
        begin: what `decoding.beam_search` takes first: `(step, state, context, start_ids,
            max_length)`.
        rules: `length_limit` and `prefix`, as the fields of `decoding.Rules`.
    """
    rules = rules | {key: decode[key] for key in ("min_length", "no_repeat_ngram")}
    if not decode.temperature:
        rules |= search_arguments(decode)
        return decoding.beam_search(*begin, **rules)
    return decoding.sample(
        *begin,
        seed=decode.seed,
        num_samples=count or num_hypotheses(decode),
        temperature=decode.temperature,
        top_k=decode.top_k or None,
        top_p=decode.top_p if decode.top_p < 1 else None,
        **rules,
    )
