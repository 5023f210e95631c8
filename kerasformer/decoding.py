"""Greedy, beam and sampled search over a step function, for graphs that compile and export.

All three ask `step(token_ids, state, context) -> (logits, state)` for the next token of `R` rows:
`token_ids` `(R,)` int32 are the last tokens, and `logits` are `(R, V)`. Rows are batch-major: row
`b * beam_size + k` is beam `k` of sentence `b`.

- `state`, any nested structure of tensors whose first axis is `R`, **follows its hypothesis**: all
  of it (say, the self-attention cache) is repeated for each beam or sample at the start and
  rearranged with the beams after each step.
- `context`, the same with first axis `B`, is what all hypotheses of a sentence share (say, encoder
  keys and values, the mask of the source): never copied for a beam, and the same in each step.

Both hold tensors alone, no `None`; `()` is nothing.

With an int as `max_length` all shapes are fixed, as XLA and JAX need them. With a scalar int32
tensor, in TensorFlow and outside XLA, a beam search drops the sentences that have stopped from its
batch, so `step` must find everything of the batch in its arguments; and the state may grow in each
step, along axes but the first whose size a graph does not know at the start.

`Rules` are keyword arguments of all three:

- `end_id`: int. The token that finishes a hypothesis.
- `min_length`: int. How many tokens a hypothesis must have before its end token.
- `length_limit`: int tensor `(B,)` or None. A `max_length` for each sentence. A hypothesis that
  reaches either is closed as it stands, without an end token.
- `prefix`: int tensor `(B, P)` or None. The tokens that hypotheses must begin with, padded with 0
  on the right; a 0 forces nothing. Overrides the other rules; its log-probability counts.
- `no_repeat_ngram`: int. With n > 0, no n-gram occurs twice in a hypothesis.

The pad id 0 and the start id 1 are never generated. Forbidding a token does not scale up the
others: scores are made of the model's own log-probabilities, computed in float32.

All three return `Hypotheses`, `n` for each sentence, best first:

- `token_ids`: int32 `(B, n, max_length)` without the start token, with the end token, then 0.
- `scores`: float32 `(B, n)`. Log-probability, which beam search divides by the length penalty;
  -inf marks an empty place: the rules leave fewer than `n` hypotheses.
- `lengths`: int32 `(B, n)`, the end token included.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasformer.next_token import (
    IMPOSSIBLE,
    PAD_ID,
    START_ID,
    Rules,
    Tensor,
    constrain,
    draw,
    flat_rows,
    gather,
    largest,
)

Hypotheses = collections.namedtuple("Hypotheses", "token_ids scores lengths")


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


def greedy_search(
    step: Callable, state: Any, context: Any, start_ids: Tensor, max_length: int, **rules
) -> Hypotheses:
    """Follows the most probable token at each step.

    Args:
        step: function `(token_ids, state, context) -> (logits, state)`, see the module.
        state, context: nested structures of tensors with first axis `B`.
        start_ids: int tensor `(B,)`. The first token that `step` gets for each sentence.
        max_length: int, or scalar int32 tensor of at least 1 (see the module). Most tokens of a
            hypothesis, the end token included.
        **rules: the fields of `Rules`.

    Returns:
        `Hypotheses` with `n = 1`.

    Example:

    >>> import keras
    >>> from kerasformer import decoding
    >>> def count_down(token_ids, state, context):
    ...     return 9.0 * keras.ops.one_hot(token_ids - 1, 7), state
    >>> found = decoding.greedy_search(count_down, (), (), keras.ops.array([6, 4]), 5)
    >>> keras.ops.convert_to_numpy(found.token_ids).tolist()
    [[[5, 4, 3, 2, 0]], [[3, 2, 0, 0, 0]]]
    """
    return sample(step, state, context, start_ids, max_length, seed=0, top_k=1, **rules)


def sample(
    step: Callable,
    state: Any,
    context: Any,
    start_ids: Tensor,
    max_length: int,
    *,
    seed: int | keras.random.SeedGenerator,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    **rules,
) -> Hypotheses:
    """Draws each token from the distribution of the model.

    Args:
        step, state, context, start_ids, max_length, **rules: as in `greedy_search`.
        seed: int for the same samples at each call (others under XLA), or a `SeedGenerator`.
        num_samples: int. How many for each sentence, independently; two may be equal.
        temperature: float. Divides the log-probabilities.
        top_k: int or None. Then only the `top_k` most probable tokens stay.
        top_p: float or None. Of these, only the most probable that sum to `top_p`: see
            `next_token.nucleus`.

    Returns:
        `Hypotheses`, most probable first (at temperature 1, before any cut), not as drawn.
    """
    _require(num_samples >= 1, "num_samples >= 1", num_samples)
    _require(temperature > 0, "temperature > 0", temperature)
    _require(top_k is None or top_k >= 1, "top_k >= 1 or None", top_k)
    _require(top_p is None or 0 < top_p <= 1, "top_p in (0, 1] or None", top_p)
    last, state, rules = _begin(num_samples, state, start_ids, max_length, Rules(**rules))
    # Drawn before the loop, inside which a seed generator cannot move on with every backend.
    uniform = keras.random.uniform((ops.shape(last)[0], max_length), seed=seed)
    places = ops.arange(max_length)

    def advance(active, position, last, token_ids, scores, state):
        logits, state = step(last, state, context)
        log_probs = constrain(logits, token_ids, position, rules)
        drawn = draw(log_probs, ops.take(uniform, position, axis=1), temperature, top_k, top_p)
        last = ops.where(active, drawn, PAD_ID)
        scores = ops.where(active, scores + gather(log_probs, last[:, None])[:, 0], scores)
        token_ids = ops.where(places == position, last[:, None], token_ids)
        active = active & (position + 1 < rules.length_limit) & (last != rules.end_id)
        return active, position + 1, last, token_ids, scores, state

    token_ids = ops.zeros((ops.shape(last)[0], max_length), dtype="int32")
    scores = ops.zeros_like(last, dtype="float32")
    loop = (rules.length_limit > 0, ops.zeros((), dtype="int32"), last, token_ids, scores, state)
    token_ids, scores = ops.while_loop(lambda active, *_: ops.any(active), advance, loop)[3:5]
    scores, order = ops.top_k(ops.reshape(scores, (-1, num_samples)), num_samples)
    token_ids = ops.reshape(token_ids, (-1, num_samples, max_length))
    return _hypotheses(gather(token_ids, order), scores)


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
    _require(beam_size >= 1, "beam_size >= 1", beam_size)
    _require(1 <= num_hypotheses <= beam_size, f"num_hypotheses in 1..{beam_size}", num_hypotheses)
    known = length_penalty in ("wu", "length", None)
    _require(known, "length_penalty 'wu', 'length' or None", length_penalty)
    last, state, rules = _begin(beam_size, state, start_ids, max_length, Rules(**rules))
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
    return _hypotheses(gather(token_ids, order), gather(scores, order))


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


def _begin(copies, state, start_ids, max_length, rules):
    """Returns start ids, state and rules for `R` rows; `length_limit` becomes a tensor."""
    end_id, min_length, _, prefix, size = rules
    fits = keras.backend.backend() == "tensorflow" or not ops.is_tensor(max_length)
    _require(fits, "max_length of type int outside TensorFlow", max_length)
    if isinstance(max_length, int):  # A tensor's value is not known here.
        _require(max_length >= 1, "max_length >= 1", max_length)
        _require(min_length <= max_length, f"min_length <= max_length={max_length}", min_length)
    _require(end_id > START_ID, f"end_id > {START_ID}", end_id)
    _require(min_length >= 0, "min_length >= 0", min_length)
    _require(size >= 0, "no_repeat_ngram >= 0", size)

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


def _require(fits, expected, value):
    if not fits:
        raise ValueError(f"Expected {expected}, but got {expected.split()[0]}={value!r}.")


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


def _hypotheses(token_ids, scores):
    token_ids = ops.where(scores[:, :, None] > IMPOSSIBLE, token_ids, PAD_ID)
    return Hypotheses(token_ids, scores, ops.sum(ops.cast(token_ids != PAD_ID, "int32"), axis=-1))
