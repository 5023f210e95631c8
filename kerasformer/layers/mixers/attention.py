"""Multi-head attention: the pure functions first, then the layer that owns the weights.

Letters: `B` batch, `T` query length, `S` key length, `N` query heads, `G` key and value heads
(`G = N` unless grouped), `K` size of a head, `L` length of a decoding cache, `R` decoded rows
(`R = B * beams`).
"""

import keras
from keras import ops

from kerasformer.layers.initializers import make_dense
from kerasformer.layers.masks import combine_masks
from kerasformer.layers.mixers.caches import KeyValueCache
from kerasformer.layers.mixers.dot_product import attend
from kerasformer.layers.mixers.heads import AttentionHeads, check_sequence_shape


@keras.saving.register_keras_serializable(package="kerasformer")
class MultiHeadAttention(KeyValueCache, AttentionHeads):
    """Lets each position of a sequence look at a sequence: its own, or a context.

    Called with `inputs` alone it is self-attention: one matrix product projects query, key and
    value. Called with a `context` it is cross-attention: one product projects the query, one key
    and value. The first call decides which.

    Args:
        hidden_dim: int. Size of the outputs.
        num_heads: int. Number of query heads, `N`.
        num_key_value_heads: int or `None`. Number of key and value heads `G`, a divisor of
            `num_heads`; `None` means `num_heads`. 1 is multi-query attention.
        key_dim: int or `None`. Size of a head, `K`; `None` means `hidden_dim // num_heads`.
        use_bias: bool. Whether the projections add a bias.
        dropout: float in `[0, 1)`. Rate at which attention probabilities are dropped.
        use_rotary: bool. Whether query and key are turned by their positions
            (`RotaryEmbedding`); self-attention only.
        rotary_max_wavelength: float. Base of the wavelengths, for `use_rotary`.
        rotary_scaling: `("linear", factor)`, `("ntk", factor)` or `None`, for `use_rotary`, as
            `rotate` explains.
        kernel_initializer: Keras initializer, its name or its config, for all kernels. The fan of
            a fused kernel counts all its parts: Glorot's initialisation of it equals that of
            separate kernels with gain `1/sqrt(2)`.
        bias_initializer: Keras initializer, its name or its config, for all biases.
        seed: int or `None`. Seed of the dropout; with an int its masks can be repeated.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`, the queries.
        context: float tensor `(B, S, context_dim)`, or `None` for self-attention.
        mask: boolean tensor `(B, T)`, the real positions of `inputs`.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        context_mask: boolean tensor `(B, S)`, the real positions of `context`.
        attention_mask: boolean tensor `(T, S)`, `(B, T, S)` or `(B, N, T, S)`; `B`, `N` or `T` may
            be 1 in it, for a mask that is shared.
        use_causal_mask: bool. Whether a position may not look at later ones.
        position_bias: float tensor that broadcasts to `(B, N, T, S)`.
        positions: int tensor as `rotate` takes it, for `use_rotary`; `None` means `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, S)` before dropout.

    Masking: all masks given are joined by "and". Keras fills them by itself: `mask` when `inputs`
    is the only tensor, `inputs_mask` and `context_mask` when there are more. The mask of the
    inputs hides keys, never queries, and is kept as the mask of the outputs. A query that may look
    at no key gets zeros before the output projection.

    Raises:
        ValueError: when a size is below 1 or sizes contradict each other, inputs or masks have
            another shape, a layer built for one kind of attention is called for the other, or one
            is given a causal mask or positions it cannot use.

    Example:

    >>> layer = MultiHeadAttention(hidden_dim=6, num_heads=3)
    >>> tuple(layer(ops.ones((2, 5, 6)), use_causal_mask=True).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2
    """

    def build(self, inputs_shape, context_shape=None):
        check_sequence_shape("inputs", inputs_shape)
        if context_shape is not None:
            check_sequence_shape("context", context_shape)
        # The projections depend on the kind of attention, which is known only here.
        self.is_cross_attention = context_shape is not None
        self._widths = [shape and shape[-1] for shape in (inputs_shape, context_shape)]
        if not self.is_cross_attention:
            self._build_own(inputs_shape)
            return
        if self.use_rotary:
            raise ValueError(
                "Expected context=None with use_rotary=True, received a context of "
                f"shape={tuple(context_shape)}."
            )
        query_dim = self.num_heads * self._head_dim
        self.query_dense = make_dense(self, query_dim, "query_dense")
        self.query_dense.build(inputs_shape)
        self.key_value_dense = make_dense(
            self, 2 * self._groups * self._head_dim, "key_value_dense"
        )
        self.key_value_dense.build(context_shape)
        self.output_dense.build((*inputs_shape[:-1], query_dim))

    def call(
        self,
        inputs,
        context=None,
        *,
        mask=None,
        inputs_mask=None,
        context_mask=None,
        attention_mask=None,
        use_causal_mask=False,
        position_bias=None,
        positions=None,
        return_attention_scores=False,
        training=None,
    ):
        self._check_call(inputs, context, use_causal_mask, positions)
        if context is None:
            key_mask, source = inputs_mask if mask is None else mask, inputs
            query, key, value = self._project_inputs(inputs, positions)
        else:
            key_mask, source = context_mask, context
            query = self._split_heads(self.query_dense(inputs), self.num_heads)
            key, value = self.project_context(context)
        # Pooling hands in one query, a batch of 1, for all examples of a context.
        batch = inputs.shape[0] if source.shape[0] == 1 else source.shape[0]
        shape = (batch, self.num_heads, inputs.shape[1], source.shape[1])
        outputs, scores = self._attend(
            query,
            key,
            value,
            mask=combine_masks(key_mask, attention_mask, shape=shape),
            is_causal=use_causal_mask,
            position_bias=position_bias,
            dropout=self._dropout_function(training),
            needs_scores=return_attention_scores,
        )
        outputs = self.output_dense(self._join_heads(outputs))
        return (outputs, scores) if return_attention_scores else outputs

    def _attend(self, query, key, value, **options):
        """Averages the values: what other kinds of attention replace."""
        return attend(query, key, value, **options)

    def step(self, inputs, cache, positions):
        """Attends from the next tokens of each row to themselves and the tokens before them.

        Args:
            inputs: float tensor `(R, T, input_dim)`.
            cache: tuple of keys and values `(R, G, L, K)`, as `init_cache` made it.
            positions: int tensor `(R,)`, where each row's first token goes. The last must be
                below `L`: past it TensorFlow raises an error, and JAX and torch may not.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the cache with the tokens written to it.
        """
        self._check_kind(False)
        query, cache, positions = self._write_step(inputs, cache, positions)
        seen = ops.arange(ops.shape(cache[0])[2], dtype="int32") <= positions[:, :, None]
        # The reference, with scores that nobody reads: no kernel is faster for one query.
        outputs, _ = self._attend(query, *cache, mask=combine_masks(None, seen), needs_scores=True)
        return self.output_dense(self._join_heads(outputs)), cache

    def project_context(self, context):
        """Computes the keys and values `(B, G, S, K)` of a context `(B, S, context_dim)` once."""
        key_value = self._split_heads(self.key_value_dense(context), 2 * self._groups)
        return tuple(ops.split(key_value, 2, axis=1))

    def cross_step(self, inputs, context_cache, context_mask=None):
        """Attends from the next tokens of each row to a context whose keys and values are known.

        The rows of one sentence (its beams) become the queries of one product, so that keys and
        values are never copied per beam.

        Args:
            inputs: float tensor `(R, T, input_dim)`, `R` a multiple of `B`, batch-major.
            context_cache: tuple of keys and values `(B, G, S, K)` from `project_context`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Float tensor `(R, T, hidden_dim)`.
        """
        self._check_kind(True)
        keys, values = context_cache
        (rows, length, width), batch = ops.shape(inputs), ops.shape(keys)[0]
        inputs = ops.reshape(inputs, (batch, rows // batch * length, width))
        query = self._split_heads(self.query_dense(inputs), self.num_heads)
        outputs, _ = self._attend(
            query, keys, values, mask=combine_masks(context_mask), needs_scores=True
        )
        outputs = self.output_dense(self._join_heads(outputs))
        return ops.reshape(outputs, (rows, length, self.hidden_dim))

    def _check_call(self, inputs, context, use_causal_mask, positions):
        self._check_kind(context is not None)
        if context is not None and use_causal_mask:
            raise ValueError(
                "Expected context=None with use_causal_mask=True, received a context of "
                f"shape={tuple(context.shape)}."
            )
        self._check_positions(positions)
        self._check_inputs("inputs", inputs, self._widths[0])
        if context is not None:
            self._check_inputs("context", context, self._widths[1])

    def _check_kind(self, is_cross_attention):
        if is_cross_attention != self.is_cross_attention:
            kinds = {True: "cross-attention", False: "self-attention"}
            raise ValueError(
                f"Expected a call for {kinds[self.is_cross_attention]}, for which layer "
                f"name={self.name!r} was built, received one for {kinds[is_cross_attention]}."
            )

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return super().compute_output_shape(inputs_shape)
