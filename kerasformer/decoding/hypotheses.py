"""What a search starts from, and the hypotheses that it returns."""

import collections
from typing import Any

import keras
from keras import ops

from kerasformer.decoding.next_token import IMPOSSIBLE, PAD_ID, START_ID, Rules, Tensor

Hypotheses = collections.namedtuple("Hypotheses", "token_ids scores lengths")


def begin(
    copies: int, state: Any, start_ids: Tensor, max_length: int | Tensor, rules: Rules
) -> tuple[Tensor, Any, Rules]:
    """Returns start ids, state and rules for `R` rows; `length_limit` becomes a tensor."""
    end_id, min_length, _, prefix, size = rules
    fits = keras.backend.backend() == "tensorflow" or not ops.is_tensor(max_length)
    require(fits, "max_length of type int outside TensorFlow", max_length)
    if isinstance(max_length, int):  # A tensor's value is not known here.
        require(max_length >= 1, "max_length >= 1", max_length)
        require(min_length <= max_length, f"min_length <= max_length={max_length}", min_length)
    require(end_id > START_ID, f"end_id > {START_ID}", end_id)
    require(min_length >= 0, "min_length >= 0", min_length)
    require(size >= 0, "no_repeat_ngram >= 0", size)

    def rows(x):
        x = ops.convert_to_tensor(x)
        return x if copies == 1 else ops.repeat(x, copies, axis=0)

    start_ids = rows(ops.cast(start_ids, "int32"))
    limits = ops.full_like(start_ids, max_length)
    if rules.length_limit is not None:
        limits = ops.minimum(limits, rows(ops.cast(rules.length_limit, "int32")))
    if prefix is not None:
        prefix = rows(ops.pad(ops.cast(prefix, "int32"), ((0, 0), (0, max_length))))
    rules = rules._replace(length_limit=limits, prefix=prefix)
    return start_ids, keras.tree.map_structure(rows, state), rules


def require(fits: bool, expected: str, value: object) -> None:
    """Refuses a value that does not fit.

    Raises:
        ValueError: naming what was expected and what was received.
    """
    if not fits:
        raise ValueError(f"Expected {expected}, received {expected.split()[0]}={value!r}.")


def collect(token_ids: Tensor, scores: Tensor) -> Hypotheses:
    """Counts the tokens of hypotheses, and empties those that the rules left out."""
    token_ids = ops.where(scores[:, :, None] > IMPOSSIBLE, token_ids, PAD_ID)
    return Hypotheses(token_ids, scores, ops.sum(ops.cast(token_ids != PAD_ID, "int32"), axis=-1))
