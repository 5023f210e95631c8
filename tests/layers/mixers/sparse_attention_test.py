"""Sparse attention against dense attention with the same mask, in training and step by step."""

import numpy as np
import pytest

from kerasformer.layers.mixers.sparse_attention import SparseAttention, factorised_attention
from tests.layers.mixers.local_attention_test import (
    GROUPED,
    HEADS,
    HIDDEN,
    assert_equals_dense,
    assert_steps_equal_the_causal_pass,
    padding,
)

BLOCK = 4
# Pattern, heads, number of summaries, turns.
PATTERNS = [
    ("strided", "merged", 1, 1),
    ("strided", "local", 1, 1),
    ("strided", "strided", 1, 1),
    ("strided", "split", 1, 1),
    ("fixed", "merged", 1, 2),
    ("fixed", "local", 1, 1),
    ("fixed", "summary", 3, 1),
    ("fixed", "split", 1, 3),
]
each_step = pytest.mark.parametrize("pattern", [PATTERNS[0], PATTERNS[4], PATTERNS[7]])


def mask_of(length, pattern, heads, count, turns):
    """Writes the masks of the paper down, `(N, T, T)`."""
    query, key = np.arange(length)[:, None], np.arange(length)
    if pattern == "strided":
        near, far = abs(query - key) < BLOCK, (query - key) % BLOCK == 0
    else:
        ends = BLOCK - np.arange(HEADS)[:, None, None] % turns * count
        near, columns = query // BLOCK == key // BLOCK, key % BLOCK + 0 * query
        far = (columns < ends) & (columns >= ends - count)
    near, far = (np.broadcast_to(x, (HEADS, length, length)) for x in (near, far))
    is_near = np.arange(HEADS)[:, None, None] < HEADS // 2
    halves = np.where(is_near, near, far)
    return {"merged": near | far, "local": near, "split": halves}.get(heads, far)


class DenseTest:
    @pytest.mark.parametrize(
        ("pattern", "is_causal"),
        [*((x, True) for x in PATTERNS), *((PATTERNS[i], False) for i in (0, 2, 4))],
    )
    def test_it_equals_dense_attention(self, pattern, is_causal):
        # Lengths that blocks divide and lengths that they do not.
        length, options = (12, {}) if is_causal else (11, GROUPED)
        layer = SparseAttention(HIDDEN, HEADS, BLOCK, *pattern, **options)
        mask = mask_of(length, *pattern)[None]
        assert_equals_dense(layer, mask, length, is_causal, padding(length), **options)

    def test_fewer_tokens_than_a_block_have_one_far_key_each(self):
        layer = SparseAttention(HIDDEN, HEADS, BLOCK, heads="strided")
        mask = np.eye(3, dtype=bool)[None, None]
        assert_equals_dense(layer, mask, 3, is_causal=True)


class StepTest:
    @each_step
    def test_steps_equal_the_causal_pass(self, pattern):
        layer = SparseAttention(HIDDEN, HEADS, BLOCK, *pattern, **GROUPED)
        assert_steps_equal_the_causal_pass(layer, 12, parts=[4])


class ErrorTest:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"block_size": 0}, "received block_size=0"),
            ({"pattern": "random"}, r"\['strided', 'fixed'\], received pattern='random'"),
            ({"heads": "summary"}, "with pattern='strided', received heads='summary'"),
            ({"num_summaries": 2}, "of 1 with pattern='strided', received num_summaries=2"),
            ({"pattern": "fixed", "num_summaries": 5}, "num_summaries=5, .* block_size=4"),
            ({"heads": "split"}, "even num_heads with heads='split', .* received num_heads=3"),
            ({"pattern": "fixed", "summary_turns": 2}, "num_heads=3 and summary_turns=2"),
        ],
    )
    def test_what_contradicts_itself_is_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SparseAttention(**{"hidden_dim": 6, "num_heads": 3, "block_size": 4, **arguments})

    def test_no_keys_at_all_are_refused(self):
        x, real = np.ones((1, 2, 5, 4), "float32"), np.ones((1, 5), bool)
        with pytest.raises(ValueError, match="received near=False and far=False"):
            factorised_attention(x, x, x, real, BLOCK, near=False, far=False)
