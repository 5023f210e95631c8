"""What a search starts from, and the hypotheses that it returns."""

import collections
from typing import Any

import keras
from keras import ops

from kerasformer.decoding.next_token import IMPOSSIBLE, Rules, Tensor

Hypotheses = collections.namedtuple("Hypotheses", "token_ids scores lengths")


def begin(
    copies: int, state: Any, start_ids: Tensor, max_length: int | Tensor, rules: Rules
) -> tuple[Tensor, Any, Rules]:
    """Returns start ids, state and rules for `R` rows; `length_limit` becomes a tensor."""
    min_length, prefix = rules.min_length, rules.prefix
    fits = keras.backend.backend() == "tensorflow" or not ops.is_tensor(max_length)
    require(fits, "max_length of type int outside TensorFlow", max_length)
    if isinstance(max_length, int):  # A tensor's value is not known here.
        require(max_length >= 1, "max_length >= 1", max_length)
        require(min_length <= max_length, f"min_length <= max_length={max_length}", min_length)
    require(min_length >= 0, "min_length >= 0", min_length)
    require(rules.no_repeat_ngram >= 0, "no_repeat_ngram >= 0", rules.no_repeat_ngram)

    def repeat(x):
        x = ops.convert_to_tensor(x)
        return x if copies == 1 else ops.repeat(x, copies, axis=0)

    start_ids = repeat(ops.cast(start_ids, "int32"))
    limits = ops.full_like(start_ids, max_length)
    if rules.length_limit is not None:
        limits = ops.minimum(limits, repeat(ops.cast(rules.length_limit, "int32")))
    if prefix is not None:
        padding = ((0, 0), (0, max_length))
        prefix = ops.pad(ops.cast(prefix, "int32"), padding, constant_values=rules.pad_id)
        prefix = repeat(prefix)
    rules = rules._replace(length_limit=limits, prefix=prefix)
    return start_ids, keras.tree.map_structure(repeat, state), rules


def require(fits: bool, expected: str, value: object) -> None:
    """Refuses a value that does not fit.

    Raises:
        ValueError: naming what was expected and what was received.
    """
    if not fits:
        raise ValueError(f"Expected {expected}, received {expected.split()[0]}={value!r}.")


def collect(token_ids: Tensor, scores: Tensor, limits: Tensor, rules: Rules) -> Hypotheses:
    """Counts the tokens of hypotheses `(B, n, T)`, and fills up with padding what lies behind them.

    A hypothesis ends with its first end token, or at the limit (`limits` is `(B, n)` or `(B, 1)`)
    when it has none. One that the rules left out, of score -inf, has no tokens.
    """
    ends = ops.cast(ops.equal(token_ids, rules.end_id), "int32")
    has_ended = ops.cumsum(ends, axis=-1) > ends
    positions = ops.arange(ops.shape(token_ids)[-1], dtype="int32")
    exists = (scores > IMPOSSIBLE)[:, :, None]
    is_token = exists & (positions < limits[:, :, None]) & ops.logical_not(has_ended)
    token_ids = ops.where(is_token, token_ids, rules.pad_id)
    return Hypotheses(token_ids, scores, ops.sum(ops.cast(is_token, "int32"), axis=-1))
