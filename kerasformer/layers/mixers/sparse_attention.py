"""The factorised attention of the Sparse Transformer: strided and fixed patterns.

Letters: `B` batch, `T` length, `N` query heads, `G` key and value heads, `K` size of a head, `L`
length of a block, `C` blocks of a sequence, `S` keys.
"""

import functools

import keras
from keras import ops

from kerasformer.layers.mixers.caches import KeyValueCache
from kerasformer.layers.mixers.dot_product import (
    attend,
    attention_logits,
    grouped_matmul,
    masked_softmax,
    scaled_dot_product_attention,
)
from kerasformer.layers.mixers.neighbourhoods import (
    cut_blocks,
    join_blocks,
    memory_offsets,
    neighbourhoods,
)
from kerasformer.layers.mixers.patterns import PatternAttention
from kerasformer.layers.sizes import check_sizes

FAR = {"strided": "strided", "fixed": "summary"}


@keras.saving.register_keras_serializable(package="kerasformer")
class SparseAttention(KeyValueCache, PatternAttention):
    """Lets each position look at the near ones, and at a few of the far ones.

    | `pattern` | near keys | far keys |
    |---|---|---|
    | `"strided"` | less than `block_size` away | a multiple of `block_size` away |
    | `"fixed"` | in the same block of `block_size` | the last `num_summaries` of each block |

    Over two layers every position reaches every other. With `block_size` near `sqrt(T)` time and
    memory grow with `T * sqrt(T)`; no `T * T` mask is made. A stack alternates the parts when it is
    given a list of mixers, `[SparseAttention(..., heads="local"), SparseAttention(...,
    heads="strided")]`.

    Args:
        hidden_dim: int. Size of the outputs.
        num_heads: int. Number of heads.
        block_size: int. The stride, or the length of a block.
        pattern: str. `"strided"` or `"fixed"`.
        heads: str. What a head looks at: `"merged"`, near and far keys in one softmax; `"local"`,
            near keys alone; `"strided"` (or `"summary"` for the fixed pattern), far keys alone;
            `"split"`, near keys for the first half of the heads and far ones for the others.
        num_summaries: int. Far keys of each block, for the fixed pattern.
        summary_turns: int. Among how many groups of far keys the heads take turns, for the fixed
            pattern: head `h` reads group `h % summary_turns`, counted from the end of a block.
        **kwargs: the other arguments of `MultiHeadAttention`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`, of any length.
        mask: boolean tensor `(B, T)`, the real positions of `inputs`.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        use_causal_mask: bool. Whether a position may not look at later ones.
        positions: int tensor as `rotate` takes it, for `use_rotary`; `None` means `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`. Scores are those of
            all pairs, so that asking for them takes the time and memory of dense attention.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, T)` before dropout.

    Masking: the mask hides keys, never queries, and is kept. A query that may look at no key gets
    zeros before the output projection.

    The published code is causal, and its fixed pattern is `"merged"`; `num_summaries` and
    `summary_turns` are its `vertsize` and `num_verts`. The window of its strided
    pattern is `(t - block_size, t]`, as here, which is one position less than in the paper.

    Raises:
        ValueError: when a size is below 1, or for another pattern, other heads, more summaries than
            a block has positions, or an odd number of heads with `"split"`.

    Example:

    >>> layer = SparseAttention(hidden_dim=6, num_heads=3, block_size=4)
    >>> tuple(layer(ops.ones((2, 11, 6)), use_causal_mask=True).shape)
    (2, 11, 6)

    References:
        - [Child et al., 2019](https://arxiv.org/abs/1904.10509), sections 4.2 and 4.3
        - [its code](https://github.com/openai/sparse_attention)
    """

    def __init__(
        self,
        hidden_dim,
        num_heads,
        block_size,
        pattern="strided",
        heads="merged",
        num_summaries=1,
        summary_turns=1,
        **kwargs,
    ):
        super().__init__(hidden_dim, num_heads, **kwargs)
        self.block_size = block_size
        self.pattern = pattern
        self.heads = heads
        self.num_summaries = num_summaries
        self.summary_turns = summary_turns
        check_sizes(block_size=block_size, num_summaries=num_summaries, summary_turns=summary_turns)
        if pattern not in FAR:
            raise ValueError(
                f"Expected pattern to be one of {list(FAR)}, received pattern={pattern!r}."
            )
        names = ["merged", "local", FAR[pattern], "split"]
        if heads not in names:
            raise ValueError(
                f"Expected heads to be one of {names} with pattern={pattern!r}, received "
                f"heads={heads!r}."
            )
        count = num_summaries * summary_turns
        if count > block_size or (count > 1 and pattern == "strided"):
            raise ValueError(
                "Expected num_summaries * summary_turns of at most block_size, and of 1 with "
                f"pattern='strided', received num_summaries={num_summaries}, "
                f"summary_turns={summary_turns}, block_size={block_size} and pattern={pattern!r}."
            )
        of_far_keys = num_heads // 2 if heads == "split" else num_heads
        if (heads == "split" and num_heads % 2) or of_far_keys % summary_turns:
            raise ValueError(
                "Expected an even num_heads with heads='split', and summary_turns that divides the "
                f"number of heads with far keys, received num_heads={num_heads} and "
                f"summary_turns={summary_turns}."
            )

    def sees(self, queries, keys):
        """Tells which query may look at which key, by their positions in the sequence."""
        near, far = self._near(queries, keys), self._far(queries, keys)
        if self.heads == "split":
            is_near = ops.arange(self.num_heads)[:, None, None] < self.num_heads // 2
            return ops.where(is_near, near, far)
        if self.heads == "merged":
            return ops.logical_or(near, far)
        return near if self.heads == "local" else far

    def _near(self, queries, keys):
        if self.pattern == "strided":
            return ops.abs(queries - keys) < self.block_size
        return ops.equal(queries // self.block_size, keys // self.block_size)

    def _far(self, queries, keys):
        if self.pattern == "strided":
            return ops.equal(ops.mod(queries - keys, self.block_size), 0)
        ends = self.block_size - _turns(self.num_heads, self.summary_turns) * self.num_summaries
        columns = ops.mod(keys, self.block_size) + ops.zeros_like(queries)
        return ops.logical_and(columns < ends, columns >= ends - self.num_summaries)

    def attend_sparsely(self, query, key, value, key_mask, **options):
        """Averages the values `(B, G, T, K)` for queries `(B, N, T, K)`, block by block."""
        if key_mask is None:
            batch, _, length, _ = ops.shape(query)
            key_mask = ops.ones((batch, length), "bool")
        options |= {
            "block_size": self.block_size,
            "pattern": self.pattern,
            "num_summaries": self.num_summaries,
            "summary_turns": self.summary_turns,
        }
        if self.heads != "split":
            options |= {"near": self.heads in ("merged", "local"), "far": self.heads != "local"}
            return factorised_attention(query, key, value, key_mask, **options)
        copies = self.num_heads // self._groups
        key, value = (ops.repeat(x, copies, axis=1) for x in (key, value))
        halves = zip(*(ops.split(x, 2, axis=1) for x in (query, key, value)), strict=True)
        outputs = [
            factorised_attention(*half, key_mask, near=is_near, far=not is_near, **options)
            for half, is_near in zip(halves, (True, False), strict=True)
        ]
        return ops.concatenate(outputs, axis=1)

    def step(self, inputs, cache, positions):
        """Attends from the next tokens of each row to themselves and what they see before them.

        Args:
            inputs: float tensor `(R, T, input_dim)`.
            cache: tuple of keys and values `(R, G, L, K)`, as `init_cache` made it.
            positions: int tensor `(R,)`, where each row's first token goes.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the cache with the tokens written to it.
        """
        query, cache, positions = self._write_step(inputs, cache, positions)
        queries = positions[:, None, :, None]
        keys = ops.arange(ops.shape(cache[0])[2], dtype="int32")[None, None, None]
        mask = ops.logical_and(keys <= queries, self.sees(queries, keys))
        outputs, _ = scaled_dot_product_attention(query, *cache, mask=mask)
        return self.output_dense(self._join_heads(outputs)), cache

    def get_config(self):
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "pattern": self.pattern,
            "heads": self.heads,
            "num_summaries": self.num_summaries,
            "summary_turns": self.summary_turns,
        }


def factorised_attention(
    query,
    key,
    value,
    real,
    block_size,
    pattern="strided",
    near=True,
    far=True,
    num_summaries=1,
    summary_turns=1,
    is_causal=False,
    dropout=None,
):
    """Attends to near keys, to far keys, or to both, as `SparseAttention` explains them.

    Args:
        query: float tensor `(B, N, T, K)`.
        key: float tensor `(B, G, T, K)`, `G` a divisor of `N`.
        value: float tensor `(B, G, T, K)`.
        real: boolean tensor `(B, T)`, the keys to look at.
        block_size: int. The stride, or the length of a block, `L`.
        pattern: str. `"strided"` or `"fixed"`.
        near: bool. Whether to look at near keys.
        far: bool. Whether to look at far keys; one of the two at least, both in one softmax.
        num_summaries: int. Far keys of each block, for the fixed pattern.
        summary_turns: int. Among how many groups of far keys the heads take turns, likewise.
        is_causal: bool. Whether a query may not look at later keys.
        dropout: function applied to the probabilities, or `None`.

    Returns:
        Float tensor `(B, N, T, K)`.

    Raises:
        ValueError: when neither near nor far keys are to be looked at.

    Example:

    >>> x = ops.ones((1, 2, 5, 4))
    >>> tuple(factorised_attention(x, x, x, ops.ones((1, 5), "bool"), block_size=2).shape)
    (1, 2, 5, 4)

    References:
        - [Child et al., 2019](https://arxiv.org/abs/1904.10509), section 4.3
    """
    if not (near or far):
        raise ValueError(f"Expected near or far keys to look at, received {near=} and {far=}.")
    batch, _, length, _ = ops.shape(query)
    is_merged = near and far
    if near:
        near = _near_part(query, key, value, real, block_size, pattern, is_causal)
    if not far:
        outputs, _ = attend(*near[:3], mask=near[3], dropout=dropout)
        return join_blocks(outputs, batch, (1, length), (1, block_size))
    far = [cut_blocks(x, (1, length), (1, block_size)) for x in (query, key, value, _bits(real))]
    if pattern == "strided":
        forth = back = functools.partial(_swap, batch=batch)
        far = _strided_part(*map(forth, far), is_causal, is_merged)
    else:
        forth = functools.partial(_join_rows, batch=batch)
        back = functools.partial(_split_rows, block_size=block_size)
        sizes = (query.shape[1], block_size, num_summaries, summary_turns)
        keys = [forth(_summaries(x, *sizes)) for x in far[1:]]
        far = _summary_part(forth(far[0]), *keys, *sizes, is_causal, is_merged)
    if is_merged:
        outputs = _attend_to_both(near, far, forth, back, dropout)
    else:
        outputs, _ = attend(*far[:3], mask=far[3], dropout=dropout)
        outputs = back(outputs)
    return join_blocks(outputs, batch, (1, length), (1, block_size))


def _near_part(query, key, value, real, block_size, pattern, is_causal):
    """Returns queries `(B * C, N, L, K)`, their near keys and values, and which are to be seen."""
    reach = block_size - 1 if pattern == "strided" else 0
    block, before, after = (1, block_size), (0, reach), (0, 0 if is_causal else reach)
    offsets = memory_offsets(block, before, after)[1]
    allowed = ops.abs(offsets) < block_size
    if is_causal:
        allowed = ops.logical_and(allowed, offsets <= 0)
    grid = (1, ops.shape(query)[2])
    return neighbourhoods(query, key, value, real, grid, block, before, after, allowed)


def _strided_part(query, key, value, real, is_causal, excludes_near):
    """Returns queries `(B * L, N, C, K)`, the keys a multiple of `L` away, and which are seen."""
    indices = ops.arange(ops.shape(query)[2], dtype="int32")
    mask = _seen_keys(real, indices[:, None], indices, is_causal)
    if excludes_near:  # of which there is one: the position itself
        mask = ops.logical_and(mask, ops.not_equal(indices[:, None], indices))
    return query, key, value, mask


def _summaries(x, num_heads, block_size, count, turns):
    """Cuts the last keys out of blocks `(B * C, G, L, K)`, for each head its own if they differ."""
    x = x[:, :, block_size - count * turns :]
    if turns == 1:
        return x
    batch, groups, _, width = ops.shape(x)
    x = ops.repeat(x, num_heads // groups, axis=1)
    x = ops.reshape(x, (batch, num_heads // turns, turns, turns, count, width))
    x = ops.stack([x[:, :, turn, turns - 1 - turn] for turn in range(turns)], axis=2)
    return ops.reshape(x, (batch, num_heads, count, width))


def _turns(num_heads, turns):
    """Tells which group of far keys each head reads: `(N, 1, 1)`, or `(1, 1, 1)` for all heads."""
    heads = ops.arange(num_heads if turns > 1 else 1, dtype="int32")
    return ops.mod(heads, turns)[:, None, None]


def _summary_part(
    query, key, value, real, num_heads, block_size, count, turns, is_causal, excludes_near
):
    """Returns queries `(B, N, C * L, K)`, the last keys of all blocks, and which are seen."""
    queries = ops.arange(ops.shape(query)[2], dtype="int32")[:, None]
    keys = ops.arange(ops.shape(key)[2], dtype="int32")
    keys = keys // count * block_size + block_size - count + keys % count
    keys = keys - _turns(num_heads, turns) * count
    mask = _seen_keys(real, queries, keys, is_causal)
    if excludes_near:
        mask = ops.logical_and(mask, ops.not_equal(queries // block_size, keys // block_size))
    return query, key, value, mask


def _seen_keys(real, queries, keys, is_causal):
    mask = ops.swapaxes(real, 2, 3) > 0
    is_earlier = keys <= queries
    return ops.logical_and(mask, is_earlier if is_causal else ops.ones_like(is_earlier))


def _attend_to_both(near, far, forth, back, dropout):
    """Computes one softmax over near and far keys; `back` brings far things to near queries."""
    scores = [attention_logits(*near[:2]), back(attention_logits(*far[:2]))]
    masks = [near[3], back(far[3])]
    if masks[1].shape[1] > 1:  # Heads differ in what they see.
        masks[0] = ops.repeat(masks[0], masks[1].shape[1], axis=1)
    mask = ops.concatenate(masks, axis=-1)
    weights = masked_softmax(ops.concatenate(scores, axis=-1), mask)
    weights = ops.cast(weights, near[0].dtype)
    weights = weights if dropout is None else dropout(weights)
    # Slices, because `split` must know the length.
    size = near[1].shape[2]
    of_near, of_far = weights[..., :size], forth(weights[..., size:])
    return grouped_matmul(of_near, near[2]) + back(grouped_matmul(of_far, far[2]))


def _swap(x, batch):
    """Turns blocks into the columns across them: `(B * C, N, L, K)` to `(B * L, N, C, K)`."""
    rows, heads, columns, width = ops.shape(x)
    x = ops.reshape(x, (batch, rows // batch, heads, columns, width))
    x = ops.transpose(x, (0, 3, 2, 1, 4))
    return ops.reshape(x, (batch * columns, heads, rows // batch, width))


def _join_rows(x, batch):
    """Puts blocks one behind the other: `(B * C, N, L, K)` to `(B, N, C * L, K)`."""
    rows, heads, columns, width = ops.shape(x)
    x = ops.reshape(x, (batch, rows // batch, heads, columns, width))
    x = ops.transpose(x, (0, 2, 1, 3, 4))
    return ops.reshape(x, (batch, heads, rows // batch * columns, width))


def _split_rows(x, block_size):
    """Cuts blocks apart: the inverse of `_join_rows`."""
    batch, heads, length, width = ops.shape(x)
    count = length // block_size
    x = ops.reshape(x, (batch, heads, count, block_size, width))
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3, 4)), (batch * count, heads, block_size, width))


def _bits(real):
    # As numbers, because not every backend pads booleans.
    return ops.cast(real, "int8")[:, None, :, None]
