"""Which token comes next: rules that forbid some, the best of many, and a draw.

Letters: `R` rows (hypotheses), `V` vocabulary, `T` tokens of a hypothesis; `B` sentences, each with
`N` of something, of which `n` are taken.
"""

import collections
from typing import Any

from keras import ops

IMPOSSIBLE = -float("inf")
Tensor = Any

OPTIONS = "end_id min_length length_limit prefix no_repeat_ngram start_id pad_id"
Rules = collections.namedtuple("Rules", OPTIONS, defaults=(2, 0, None, None, 0, 1, 0))


def batch_gather(x: Tensor, indices: Tensor) -> Tensor:
    """Returns `x[b, indices[b, n]]` of `(B, N, ...)` as `(B, n, ...)`."""
    x_rows = ops.reshape(x, (-1, *ops.shape(x)[2:]))
    return ops.take(x_rows, flat_indices(indices, x.shape[1]), axis=0)


def flat_indices(indices: Tensor, count: int) -> Tensor:
    """Returns where `x[b, indices[b, n]]` of `(B, count, ...)` lies in `(B * count, ...)`."""
    return indices + ops.arange(ops.shape(indices)[0], dtype="int32")[:, None] * count


def repeated_ngrams(token_ids: Tensor, position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Finds the tokens that would repeat an n-gram of the hypotheses `(R, T)` at a position.

    Returns the last token of each window of `size` tokens, and a boolean tensor of the same shape
    `(R, T - size + 1)` that is True where the window begins like the end of its hypothesis.
    """
    last_tokens = token_ids[:, size - 1 :]
    windows = ops.shape(last_tokens)[1]
    is_repeated = ops.arange(windows) + size <= position
    for offset in range(size - 1):
        tail = ops.take(token_ids, ops.maximum(position - size + 1 + offset, 0), axis=1)
        same = ops.equal(token_ids[:, offset : offset + windows], tail[:, None])
        is_repeated = is_repeated & same
    return last_tokens, ops.broadcast_to(is_repeated, ops.shape(last_tokens))


def constrain(logits: Tensor, token_ids: Tensor, position: Tensor, rules: Rules) -> Tensor:
    """Returns log-probabilities `(R, V)`, -inf where the rules forbid a token at a position.

    The position counts from 0; `token_ids` `(R, T)` are the hypotheses up to there.
    """
    log_probs = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    ids = ops.arange(log_probs.shape[-1], dtype="int32")
    is_special = (ids == rules.pad_id) | (ids == rules.start_id)
    is_forbidden = ops.where(ids == rules.end_id, position < rules.min_length, is_special)
    constrained = ops.where(is_forbidden, IMPOSSIBLE, log_probs)
    if rules.no_repeat_ngram > 0:
        tokens, is_repeated = repeated_ngrams(token_ids, position, rules.no_repeat_ngram)
        rows = flat_indices(ops.zeros_like(tokens), 1)
        indices = ops.reshape(ops.stack([rows, tokens], axis=-1), (-1, 2))
        bounds = ops.reshape(ops.where(is_repeated, IMPOSSIBLE, -IMPOSSIBLE), (-1,))
        constrained = ops.scatter_update(constrained, indices, bounds, reduction="min")
    if rules.prefix is not None:
        forced = ops.take(rules.prefix, position, axis=1)[:, None]
        only_forced = ops.where(ids == forced, log_probs, IMPOSSIBLE)
        constrained = ops.where(forced == rules.pad_id, constrained, only_forced)
    return constrained


def fast_top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns `ops.top_k` of `(R, V)`, several times faster where `V` is large.

    The best `k` values lie in the `k` blocks of highest maxima, and maxima are cheap.
    """
    size = values.shape[-1]
    block_size = next((width for width in range(128, 31, -1) if size % width == 0), size)
    if size // block_size <= k:
        return ops.top_k(values, k)
    blocks = ops.reshape(values, (-1, size // block_size, block_size))
    # In order, so that the first of equal values wins, as in `ops.top_k`.
    best = ops.sort(ops.top_k(ops.max(blocks, axis=-1), k)[1], axis=-1)
    candidates = ops.reshape(batch_gather(blocks, best), (-1, k * block_size))
    values, indices = ops.top_k(candidates, k)
    blocks_of_values = batch_gather(best, indices // block_size)
    return values, blocks_of_values * block_size + indices % block_size


def nucleus(odds: Tensor, top_p: float) -> Tensor:
    """Sets to 0 all but the largest odds of `(R, V)` that make up the share `top_p` of their sum.

    The smallest odds that stay are found by bisection ([Holtzman et al., 2020](https://arxiv.org/abs/1904.09751)).
    """
    low, high = ops.zeros_like(odds[:, :1]), ops.max(odds, axis=-1, keepdims=True)
    wanted = top_p * ops.sum(odds, axis=-1, keepdims=True)
    for _ in range(24):
        middle = (low + high) / 2.0
        enough = ops.sum(ops.where(odds >= middle, odds, 0.0), axis=-1, keepdims=True) >= wanted
        low, high = ops.where(enough, middle, low), ops.where(enough, high, middle)
    return ops.where(odds >= low, odds, 0.0)


def draw(log_probs: Tensor, uniform: Tensor, temperature: float, top_k, top_p) -> Tensor:
    """Returns a token `(R,)` for each row of `(R, V)` from a number `(R,)` uniform in [0, 1)."""
    token_ids = None
    if top_k is not None:
        log_probs, token_ids = fast_top_k(log_probs, min(top_k, log_probs.shape[-1]))
    odds = ops.exp((log_probs - ops.max(log_probs, axis=-1, keepdims=True)) / temperature)
    if top_p is not None:
        odds = nucleus(odds, top_p)
    # Where rounding makes the sum uneven, the mask keeps odds of 0 from being drawn.
    cumulative = ops.where(odds > 0.0, ops.cumsum(odds, axis=-1), 0.0)
    threshold = uniform[:, None] * ops.max(cumulative, axis=-1, keepdims=True)
    drawn = ops.argmax(cumulative > threshold, axis=-1)
    return drawn if token_ids is None else batch_gather(token_ids, drawn[:, None])[:, 0]
