"""The attention of translators before the Transformer: a decoder's state looks at a source.

Letters: `B` batch, `T` query length, `S` key length, `K` size of what is compared, `D` size of the
context.
"""

import keras
from keras import ops

from kerasformer.layers.children import Composite
from kerasformer.layers.initializers import clone_initializer, serialize_initializer
from kerasformer.layers.masks import check_key_mask, fits
from kerasformer.layers.mixers.dot_product import masked_softmax
from kerasformer.layers.sizes import check_sizes

SCORES = ("dot", "general", "concat")


def additive_scores(query, keys, vector):
    """Computes `v^T tanh(q + k)` for each query and each key.

    Args:
        query: float tensor `(B, T, K)`.
        keys: float tensor `(B, S, K)`.
        vector: float tensor `(K, 1)`.

    Returns:
        Float tensor `(B, T, S)`.

    Example:

    >>> scores = additive_scores(ops.zeros((1, 2, 3)), ops.zeros((1, 5, 3)), ops.ones((3, 1)))
    >>> tuple(scores.shape)
    (1, 2, 5)
    """
    x = ops.tanh(query[:, :, None] + keys[:, None])
    return ops.squeeze(ops.tensordot(x, vector, axes=1), axis=-1)


def alignment_probabilities(scores, context_mask=None):
    """Computes the softmax of scores over the keys that the mask allows, in float32 at least.

    Args:
        scores: float tensor `(B, T, S)`.
        context_mask: boolean tensor `(B, S)`, `True` = real, or `None`.

    Returns:
        Float tensor `(B, T, S)`; zeros for an example without any real key.

    Example:

    >>> mask = ops.array([[True, True, False]])
    >>> alignment_probabilities(ops.zeros((1, 1, 3)), mask).numpy().tolist()
    [[[0.5, 0.5, 0.0]]]
    """
    dtype = keras.backend.result_type(scores.dtype, "float32")
    mask = None if context_mask is None else context_mask[:, None]
    return masked_softmax(ops.cast(scores, dtype), mask)


class _Alignment(Composite):
    """Weighs a context by scores that a subclass computes."""

    def __init__(self, hidden_dim, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        check_sizes(hidden_dim=hidden_dim)
        self.hidden_dim = hidden_dim
        self.kernel_initializer = kernel_initializer
        self.supports_masking = True

    def build(self, inputs_shape, context_shape):
        for name, shape, ranks in (
            ("inputs", inputs_shape, (2, 3)),
            ("context", context_shape, [3]),
        ):
            if len(shape) not in ranks or shape[-1] is None:
                raise ValueError(
                    f"Expected {name} of {' or '.join(map(str, ranks))} axes with a known last "
                    f"size, received shape={tuple(shape)}."
                )
        self._widths = (inputs_shape[-1], context_shape[-1])

    def call(
        self,
        inputs,
        context,
        *,
        context_mask=None,
        return_attention_scores=False,
    ):
        is_one = len(inputs.shape) == 2
        query = inputs[:, None] if is_one else inputs
        self._check_sequences(query, context)
        keys = self.project_context(context)
        outputs, scores = self.attend(query, keys, context, context_mask)
        if is_one:
            outputs, scores = outputs[:, 0], scores[:, 0]
        return (outputs, scores) if return_attention_scores else outputs

    def attend(self, inputs, keys, context, context_mask=None):
        """Looks at a context whose keys are known, as a decoder does at each step.

        The beams of a sentence are queries of one context, which need not be copied for them.

        Args:
            inputs: float tensor `(B, T, input_dim)`.
            keys: float tensor `(B, S, K)` from `project_context`.
            context: float tensor `(B, S, D)`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Tuple of the outputs `(B, T, D)` and the probabilities `(B, T, S)`.

        Raises:
            ValueError: before the layer is built, or for other shapes than those it is built for.
        """
        self._check_sequences(inputs, context)
        if context_mask is not None:
            shape = (context.shape[0], None, None, context.shape[1])
            context_mask = check_key_mask(context_mask, shape)
        probabilities = alignment_probabilities(self.scores(inputs, keys), context_mask)
        probabilities = ops.cast(probabilities, self.compute_dtype)
        return ops.matmul(probabilities, context), probabilities

    def _check_built(self):
        if not self.built:
            raise ValueError(
                f"Expected layer name={self.name!r} to be called or built before its attend and "
                f"project_context, received built={self.built}."
            )

    def _check_sequences(self, inputs, context):
        self._check_built()
        input_dim, context_dim = self._widths
        batch = context.shape[0] if len(context.shape) == 3 else None
        if not (
            fits(inputs.shape, (batch, None, input_dim))
            and fits(context.shape, (None, None, context_dim))
        ):
            raise ValueError(
                f"Expected inputs (B, T, {input_dim}) and a context (B, S, {context_dim}), for "
                f"which layer name={self.name!r} was built, received inputs of "
                f"shape={tuple(inputs.shape)} and a context of shape={tuple(context.shape)}."
            )

    def _dense(self, name):
        return keras.layers.Dense(
            self.hidden_dim,
            use_bias=False,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            name=name,
            dtype=self.dtype_policy,
        )

    def _add_vector(self):
        return self.add_weight(
            name="vector",
            shape=(self.hidden_dim, 1),
            initializer=clone_initializer(self.kernel_initializer),
        )

    # Keras traces the call, because `return_attention_scores` changes what comes out of it.
    compute_output_spec = keras.Operation.compute_output_spec

    def compute_output_shape(self, inputs_shape, context_shape):
        return (*inputs_shape[:-1], context_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class AdditiveAttention(_Alignment):
    """Looks at a context by Bahdanau's scores: `e = v^T tanh(W s + U h)`.

    `s` is a query, such as the state of a decoder, and `h` a position of the context. The layer of
    the same name in Keras has no `W` and no `U`: it takes both as they are, so they must be of
    one size.

    Args:
        hidden_dim: int. Size of `v`, to which queries and context are projected.
        kernel_initializer: Keras initializer, its name or its config, for `W`, `U` and `v`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`, the queries, or `(B, input_dim)`, one each.
        context: float tensor `(B, S, D)`.
        context_mask: boolean tensor `(B, S)`, the real positions of `context`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, D)`, the weighted means of the context; with
        `return_attention_scores=True` a tuple of it and the probabilities `(B, T, S)`. For one
        query each, both lack the axis `T`.

    Masking: Keras fills `context_mask` by itself. A query of an example without any real key gets
    zeros. The mask of the inputs is kept as the mask of the outputs.

    Raises:
        ValueError: when `hidden_dim` is no size, or inputs, context or mask have another shape.

    Example:

    >>> layer = AdditiveAttention(hidden_dim=4)
    >>> tuple(layer(ops.ones((2, 5, 6)), ops.ones((2, 7, 3))).shape)
    (2, 5, 3)

    References:
        - [Bahdanau et al., 2014](https://arxiv.org/abs/1409.0473), section 3.1 and appendix A.1.2
    """

    def __init__(self, hidden_dim, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(hidden_dim, kernel_initializer, **kwargs)
        self.query_dense = self._dense("query_dense")
        self.key_dense = self._dense("key_dense")

    def build(self, inputs_shape, context_shape):
        super().build(inputs_shape, context_shape)
        self.query_dense.build(inputs_shape)
        self.key_dense.build(context_shape)
        self.vector = self._add_vector()

    def project_context(self, context):
        """Computes the keys `U h` `(B, S, hidden_dim)` of a context `(B, S, D)` once."""
        self._check_built()
        return self.key_dense(context)

    def scores(self, inputs, keys):
        """Computes the scores `(B, T, S)` of queries `(B, T, input_dim)`, before the softmax."""
        return additive_scores(self.query_dense(inputs), keys, self.vector)


@keras.saving.register_keras_serializable(package="kerasformer")
class MultiplicativeAttention(_Alignment):
    """Looks at a context by one of Luong's scores.

    `h` is a query, such as the state of a decoder, and `s` a position of the context:

    - `"dot"`: `h^T s`, for queries and a context of one size;
    - `"general"`: `h^T W s`;
    - `"concat"`: `v^T tanh(W [h; s])`, which is the score of `AdditiveAttention`.

    `keras.layers.Attention` knows `"dot"` and a `"concat"` without `W`.

    Args:
        hidden_dim: int. Size of the queries; with `"concat"` the size of `v`.
        score: str. `"dot"`, `"general"` or `"concat"`.
        kernel_initializer: Keras initializer, its name or its config, for `W` and `v`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments, returns, masking: as those of `AdditiveAttention`.

    Raises:
        ValueError: for an unknown score, or when inputs, context or mask have another shape.

    Example:

    >>> layer = MultiplicativeAttention(hidden_dim=6, score="general")
    >>> outputs, scores = layer(
    ...     ops.ones((2, 6)), ops.ones((2, 7, 3)), return_attention_scores=True
    ... )
    >>> tuple(outputs.shape), tuple(scores.shape)
    ((2, 3), (2, 7))

    References:
        - [Luong et al., 2015](https://arxiv.org/abs/1508.04025), section 3.1
    """

    def __init__(self, hidden_dim, score="general", kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(hidden_dim, kernel_initializer, **kwargs)
        if score not in SCORES:
            raise ValueError(f"Expected score to be one of {list(SCORES)}, received {score=}.")
        self.score = score
        self.key_dense = None if score == "dot" else self._dense("key_dense")
        self.query_dense = self._dense("query_dense") if score == "concat" else None

    def build(self, inputs_shape, context_shape):
        super().build(inputs_shape, context_shape)
        widths = {"inputs": inputs_shape[-1], "context": context_shape[-1]}
        compared = {"dot": ("inputs", "context"), "general": ("inputs",), "concat": ()}
        for name in compared[self.score]:
            if widths[name] != self.hidden_dim:
                raise ValueError(
                    f"Expected {name} of width hidden_dim={self.hidden_dim} with "
                    f"score={self.score!r}, received width={widths[name]}."
                )
        if self.key_dense is not None:
            self.key_dense.build(context_shape)
        if self.query_dense is not None:
            self.query_dense.build(inputs_shape)
            self.vector = self._add_vector()

    def project_context(self, context):
        """Computes the keys `(B, S, hidden_dim)` of a context `(B, S, D)` once."""
        self._check_built()
        return context if self.key_dense is None else self.key_dense(context)

    def scores(self, inputs, keys):
        """Computes the scores `(B, T, S)` of queries `(B, T, input_dim)`, before the softmax."""
        if self.query_dense is not None:
            return additive_scores(self.query_dense(inputs), keys, self.vector)
        return ops.matmul(inputs, ops.swapaxes(keys, 1, 2))

    def get_config(self):
        return {**super().get_config(), "score": self.score}
