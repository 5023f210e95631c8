"""Greedy, beam and sampled search over a step function, in fixed shapes that compile and export.

All three ask `step(token_ids, state) -> (logits, state)` for the next token of `R` rows:
`token_ids` `(R,)` int32 are the last tokens, `logits` are `(R, V)`, and `state` is any nested
structure of tensors whose first axis is `R`. **State follows its hypothesis**: all that is in
`state` (say, the self-attention cache) is repeated for each beam or sample at the start and
rearranged with the beams after each step. What all hypotheses of a sentence share (encoder keys
and values, the context mask) stays in the closure of `step` and is never copied. Rows are
batch-major: row `b * beam_size + k` is beam `k` of sentence `b`.

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

PAD_ID, START_ID = 0, 1
IMPOSSIBLE = -float("inf")
Tensor = Any

Hypotheses = collections.namedtuple("Hypotheses", "token_ids scores lengths")
OPTIONS = "end_id min_length length_limit prefix no_repeat_ngram"
Rules = collections.namedtuple("Rules", OPTIONS, defaults=(2, 0, None, None, 0))


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


def repeated_ngrams(token_ids: Tensor, position: Tensor, size: int) -> Tensor:
    """Returns the tokens that would repeat an n-gram of `(R, T)`, as `(R, W)` filled up with 0."""
    windows = ops.shape(token_ids[:, size - 1 :])[1]
    seen = ops.arange(windows) + size <= position
    for offset in range(size - 1):
        tail = ops.take(token_ids, ops.maximum(position - size + 1 + offset, 0), axis=1)
        seen = seen & ops.equal(token_ids[:, offset : offset + windows], tail[:, None])
    return ops.where(seen, token_ids[:, size - 1 :], PAD_ID)


def constrain(logits: Tensor, token_ids: Tensor, position: Tensor, rules: Rules) -> Tensor:
    """Returns log-probabilities `(R, V)`, -inf where the rules forbid a token at a position.

    The position counts from 0; `token_ids` `(R, T)` are the hypotheses up to there.
    """
    log_probs = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    ids = ops.arange(log_probs.shape[-1], dtype="int32")
    too_early = (ids == rules.end_id) & (position < rules.min_length)
    constrained = ops.where((ids <= START_ID) | too_early, IMPOSSIBLE, log_probs)
    if rules.no_repeat_ngram > 0:
        # A window that repeats nothing names the pad id, which is forbidden already.
        tokens = repeated_ngrams(token_ids, position, rules.no_repeat_ngram)
        rows = _rows(ops.zeros_like(tokens), 1)
        places = ops.reshape(ops.stack([rows, tokens], axis=-1), (-1, 2))
        nothing = ops.full((ops.shape(places)[0],), IMPOSSIBLE, dtype=log_probs.dtype)
        constrained = ops.scatter_update(constrained, places, nothing)
    if rules.prefix is not None:
        forced = ops.take(rules.prefix, position, axis=1)[:, None]
        only_forced = ops.where(ids == forced, log_probs, IMPOSSIBLE)
        constrained = ops.where(forced == PAD_ID, constrained, only_forced)
    return constrained


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns `ops.top_k` of `(R, V)`, several times faster where `V` is large.

    The best `k` values lie in the `k` blocks of highest maxima, and maxima are cheap.
    """
    size = values.shape[-1]
    block = next((width for width in range(128, 31, -1) if size % width == 0), size)
    if size // block <= k:
        return ops.top_k(values, k)
    blocks = ops.reshape(values, (-1, size // block, block))
    # In order, so that the first of equal values wins, as in `ops.top_k`.
    best = ops.sort(ops.top_k(ops.max(blocks, axis=-1), k)[1], axis=-1)
    values, inside = ops.top_k(ops.reshape(_gather(blocks, best), (-1, k * block)), k)
    return values, _gather(best, inside // block) * block + inside % block


def nucleus(odds: Tensor, top_p: float) -> Tensor:
    """Sets to 0 all but the largest odds of `(R, V)` that make up the share `top_p` of their sum.

    The least kept is found by bisection ([Holtzman et al., 2020](https://arxiv.org/abs/1904.09751)).
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
        log_probs, token_ids = largest(log_probs, min(top_k, log_probs.shape[-1]))
    odds = ops.exp((log_probs - ops.max(log_probs, axis=-1, keepdims=True)) / temperature)
    if top_p is not None:
        odds = nucleus(odds, top_p)
    # Where rounding makes the sum uneven, the mask keeps odds of 0 from being drawn.
    cumulative = ops.where(odds > 0.0, ops.cumsum(odds, axis=-1), 0.0)
    threshold = uniform[:, None] * ops.max(cumulative, axis=-1, keepdims=True)
    drawn = ops.argmax(cumulative > threshold, axis=-1)
    return drawn if token_ids is None else _gather(token_ids, drawn[:, None])[:, 0]


def greedy_search(step: Callable, state: Any, start_ids: Tensor, max_length, **rules) -> Hypotheses:
    """Follows the most probable token at each step.

    Args:
        step: function `(token_ids, state) -> (logits, state)`, see the module.
        state: nested structure of tensors with first axis `B`.
        start_ids: int tensor `(B,)`. The first token that `step` gets for each sentence.
        max_length: int. Most tokens of a hypothesis, the end token included. In a TensorFlow
            graph also a scalar int32 tensor, of at least 1.
        **rules: the fields of `Rules`.

    Returns:
        `Hypotheses` with `n = 1`.

    Example:

    >>> import keras
    >>> from kerasformer import decoding
    >>> def count_down(token_ids, state):
    ...     return 9.0 * keras.ops.one_hot(token_ids - 1, 7), state
    >>> found = decoding.greedy_search(count_down, (), keras.ops.array([6, 4]), max_length=5)
    >>> keras.ops.convert_to_numpy(found.token_ids).tolist()
    [[[5, 4, 3, 2, 0]], [[3, 2, 0, 0, 0]]]
    """
    return sample(step, state, start_ids, max_length, seed=0, top_k=1, **rules)


def sample(
    step: Callable,
    state: Any,
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
        step, state, start_ids, max_length, **rules: as in `greedy_search`.
        seed: int for the same samples at each call (others under XLA), or a `SeedGenerator`.
        num_samples: int. How many for each sentence, independently; two may be equal.
        temperature: float. Divides the log-probabilities.
        top_k: int or None. Then only the `top_k` most probable tokens stay.
        top_p: float or None. Of these, only the most probable that sum to `top_p`: see `nucleus`.

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
        logits, state = step(last, state)
        log_probs = constrain(logits, token_ids, position, rules)
        drawn = draw(log_probs, ops.take(uniform, position, axis=1), temperature, top_k, top_p)
        last = ops.where(active, drawn, PAD_ID)
        scores = ops.where(active, scores + _gather(log_probs, last[:, None])[:, 0], scores)
        token_ids = ops.where(places == position, last[:, None], token_ids)
        active = active & (position + 1 < rules.length_limit) & (last != rules.end_id)
        return active, position + 1, last, token_ids, scores, state

    token_ids = ops.zeros((ops.shape(last)[0], max_length), dtype="int32")
    scores = ops.zeros_like(last, dtype="float32")
    loop = (rules.length_limit > 0, ops.zeros((), dtype="int32"), last, token_ids, scores, state)
    token_ids, scores = ops.while_loop(lambda active, *_: ops.any(active), advance, loop)[3:5]
    scores, order = ops.top_k(ops.reshape(scores, (-1, num_samples)), num_samples)
    token_ids = ops.reshape(token_ids, (-1, num_samples, max_length))
    return _hypotheses(_gather(token_ids, order), scores)


def beam_search(
    step: Callable,
    state: Any,
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
        step, state, start_ids, max_length, **rules: as in `greedy_search`.
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

    def advance(active, position, last, totals, token_ids, scores, found, state):
        logits, state = step(last, state)
        so_far = ops.reshape(token_ids, (-1, max_length))
        log_probs = constrain(logits, so_far, position, rules)
        best, rows, tokens = _continuations(log_probs, totals, 2 * beam_size)
        grown = ops.where(places == position, tokens[..., None], ops.take(so_far, rows, axis=0))
        ended = ops.equal(tokens, rules.end_id)

        finished = score(ops.where(ended & active, best, IMPOSSIBLE)[:, :beam_size], position + 1)
        scores, order = ops.top_k(ops.concatenate([scores, finished], axis=1), num_hypotheses)
        found = _gather(ops.concatenate([found, grown[:, :beam_size]], axis=1), order)
        best, order = ops.top_k(ops.where(ended, IMPOSSIBLE, best), beam_size)
        totals = ops.where(active, best, totals)
        token_ids = ops.where(active[:, :, None], _gather(grown, order), token_ids)
        last, rows = (ops.reshape(_gather(x, order), (-1,)) for x in (tokens, rows))
        if beam_size > 1:
            state = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), state)

        within_reach = ops.maximum(score(totals, position + 2), score(totals, limits))[:, :1]
        active = active & (position + 1 < limits) & (within_reach > scores[:, -1:])
        return active, position + 1, last, totals, token_ids, scores, found, state

    # All beams begin alike, so only the first counts.
    totals = ops.where((ops.arange(beam_size) == 0) & (limits >= 0), 0.0, IMPOSSIBLE)
    token_ids = ops.zeros((ops.shape(limits)[0], beam_size, max_length), dtype="int32")
    scores, found = totals[:, :num_hypotheses] + IMPOSSIBLE, token_ids[:, :num_hypotheses]
    loop = (limits > 0, ops.zeros((), dtype="int32"), last, totals, token_ids, scores, found, state)
    loop = ops.while_loop(lambda active, *_: ops.any(active), advance, loop)
    totals, token_ids, scores, found = loop[3:7]
    # Where places are empty, the sentence ran into its limit: its beams are that long.
    scores = ops.concatenate([scores, score(totals, limits)], axis=1)
    rank = -ops.arange(num_hypotheses + beam_size, dtype="float32")
    _, order = ops.top_k(ops.where(scores > IMPOSSIBLE, rank, IMPOSSIBLE), num_hypotheses)
    token_ids = ops.concatenate([found, token_ids], axis=1)
    return _hypotheses(_gather(token_ids, order), _gather(scores, order))


def _begin(copies, state, start_ids, max_length, rules):
    """Returns start ids, state and rules for `R` rows; `length_limit` becomes a tensor."""
    end_id, min_length, _, prefix, size = rules
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
    tokens = _gather(ops.reshape(tokens, (-1, beams * width)), best)
    return totals, _rows(best // width, beams), tokens


def _hypotheses(token_ids, scores):
    token_ids = ops.where(scores[:, :, None] > IMPOSSIBLE, token_ids, PAD_ID)
    return Hypotheses(token_ids, scores, ops.sum(ops.cast(token_ids != PAD_ID, "int32"), axis=-1))


def _rows(indices, count):
    """Returns rows of `(B * count, ...)` for indices `(B, n)` into `count` rows a sentence."""
    return indices + ops.arange(ops.shape(indices)[0], dtype="int32")[:, None] * count


def _gather(x, indices):
    """Returns `x[b, indices[b, n]]` as `(B, n, ...)`."""
    return ops.take(ops.reshape(x, (-1, *ops.shape(x)[2:])), _rows(indices, x.shape[1]), axis=0)
