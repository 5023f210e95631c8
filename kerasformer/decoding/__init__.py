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

- `end_id`: int, 2 by default. The token that finishes a hypothesis.
- `start_id`, `pad_id`: int, 1 and 0 by default. They are never generated, unless one of them is
  `end_id` too. Any two of the three, or all, may be the same id. `pad_id` need not be in the
  vocabulary.
- `min_length`: int. How many tokens a hypothesis must have before its end token.
- `length_limit`: int tensor `(B,)` or None. A `max_length` for each sentence. A hypothesis that
  reaches either is closed as it stands, without an end token.
- `prefix`: int tensor `(B, P)` or None. The tokens that hypotheses must begin with, without the
  start token. A `pad_id` in it, on the right or elsewhere, forces nothing. Overrides the other
  rules; its log-probability counts.
- `no_repeat_ngram`: int. With n > 0, no n-gram occurs twice in a hypothesis.

Forbidding a token does not scale up the others: scores are made of the model's own
log-probabilities, computed in float32.

All three return `Hypotheses`, `n` for each sentence, best first:

- `token_ids`: int32 `(B, n, max_length)` without the start token, with the end token, then
  `pad_id`.
- `scores`: float32 `(B, n)`. Log-probability, which beam search divides by the length penalty;
  -inf marks an empty row: the rules leave fewer than `n` hypotheses.
- `lengths`: int32 `(B, n)`, the end token included.
"""

from kerasformer.decoding.beam import beam_search as beam_search
from kerasformer.decoding.beam import length_penalty as length_penalty
from kerasformer.decoding.hypotheses import Hypotheses as Hypotheses
from kerasformer.decoding.next_token import Rules as Rules
from kerasformer.decoding.sampling import greedy_search as greedy_search
from kerasformer.decoding.sampling import sample as sample
