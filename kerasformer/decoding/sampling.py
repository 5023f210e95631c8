"""Greedy and sampled search over a step function."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasformer.decoding.hypotheses import Hypotheses, begin, collect, require
from kerasformer.decoding.next_token import Rules, Tensor, batch_gather, constrain, draw


def greedy_search(
    step: Callable, state: Any, context: Any, start_ids: Tensor, max_length: int, **rules
) -> Hypotheses:
    """Follows the most probable token at each step.

    Args:
        step: function `(token_ids, state, context) -> (logits, state)`, see the module.
        state, context: nested structures of tensors with first axis `B`.
        start_ids: int tensor `(B,)`. The first token that `step` gets for each sentence.
        max_length: int, or scalar int32 tensor of at least 1 (see the module). How many tokens a
            hypothesis may have, the end token included.
        **rules: the fields of `Rules`.

    Returns:
        `Hypotheses` with `n = 1`.

    Example:

    >>> import keras
    >>> from kerasformer import decoding
    >>> def count_down(token_ids, state, context):
    ...     return 9.0 * keras.ops.one_hot(token_ids - 1, 7), state
    >>> best = decoding.greedy_search(count_down, (), (), keras.ops.array([6, 4]), 5)
    >>> keras.ops.convert_to_numpy(best.token_ids).tolist()
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
    require(num_samples >= 1, "num_samples >= 1", num_samples)
    require(temperature > 0, "temperature > 0", temperature)
    require(top_k is None or top_k >= 1, "top_k >= 1 or None", top_k)
    require(top_p is None or 0 < top_p <= 1, "top_p in (0, 1] or None", top_p)
    last_ids, state, rules = begin(num_samples, state, start_ids, max_length, Rules(**rules))
    # Drawn before the loop, inside which a seed generator cannot move on with every backend.
    uniform = keras.random.uniform((ops.shape(last_ids)[0], max_length), seed=seed)
    positions = ops.arange(max_length)

    def advance(active, position, last_ids, token_ids, scores, state):
        logits, state = step(last_ids, state, context)
        log_probs = constrain(logits, token_ids, position, rules)
        last_ids = draw(log_probs, ops.take(uniform, position, axis=1), temperature, top_k, top_p)
        drawn_log_probs = batch_gather(log_probs, last_ids[:, None])[:, 0]
        scores = ops.where(active, scores + drawn_log_probs, scores)
        token_ids = ops.where(positions == position, last_ids[:, None], token_ids)
        active = active & (position + 1 < rules.length_limit) & (last_ids != rules.end_id)
        return active, position + 1, last_ids, token_ids, scores, state

    limits, start = rules.length_limit, ops.zeros((), dtype="int32")
    token_ids = ops.zeros((ops.shape(last_ids)[0], max_length), dtype="int32")
    scores = ops.zeros_like(last_ids, dtype="float32")
    variables = (limits > 0, start, last_ids, token_ids, scores, state)
    token_ids, scores = ops.while_loop(lambda active, *_: ops.any(active), advance, variables)[3:5]
    scores, order = ops.top_k(ops.reshape(scores, (-1, num_samples)), num_samples)
    token_ids = ops.reshape(token_ids, (-1, num_samples, max_length))
    limits = ops.reshape(limits, (-1, num_samples))
    return collect(batch_gather(token_ids, order), scores, limits, rules)
