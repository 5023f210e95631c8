"""Pooling: layers that turn a sequence into one vector, or into one for each head.

Letters: `B` batch, `T` length.
"""

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite
from kerasformer.layers.feed_forward import FeedForward
from kerasformer.layers.masks import combine_masks
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.residual import Residual


@keras.saving.register_keras_serializable(package="kerasformer")
class TokenPooling(keras.layers.Layer):
    """Takes the first token of a sequence, the class token, or the first ones.

    Args:
        num_tokens: int or `None`. How many tokens to take, one for each head that follows; `None`
            for the first alone.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.

    Returns:
        Float tensor `(B, hidden_dim)`, or `(B, num_tokens, hidden_dim)`.

    Masking: the first tokens are taken to be real. Produces no mask.

    Raises:
        ValueError: when `num_tokens` is not positive.

    Example:

    >>> x = ops.ones((2, 5, 3))
    >>> tuple(TokenPooling()(x).shape), tuple(TokenPooling(num_tokens=2)(x).shape)
    ((2, 3), (2, 2, 3))

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), equation 4
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), section 4, two tokens
    """

    def __init__(self, num_tokens=None, **kwargs):
        super().__init__(**kwargs)
        if num_tokens is not None and num_tokens < 1:
            raise ValueError(
                f"Expected num_tokens of at least 1 or None, received num_tokens={num_tokens}."
            )
        self.num_tokens = num_tokens
        self.supports_masking = True

    def build(self, inputs_shape):
        """Makes nothing: there are no weights."""

    def call(self, inputs):
        return inputs[:, 0] if self.num_tokens is None else inputs[:, : self.num_tokens]

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, inputs_shape):
        batch, _, hidden_dim = inputs_shape
        return (batch, *([self.num_tokens] if self.num_tokens else []), hidden_dim)

    def get_config(self):
        return {**super().get_config(), "num_tokens": self.num_tokens}


@keras.saving.register_keras_serializable(package="kerasformer")
class MeanPooling(Composite):
    """Averages a sequence over its real positions.

    Args:
        num_prefix_tokens: int. Tokens at the start that are left out.
        epsilon: float or `None`. Added to the variance by a normalisation of the mean, as in MAE
            (an `Encoder` with `use_final_norm=False` goes with it); `None` for none.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`. Keras fills it by itself.

    Returns:
        Float tensor `(B, hidden_dim)`.

    Masking: hidden positions get no weight, and a row without any real one gives zeros. Produces
    no mask.

    Example:

    >>> x = ops.array([[[9.0], [1.0], [3.0]]])
    >>> float(MeanPooling(num_prefix_tokens=1)(x)[0, 0])
    2.0

    References:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), appendix A.1
    """

    def __init__(self, num_prefix_tokens=0, epsilon=None, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens
        self.epsilon = epsilon
        self.supports_masking = True
        self.norm = None
        if epsilon is not None:
            self.norm = keras.layers.LayerNormalization(
                epsilon=epsilon, name="norm", dtype=self.dtype_policy
            )

    def build(self, inputs_shape):
        if self.norm is not None:
            self.norm.build((inputs_shape[0], inputs_shape[-1]))

    def call(self, inputs, *, mask=None):
        x = self._mean(inputs, mask)
        return x if self.norm is None else self.norm(x)

    def _mean(self, inputs, mask):
        x = inputs[:, self.num_prefix_tokens :] if self.num_prefix_tokens else inputs
        if mask is None:
            return ops.mean(x, axis=1)
        dtype = keras.backend.result_type(x.dtype, "float32")
        real = _real_positions(mask, inputs)[:, self.num_prefix_tokens :, None]
        real = ops.cast(real, dtype)
        total = ops.sum(ops.where(real > 0, ops.cast(x, dtype), 0.0), axis=1)
        return ops.cast(total / ops.maximum(ops.sum(real, axis=1), 1.0), x.dtype)

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], inputs_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "num_prefix_tokens": self.num_prefix_tokens,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class SequencePooling(Composite):
    """Averages a sequence with weights that depend on it: `softmax(x g)ᵀ x`.

    The vector `g` is learned. The paper's linear layer has a bias too, which the softmax cancels.

    Args:
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`. Keras fills it by itself.

    Returns:
        Float tensor `(B, hidden_dim)`.

    Masking: hidden positions get no weight, and a row without any real one gives zeros. Produces
    no mask.

    Example:

    >>> tuple(SequencePooling()(ops.ones((2, 5, 3))).shape)
    (2, 3)

    References:
        - [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), section 3.2
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.score_dense = keras.layers.Dense(
            1, use_bias=False, name="score_dense", dtype=self.dtype_policy
        )

    def build(self, inputs_shape):
        self.score_dense.build(inputs_shape)

    def call(self, inputs, *, mask=None):
        weights = ops.cast(self.weights_of(inputs, mask), inputs.dtype)
        return ops.matmul(weights[:, None], inputs)[:, 0]

    def weights_of(self, inputs, mask=None):
        """Returns the weights of the positions, float `(B, T)`, in float32 at least."""
        scores = self.score_dense(inputs)[..., 0]
        scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
        if mask is None:
            return ops.softmax(scores, axis=1)
        real = ops.cast(_real_positions(mask, inputs), scores.dtype)
        return ops.softmax(scores + 1e9 * (real - 1.0), axis=1) * real

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], inputs_shape[-1])

    def get_config(self):
        return super().get_config()


@keras.saving.register_keras_serializable(package="kerasformer")
class AttentionPooling(Composite):
    """Attends from one learned query, the probe, to a sequence: the MAP head of ViT-G.

    `x = attention(probe, inputs)`, then `x + feed_forward(norm(x))`. The probe itself is not
    added.

    Args:
        hidden_dim: int. Size of the output.
        num_heads: int. Number of heads of the attention.
        intermediate_dim: int. Inner size of the feed-forward layer.
        activation: str or callable. Activation of the feed-forward layer.
        epsilon: float. Added to the variance by the normalisation.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`. Keras fills it by itself.

    Returns:
        Float tensor `(B, hidden_dim)`.

    Masking: hidden positions change nothing. Produces no mask.

    Example:

    >>> layer = AttentionPooling(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(layer(ops.ones((2, 5, 6))).shape)
    (2, 6)

    References:
        - [Lee et al., 2018](https://arxiv.org/abs/1810.00825), section 3.2
        - [Zhai et al., 2021](https://arxiv.org/abs/2106.04560), appendix D.3
    """

    def __init__(
        self,
        hidden_dim,
        num_heads,
        intermediate_dim,
        activation="gelu_tanh",
        epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.epsilon = epsilon
        self.supports_masking = True
        self.attention = MultiHeadAttention(
            hidden_dim, num_heads, name="attention", dtype=self.dtype_policy
        )
        feed_forward = FeedForward(
            hidden_dim,
            intermediate_dim,
            activation=activation,
            name="feed_forward",
            dtype=self.dtype_policy,
        )
        self.feed_forward = Residual(
            feed_forward, epsilon=epsilon, name="feed_forward", dtype=self.dtype_policy
        )

    def build(self, inputs_shape):
        self.probe = self.add_weight(
            name="probe", shape=(1, 1, self.hidden_dim), initializer="glorot_uniform"
        )
        self.attention.build((None, 1, self.hidden_dim), inputs_shape)
        self.feed_forward.build((None, 1, self.hidden_dim))

    def call(self, inputs, *, mask=None, training=None):
        x = self._attend(inputs, mask, training=training)
        return self.feed_forward(x, training=training)[:, 0]

    def weights_of(self, inputs, mask=None):
        """Returns the attention to the positions, the mean of the heads, float `(B, T)`."""
        _, scores = self._attend(inputs, mask, return_attention_scores=True)
        return ops.mean(scores[:, :, 0], axis=1)

    def _attend(self, inputs, mask, **options):
        # The probe has a batch of one and broadcasts, so it is projected once.
        return self.attention(
            ops.cast(self.probe, self.compute_dtype),
            inputs,
            context_mask=mask,
            **options,
        )

    def compute_mask(self, inputs, previous_mask=None):
        return None

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "activation": serialize_activation(self.activation),
            "epsilon": self.epsilon,
        }


def _real_positions(mask, inputs):
    """Checks a padding mask `(B, T)` against a sequence."""
    batch, length, _ = inputs.shape
    return combine_masks(mask, shape=(batch, None, None, length))[:, 0, 0]
