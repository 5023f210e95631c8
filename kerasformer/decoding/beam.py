"""Beam search over a step function.

Letters: `B` sentences, `K` beams of each (`beam_size`), `R = B * K` rows, `n` hypotheses returned,
`L` tokens at most (`max_length`).

Four tensors, `Beams`, hold the hypotheses. For one sentence, after three steps with `K = 3`,
`n = 2`, `L = 5` and 2 as the end token:

    token_ids (B, K, L)   totals (B, K)       finished_ids (B, n, L)   finished_scores (B, n)
       [7 4 9 0 0]            -1.3                 [8 2 0 0 0]                -0.9
       [7 5 6 0 0]            -1.9                 [7 4 2 0 0]                -1.2
       [8 4 9 0 0]            -2.2

On the left are the beams, with the sum of the log-probabilities of their tokens. On the right are
the best hypotheses that have ended, with this sum over the length penalty. Both are sorted, best
first. A step

1. finds the best `2 * K` continuations of the beams by one token. At most one continuation of each
   beam ends, so at least `K` do not;
2. moves those that end and are among the first `K` to the right, where the best `n` stay;
3. makes the best `K` that do not end the new beams.
"""

import collections
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
    batch_gather,
    constrain,
    fast_top_k,
    flat_indices,
)

Beams = collections.namedtuple("Beams", "token_ids totals finished_ids finished_scores")
# What a beam takes along, first axis R: its last token, state of the model and prefix (`()`: none).
Rows = collections.namedtuple("Rows", "last_ids state prefix")
# The variables of the loop. `active` (B, 1) marks the sentences whose search goes on.
Search = collections.namedtuple("Search", "active position beams rows")
# What the beams of a sentence share, first axis B. It stays the same in each step.
Shared = collections.namedtuple("Shared", "limits context")


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
    still beat its `num_hypotheses` best finished ones. The most that a beam can reach is its score
    if all further tokens had probability 1 and it had the best length within its limit. So going
    on would find nothing better, and a result does not depend on the rest of the batch.

    Args:
        step, state, context, start_ids, max_length, **rules: as in `greedy_search`.
        beam_size, num_hypotheses: int. Beams, and how many hypotheses to return, not more.
        length_penalty, alpha: str or None, and float of either sign. See the function of that name.

    Returns:
        `Hypotheses`, the unfinished ones last, and only where too few were finished.
    """
    require(beam_size >= 1, "beam_size >= 1", beam_size)
    require(1 <= num_hypotheses <= beam_size, f"num_hypotheses in 1..{beam_size}", num_hypotheses)
    is_known = length_penalty in ("wu", "length", None)
    require(is_known, "length_penalty 'wu', 'length' or None", length_penalty)
    last_ids, state, rules = begin(beam_size, state, start_ids, max_length, Rules(**rules))
    limits = ops.reshape(rules.length_limit, (-1, beam_size))[:, :1]
    positions = ops.arange(max_length)
    penalised = functools.partial(_penalised, alpha=alpha, kind=length_penalty)

    def advance(search, shared):
        active, position, beams, rows = search
        logits, state = step(rows.last_ids, rows.state, shared.context)
        token_ids = ops.reshape(beams.token_ids, (-1, max_length))
        prefix = None if rules.prefix is None else rows.prefix
        log_probs = constrain(logits, token_ids, position, rules._replace(prefix=prefix))

        totals, parents, tokens = _continuations(log_probs, beams.totals, 2 * beam_size)
        token_ids = ops.take(token_ids, parents, axis=0)
        token_ids = ops.where(positions == position, tokens[..., None], token_ids)
        ends = ops.equal(tokens, rules.end_id)

        ended = ops.where(ends & active, totals, IMPOSSIBLE)[:, :beam_size]
        scores = [beams.finished_scores, penalised(ended, position + 1)]
        scores, order = ops.top_k(ops.concatenate(scores, axis=1), num_hypotheses)
        finished_ids = [beams.finished_ids, token_ids[:, :beam_size]]
        finished_ids = batch_gather(ops.concatenate(finished_ids, axis=1), order)

        totals, order = ops.top_k(ops.where(ends, IMPOSSIBLE, totals), beam_size)
        totals = ops.where(active, totals, beams.totals)
        token_ids = batch_gather(token_ids, order)
        token_ids = ops.where(active[:, :, None], token_ids, beams.token_ids)
        last_ids, parents = (ops.reshape(batch_gather(x, order), (-1,)) for x in (tokens, parents))
        if beam_size > 1:
            state = keep_rows(state, parents)

        reachable = penalised(totals, position + 2), penalised(totals, shared.limits)
        can_win = ops.maximum(*reachable)[:, :1] > scores[:, -1:]
        active = active & (position + 1 < shared.limits) & can_win
        beams = Beams(token_ids, totals, finished_ids, scores)
        return Search(active, position + 1, beams, Rows(last_ids, state, rows.prefix))

    beams = _first_beams(limits, beam_size, num_hypotheses, max_length)
    rows = Rows(last_ids, state, () if rules.prefix is None else rules.prefix)
    search = Search(limits > 0, ops.zeros((), dtype="int32"), beams, rows)
    run = _run_dropping if ops.is_tensor(max_length) else _run
    beams = run(advance, search, Shared(limits, context))
    # Where fewer than n are finished, the sentence ran into its limit: its beams are that long.
    scores = [beams.finished_scores, penalised(beams.totals, limits)]
    scores = ops.concatenate(scores, axis=1)
    rank = -ops.arange(num_hypotheses + beam_size, dtype="float32")
    _, order = ops.top_k(ops.where(scores > IMPOSSIBLE, rank, IMPOSSIBLE), num_hypotheses)
    token_ids = ops.concatenate([beams.finished_ids, beams.token_ids], axis=1)
    return collect(batch_gather(token_ids, order), batch_gather(scores, order), limits, rules)


def keep_rows(structure: Any, indices: Tensor) -> Any:
    """Returns the rows `indices` of each tensor of a structure, in that order."""
    return keras.tree.map_structure(lambda x: ops.take(x, indices, axis=0), structure)


def _penalised(log_probs, lengths, alpha, kind):
    return log_probs / length_penalty(lengths, alpha, kind)


def _continuations(log_probs, totals, count):
    """Returns totals, rows continued and tokens `(B, count)` of the best continuations."""
    values, tokens = fast_top_k(log_probs, min(count, log_probs.shape[-1]))
    beams, width = totals.shape[1], values.shape[1]
    totals = ops.reshape(ops.reshape(totals, (-1, 1)) + values, (-1, beams * width))
    totals, best = ops.top_k(totals, count)
    tokens = batch_gather(ops.reshape(tokens, (-1, beams * width)), best)
    return totals, flat_indices(best // width, beams), tokens


def _first_beams(limits, beam_size, num_hypotheses, max_length):
    # All beams begin alike, so only the first counts.
    totals = ops.where((ops.arange(beam_size) == 0) & (limits >= 0), 0.0, IMPOSSIBLE)
    token_ids = ops.zeros((ops.shape(limits)[0], beam_size, max_length), dtype="int32")
    nothing = token_ids[:, :num_hypotheses], totals[:, :num_hypotheses] + IMPOSSIBLE
    return Beams(token_ids, totals, *nothing)


def _run(advance, search, shared):
    """Advances until no sentence is active, and returns the beams."""
    return _advance_while(1, advance, search, shared).beams


def _run_dropping(advance, search, shared):
    """Does what `_run` does, but drops what has stopped when it is more than a quarter.

    `kept` are the indices, in the whole batch, of the sentences that are still there.
    """
    beam_size = search.beams.totals.shape[1]

    def drop(kept, search, shared):
        active, position, beams, rows = search
        stay = ops.nonzero(active[:, 0])[0]
        kept, active, beams, shared = keep_rows((kept, active, beams, shared), stay)
        stay = ops.reshape(stay[:, None] * beam_size + ops.arange(beam_size), (-1,))
        return kept, Search(active, position, beams, keep_rows(rows, stay)), shared

    def some_are_left(all_beams, kept, *_):
        return ops.shape(kept)[0] > 0

    def advance_and_drop(all_beams, kept, search, shared):
        count = ops.shape(kept)[0]
        search = _advance_while(count - count // 4, advance, search, shared)
        all_beams = keras.tree.map_structure(
            lambda old, new: ops.scatter_update(old, kept[:, None], new), all_beams, search.beams
        )
        return all_beams, *drop(kept, search, shared)

    everything = ops.arange(ops.shape(search.active)[0], dtype="int32")
    variables = (search.beams, *drop(everything, search, shared))
    return ops.while_loop(some_are_left, advance_and_drop, variables)[0]


def _advance_while(count, advance, search, shared):
    """Advances as long as at least `count` sentences are active."""

    def enough_are_active(active, *_):
        return ops.sum(ops.cast(active, "int32")) >= count

    def body(*variables):
        return advance(Search(*variables), shared)

    return Search(*ops.while_loop(enough_are_active, body, search))
