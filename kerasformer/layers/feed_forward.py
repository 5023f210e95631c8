"""Position-wise feed-forward layers: the same small network at every position."""

import keras
from keras import ops

from kerasformer.layers.activations import get_activation, serialize_activation
from kerasformer.layers.children import Composite
from kerasformer.layers.initializers import make_dense, serialize_initializer


@keras.saving.register_keras_serializable(package="kerasformer")
class FeedForward(Composite):
    """Applies `activation(x W1 + b1) W2 + b2` at every position.

    Args:
        hidden_dim: int. Size of the outputs.
        intermediate_dim: int. Size of the inner layer.
        activation: str or callable. `"relu"`, `"gelu"` (exact), `"gelu_tanh"`, `"silu"`, ...
        dropout: float in `[0, 1)`. Rate at which inner activations are dropped.
        use_bias: bool. Whether both products add a bias.
        kernel_initializer: Keras initializer, its name or its config, for both kernels.
        bias_initializer: Keras initializer, its name or its config, for both biases.
        seed: int or `None`. Seed of the dropout.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: the mask of the inputs is kept.

    Example:

    >>> tuple(FeedForward(hidden_dim=3, intermediate_dim=7)(ops.ones((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), equation 2
    """

    # The gated form computes the gate and the value in one product, twice as wide.
    _inner_products = 1

    def __init__(
        self,
        hidden_dim,
        intermediate_dim,
        activation="relu",
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.seed = seed
        self.supports_masking = True
        self.activation_function = get_activation(activation)
        self.inner_dense = make_dense(self, self._inner_products * intermediate_dim, "inner_dense")
        self.output_dense = make_dense(self, hidden_dim, "output_dense")
        self.dropout_layer = keras.layers.Dropout(
            dropout, seed=seed, name="dropout_layer", dtype=self.dtype_policy
        )

    def build(self, inputs_shape):
        self.inner_dense.build(inputs_shape)
        self.output_dense.build((*inputs_shape[:-1], self.intermediate_dim))

    def call(self, inputs, training=None):
        x = self.dropout_layer(self._activate(self.inner_dense(inputs)), training=training)
        return self.output_dense(x)

    def _activate(self, x):
        return self.activation_function(x)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "activation": serialize_activation(self.activation),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "bias_initializer": serialize_initializer(self.bias_initializer),
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class GatedFeedForward(FeedForward):
    """Applies `(activation(x W1) * x V) W2` at every position (SwiGLU with `"silu"`).

    Args:
        hidden_dim: int. Size of the outputs.
        intermediate_dim: int. Size of the inner layer.
        activation: str or callable, of the gate.
        dropout: float in `[0, 1)`. Rate at which inner activations are dropped.
        use_bias: bool. Whether the products add a bias.
        **kwargs: the other arguments of `FeedForward`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: the mask of the inputs is kept.

    Example:

    >>> tuple(GatedFeedForward(hidden_dim=3, intermediate_dim=7)(ops.ones((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Shazeer, 2020](https://arxiv.org/abs/2002.05202), equation 6
    """

    _inner_products = 2

    def __init__(
        self,
        hidden_dim,
        intermediate_dim,
        activation="silu",
        dropout=0.0,
        use_bias=False,
        **kwargs,
    ):
        super().__init__(hidden_dim, intermediate_dim, activation, dropout, use_bias, **kwargs)

    def _activate(self, x):
        gate, value = ops.split(x, 2, axis=-1)
        return self.activation_function(gate) * value
