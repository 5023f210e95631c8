"""Beam search over a step function."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasformer.decoding.hypotheses import Hypotheses, begin, collect, require
from kerasformer.decoding.next_token import (
    IMPOSSIBLE,
    Rules,
    Tensor,
    constrain,
    flat_rows,
    gather,
    largest,
)


def length_penalty(lengths: Tensor, alpha: float, kind: str | None) -> Tensor:
    """Returns, as float32, what beam search divides the log-probability of a hypothesis by.

    With `|Y|` tokens in the hypothesis (`lengths`), its end token included, `kind` `"wu"` is
    `((5 + |Y|) / 6) ** alpha` ([Wu et al., 2016](https://arxiv.org/abs/1609.08144)), `"length"` is
    `|Y| ** alpha` and None is 1. An `alpha` above 0 favours long hypotheses.
    """
    lengths = ops.cast(ops.maximum(lengths, 1), "float32")
    if kind is None:
        return ops.ones_like(lengths)
    return ops.power((5.0 + lengths) / 6.0 if kind == "wu" else lengths, alpha)


def beam_search(
    step: Callable,
    state: Any,
    context: Any,
    start_ids: Tensor,
    max_length: int,
    *,
    beam_size: int = 4,
    num_hypotheses: int = 1,
    length_penalty: str | None = "wu",
    alpha: float = 0.6,
    **rules,
) -> Hypotheses:
    """Follows the `beam_size` most probable hypotheses of each sentence at once.

    A hypothesis is finished when its end token is among the best `beam_size` continuations of its
    sentence; the beams go on with the best unfinished ones. A sentence stops when no beam can
    still beat its `num_hypotheses` best finished, even if all further tokens were certain and the
    penalty the largest within reach: the result is that of going on, whatever else is in the batch.

    Args:
        step, state, context, start_ids, max_length, **rules: as in `greedy_search`.
        beam_size, num_hypotheses: int. Beams, and how many hypotheses to return, not more.
        length_penalty, alpha: str or None, and float of either sign. See the function of that name.

    Returns:
        `Hypotheses`, the unfinished ones last, and only where too few were finished.
    """
    require(beam_size >= 1, "beam_size >= 1", beam_size)
    require(1 <= num_hypotheses <= beam_size, f"num_hypotheses in 1..{beam_size}", num_hypotheses)
    known = length_penalty in ("wu", "length", None)
    require(known, "length_penalty 'wu', 'length' or None", length_penalty)
    last, state, rules = begin(beam_size, state, start_ids, max_length, Rules(**rules))
    limits, places = ops.reshape(rules.length_limit, (-1, beam_size))[:, :1], ops.arange(max_length)

    score = functools.partial(_penalised, alpha=alpha, kind=length_penalty)

    def advance(shared, active, position, beams, rows):
        (limits, context), (totals, token_ids, scores, found) = shared, beams
        last, state, *prefix = rows
        logits, state = step(last, state, context)
        so_far = ops.reshape(token_ids, (-1, max_length))
        own_rules = rules._replace(prefix=prefix[0] if prefix else None)
        log_probs = constrain(logits, so_far, position, own_rules)
        best, parents, tokens = _continuations(log_probs, totals, 2 * beam_size)
        grown = ops.where(places == position, tokens[..., None], ops.take(so_far, parents, axis=0))
        ended = ops.equal(tokens, rules.end_id)

        finished = score(ops.where(ended & active, best, IMPOSSIBLE)[:, :beam_size], position + 1)
        scores, order = ops.top_k(ops.concatenate([scores, finished], axis=1), num_hypotheses)
        found = gather(ops.concatenate([found, grown[:, :beam_size]], axis=1), order)
        best, order = ops.top_k(ops.where(ended, IMPOSSIBLE, best), beam_size)
        totals = ops.where(active, best, totals)
        token_ids = ops.where(active[:, :, None], gather(grown, order), token_ids)
        last, parents = (ops.reshape(gather(x, order), (-1,)) for x in (tokens, parents))
        if beam_size > 1:
            state = _take(state, parents)

        within_reach = ops.maximum(score(totals, position + 2), score(totals, limits))[:, :1]
        active = active & (position + 1 < limits) & (within_reach > scores[:, -1:])
        beams = (totals, token_ids, scores, found)
        return active, position + 1, beams, (last, state, *prefix)

    # All beams begin alike, so only the first counts.
    totals = ops.where((ops.arange(beam_size) == 0) & (limits >= 0), 0.0, IMPOSSIBLE)
    token_ids = ops.zeros((ops.shape(limits)[0], beam_size, max_length), dtype="int32")
    scores, found = totals[:, :num_hypotheses] + IMPOSSIBLE, token_ids[:, :num_hypotheses]
    beams = (totals, token_ids, scores, found)
    rows = (last, state) if rules.prefix is None else (last, state, rules.prefix)
    run = _shrinking_loop if ops.is_tensor(max_length) else _loop
    totals, token_ids, scores, found = run(advance, (limits, context), limits > 0, beams, rows)
    # Where places are empty, the sentence ran into its limit: its beams are that long.
    scores = ops.concatenate([scores, score(totals, limits)], axis=1)
    rank = -ops.arange(num_hypotheses + beam_size, dtype="float32")
    _, order = ops.top_k(ops.where(scores > IMPOSSIBLE, rank, IMPOSSIBLE), num_hypotheses)
    token_ids = ops.concatenate([found, token_ids], axis=1)
    return collect(gather(token_ids, order), gather(scores, order))


def _loop(advance, shared, active, beams, rows):
    """Advances until no sentence is active, and returns the beams."""
    return _while_active(advance, shared, 1, active, ops.zeros((), dtype="int32"), beams, rows)[2]


def _shrinking_loop(advance, shared, active, beams, rows):
    """Does what `_loop` does, but drops what has stopped when it is more than a quarter."""
    copies = beams[0].shape[1]

    def drop(kept, shared, active, position, beams, rows):
        stay = ops.nonzero(active[:, 0])[0]
        kept, shared, active, beams = _take((kept, shared, active, beams), stay)
        rows = _take(rows, ops.reshape(stay[:, None] * copies + ops.arange(copies), (-1,)))
        return kept, shared, active, position, beams, rows

    def turn(done, kept, shared, *loop):
        count = ops.shape(kept)[0]
        loop = _while_active(advance, shared, count - count // 4, *loop)
        done = keras.tree.map_structure(
            lambda old, new: ops.scatter_update(old, kept[:, None], new), done, loop[2]
        )
        return done, *drop(kept, shared, *loop)

    everything = ops.arange(ops.shape(active)[0], dtype="int32")
    loop = drop(everything, shared, active, ops.zeros((), dtype="int32"), beams, rows)
    return ops.while_loop(lambda _, kept, *__: ops.shape(kept)[0] > 0, turn, (beams, *loop))[0]


def _while_active(advance, shared, least, *loop):
    """Advances as long as `least` sentences are active."""
    return ops.while_loop(
        lambda active, *_: ops.sum(ops.cast(active, "int32")) >= least,
        functools.partial(advance, shared),
        loop,
    )


def _take(structure, indices):
    return keras.tree.map_structure(lambda x: ops.take(x, indices, axis=0), structure)


def _penalised(log_probs, lengths, alpha, kind):
    return log_probs / length_penalty(lengths, alpha, kind)


def _continuations(log_probs, totals, count):
    """Returns totals, rows continued and tokens `(B, count)` of the best next steps."""
    values, tokens = largest(log_probs, min(count, log_probs.shape[-1]))
    beams, width = totals.shape[1], values.shape[1]
    totals = ops.reshape(ops.reshape(totals, (-1, 1)) + values, (-1, beams * width))
    totals, best = ops.top_k(totals, count)
    tokens = gather(ops.reshape(tokens, (-1, beams * width)), best)
    return totals, flat_rows(best // width, beams), tokens
