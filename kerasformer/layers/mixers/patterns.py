"""Self-attention in which a position looks at a few others, by a pattern known beforehand.

Letters: `B` batch, `T` length, `N` heads.
"""

from kerasformer.layers.masks import check_key_mask, combine_masks
from kerasformer.layers.mixers.dot_product import attend
from kerasformer.layers.mixers.heads import AttentionHeads, check_sequence_shape
from keras import ops


class PatternAttention(AttentionHeads):
    """Calls the method `attend_sparsely` of a subclass, or dense attention where scores are wanted.

    `sees(queries, keys)` of a subclass tells for positions `(B, 1, T, 1)` and `(B, 1, 1, S)` which
    query may look at which key, a boolean tensor that broadcasts to `(B, N, T, S)`.
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
        self._check_positions(positions)
        self._check_inputs("inputs", inputs, self._width)
        self._check_length(inputs.shape[1])
        batch, length, _ = inputs.shape
        key_mask = inputs_mask if mask is None else mask
        if key_mask is not None:
            key_mask = check_key_mask(key_mask, (batch, None, None, length))
        heads = self._project_inputs(inputs, positions)
        options = {"is_causal": use_causal_mask, "dropout": self._dropout_function(training)}
        if return_attention_scores:
            # Scores `(B, N, T, T)` are as large as dense attention, which needs no second code.
            indices = ops.arange(ops.shape(inputs)[1], dtype="int32")
            seen = self.sees(indices[None, None, :, None], indices[None, None, None])
            mask = combine_masks(key_mask, seen)
            outputs, scores = attend(*heads, mask=mask, needs_scores=True, **options)
        else:
            outputs, scores = self.attend_sparsely(*heads, key_mask, **options), None
        outputs = self.output_dense(self._join_heads(outputs))
        return (outputs, scores) if return_attention_scores else outputs

    def _check_length(self, length):
        """Refuses a length that the pattern is not made for: none, unless a subclass says so."""
