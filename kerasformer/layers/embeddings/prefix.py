"""Learned tokens in front of a sequence: class token, distillation token, registers."""

import keras
from keras import ops

from kerasformer.layers.initializers import serialize_initializer
from kerasformer.layers.sizes import check_sizes


@keras.saving.register_keras_serializable(package="kerasformer")
class PrefixTokens(keras.layers.Layer):
    """Puts learned tokens in front of a sequence, the same in every row.

    One is the class token of BERT and ViT; two are the class and the distillation token of DeiT,
    in this order; more are registers, which no head reads.

    Args:
        num_tokens: int. How many tokens.
        tokens_initializer: str, dict or initializer of the tokens; `None` means a normal
            distribution of standard deviation 0.02, cut at two of these.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.

    Returns:
        Float tensor `(B, num_tokens + T, hidden_dim)`.

    Masking: the mask of the inputs, `(B, T)`, is extended by `True` for the tokens. Call
    `compute_mask(inputs, mask)` where masks are passed by hand.

    Raises:
        ValueError: when `num_tokens` is not positive.

    Example:

    >>> tuple(PrefixTokens(num_tokens=2)(ops.ones((2, 5, 3))).shape)
    (2, 7, 3)

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), equation 1
        - [Touvron et al., 2020](https://arxiv.org/abs/2012.12877), section 4
        - [Darcet et al., 2023](https://arxiv.org/abs/2309.16588), registers
    """

    def __init__(self, num_tokens=1, tokens_initializer=None, **kwargs):
        super().__init__(**kwargs)
        check_sizes(num_tokens=num_tokens)
        self.num_tokens = num_tokens
        self.tokens_initializer = tokens_initializer
        self.supports_masking = True

    def build(self, inputs_shape):
        initializer = self.tokens_initializer
        if initializer is None:
            initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.tokens = self.add_weight(
            name="tokens",
            shape=(self.num_tokens, inputs_shape[-1]),
            initializer=initializer,
        )

    def call(self, inputs):
        shape = (ops.shape(inputs)[0], self.num_tokens, inputs.shape[-1])
        tokens = ops.broadcast_to(ops.cast(self.tokens, inputs.dtype), shape)
        return ops.concatenate([tokens, inputs], axis=1)

    def compute_mask(self, inputs, previous_mask=None):
        if previous_mask is None:
            return None
        # Keras calls this with symbolic masks too, whose batch is unknown.
        return ops.pad(previous_mask, [(0, 0), (self.num_tokens, 0)], constant_values=True)

    def compute_output_shape(self, inputs_shape):
        batch, length, hidden_dim = inputs_shape
        return (batch, None if length is None else length + self.num_tokens, hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "num_tokens": self.num_tokens,
            "tokens_initializer": serialize_initializer(self.tokens_initializer),
        }
