"""Sparse attention against dense attention with the same mask, in training and step by step."""

import numpy as np
import pytest

from kerasformer.layers.mixers.sparse_attention import SparseAttention
from tests.layers.mixers.local_attention_test import (
    GROUPED,
    HEADS,
    HIDDEN,
    assert_equals_dense,
    assert_steps_equal_the_causal_pass,
    padding,
)

BLOCK = 4
PATTERNS = [
    ("strided", "merged", 1),
    ("strided", "local", 1),
    ("strided", "strided", 1),
    ("strided", "split", 1),
    ("fixed", "merged", 2),
    ("fixed", "local", 1),
    ("fixed", "summary", 3),
    ("fixed", "split", 1),
]


def mask_of(length, pattern, heads, count):
    """Writes the masks of the paper down, `(N, T, T)`."""
    query, key = np.arange(length)[:, None], np.arange(length)
    if pattern == "strided":
        near, far = abs(query - key) < BLOCK, (query - key) % BLOCK == 0
    else:
        near, far = query // BLOCK == key // BLOCK, (key % BLOCK >= BLOCK - count) | (query < 0)
    halves = {"merged": [near | far] * 2, "local": [near] * 2, "split": [near, far]}
    return np.repeat(halves.get(heads, [far] * 2), HEADS // 2, axis=0)


class DenseTest:
    @pytest.mark.parametrize(
        ("pattern", "heads", "count", "is_causal"),
        [
            *((*arguments, True) for arguments in PATTERNS),
            *((*PATTERNS[i], False) for i in (0, 2, 4)),
        ],
    )
    def test_it_equals_dense_attention(self, pattern, heads, count, is_causal):
        # Lengths that blocks divide and lengths that they do not.
        length, options = (12, {}) if is_causal else (11, GROUPED)
        layer = SparseAttention(HIDDEN, HEADS, BLOCK, pattern, heads, count, **options)
        mask = mask_of(length, pattern, heads, count)[None]
        assert_equals_dense(layer, mask, length, is_causal, padding(length), **options)


class StepTest:
    @pytest.mark.parametrize(("pattern", "heads", "count"), [PATTERNS[0], PATTERNS[-1]])
    def test_steps_equal_the_causal_pass(self, pattern, heads, count):
        layer = SparseAttention(HIDDEN, HEADS, BLOCK, pattern, heads, count, **GROUPED)
        assert_steps_equal_the_causal_pass(layer, 12, parts=[4])


class ErrorTest:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"block_size": 0}, "received block_size=0"),
            ({"pattern": "random"}, r"\['strided', 'fixed'\], received pattern='random'"),
            ({"heads": "summary"}, "with pattern='strided', received heads='summary'"),
            ({"num_summaries": 2}, "of 1 with pattern='strided', received num_summaries=2"),
            ({"pattern": "fixed", "num_summaries": 5}, "num_summaries=5, block_size=4"),
            ({"heads": "split"}, "even num_heads with heads='split', received num_heads=3"),
        ],
    )
    def test_what_contradicts_itself_is_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SparseAttention(**{"hidden_dim": 6, "num_heads": 3, "block_size": 4, **arguments})
