"""Self-attention in which a position looks at a few others, by a pattern known beforehand.

Letters: `B` batch, `T` length, `N` query heads, `G` key and value heads, `K` size of a head.
"""

from keras import ops

from kerasformer.layers.masks import check_key_mask, combine_masks
from kerasformer.layers.mixers.dot_product import attend
from kerasformer.layers.mixers.heads import AttentionHeads, check_sequence_shape


class PatternAttention(AttentionHeads):
    """Attends by the pattern of a subclass, or densely where somebody wants scores.

    A subclass has two methods. `sees(queries, keys)` tells for positions `(B, 1, T, 1)` and
    `(B, 1, 1, S)` which query may look at which key: a boolean tensor that broadcasts to
    `(B, N, T, S)`. `attend_sparsely(query, key, value, key_mask, is_causal, dropout)` computes the
    same without looking at all pairs: from `(B, N, T, K)` and `(B, G, T, K)` to `(B, N, T, K)`.
    """

    def build(self, inputs_shape):
        check_sequence_shape("inputs", inputs_shape)
        self._width = inputs_shape[-1]
        self._build_own(inputs_shape)

    def call(
        self,
        inputs,
        *,
        mask=None,
        inputs_mask=None,
        use_causal_mask=False,
        positions=None,
        return_attention_scores=False,
        training=None,
    ):
        self._check_sequence(inputs, positions)
        return self._attend_by_pattern(
            self._project_inputs(inputs, positions),
            inputs_mask if mask is None else mask,
            return_attention_scores,
            is_causal=use_causal_mask,
            dropout=self._dropout_function(training),
        )

    def _attend_by_pattern(self, heads, key_mask, needs_scores, **options):
        batch, _, length, _ = heads[1].shape
        if key_mask is not None:
            key_mask = check_key_mask(key_mask, (batch, None, None, length))
        if needs_scores:
            # Scores `(B, N, T, T)` are as large as dense attention, which needs no second code.
            indices = ops.arange(ops.shape(heads[1])[2], dtype="int32")
            pairs = indices[None, None, :, None], indices[None, None, None]
            mask, bias = combine_masks(key_mask, self.sees(*pairs)), self.bias(*pairs)
            options |= {"mask": mask, "position_bias": bias, "needs_scores": True}
            outputs, scores = attend(*heads, **options)
        else:
            outputs, scores = self.attend_sparsely(*heads, key_mask, **options), None
        outputs = self.output_dense(self._join_heads(outputs))
        return (outputs, scores) if needs_scores else outputs

    def bias(self, queries, keys):
        """Returns what is added to the scores of pairs, in the manner of `sees`, or `None`."""
        return None

    def _check_sequence(self, inputs, positions):
        self._check_positions(positions)
        self._check_inputs("inputs", inputs, self._width)


def check_grid_length(length, grid_size):
    """Refuses a sequence that is not as long as its grid.

    Args:
        length: int or `None`, an unknown length.
        grid_size: tuple of int, rows and columns.

    Raises:
        ValueError: when the length is another.

    Example:

    >>> check_grid_length(6, (2, 3))
    """
    if length not in (None, grid_size[0] * grid_size[1]):
        raise ValueError(
            "Expected a sequence as long as its grid, without prefix tokens, received "
            f"length={length} and grid_size={tuple(grid_size)}."
        )
