"""Mixers that are feed-forward layers over positions: a learned matrix stands for attention.

Letters: `B` batch, `T` length, the one that the layer was built for.
"""

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite
from kerasformer.layers.feed_forward import FeedForward
from kerasformer.layers.initializers import clone_initializer, serialize_initializer
from kerasformer.layers.sizes import check_sizes


class _OverPositions(Composite):
    """Applies a small network to the values that one feature has at all positions."""

    def __init__(
        self,
        *,
        activation="gelu",
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.activation = activation
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.seed = seed
        self.supports_masking = True

    def _inner_size(self, length):
        """Returns the size of the inner layer, or `None` for a network without one."""
        raise NotImplementedError

    def build(self, inputs_shape):
        batch, length, width = inputs_shape
        if length is None:
            raise ValueError(
                f"Expected inputs of a known length, because layer name={self.name!r} has weights "
                f"for each position, received shape={tuple(inputs_shape)}."
            )
        self._length = length
        size = self._inner_size(length)
        options = {
            "use_bias": self.use_bias,
            "kernel_initializer": clone_initializer(self.kernel_initializer),
            "bias_initializer": clone_initializer(self.bias_initializer),
            "dtype": self.dtype_policy,
        }
        if size is None:
            self.dense = keras.layers.Dense(length, name="dense", **options)
            self._network = self.dense
        else:
            options |= {"activation": self.activation, "dropout": self.dropout, "seed": self.seed}
            self.feed_forward = FeedForward(length, size, name="feed_forward", **options)
            self._network = self.feed_forward
        self._network.build((batch, width, length))

    def call(self, inputs, mask=None):
        check_length(self, inputs)
        x = hide(inputs, mask)
        x = self._network(ops.transpose(x, (0, 2, 1)))
        return ops.transpose(x, (0, 2, 1))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "activation": serialize_activation(self.activation),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "bias_initializer": serialize_initializer(self.bias_initializer),
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class TokenMixing(_OverPositions):
    """Applies one feed-forward layer to each feature, across all positions.

    For each feature, `activation(x W1 + b1) W2 + b2` of its values at the `T` positions. The length
    is fixed when the layer is built, because each position has weights of its own.

    Args:
        intermediate_dim: int. Inner size of the feed-forward layer.
        activation: str or callable. `"gelu"` (exact), `"gelu_tanh"`, `"relu"`, ...
        dropout: float in `[0, 1)`. Rate at which inner activations are dropped.
        use_bias: bool. Whether both products add a bias.
        kernel_initializer: Keras initializer, its name or its config, for both kernels.
        bias_initializer: Keras initializer, its name or its config, for both biases.
        seed: int or `None`. Seed of the dropout.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: positions that are not real count as zeros, so that no other position depends on them;
    the mask is kept. An attention mask or causality has no meaning, because each inner unit reads
    all positions; blocks refuse both in one sentence.

    Raises:
        ValueError: when the length is unknown or another than that of the first call.

    Example:

    >>> tuple(TokenMixing(intermediate_dim=7)(ops.ones((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Tolstikhin et al., 2021](https://arxiv.org/abs/2105.01601), section 2
    """

    def __init__(self, intermediate_dim, **kwargs):
        super().__init__(**kwargs)
        check_sizes(intermediate_dim=intermediate_dim)
        self.intermediate_dim = intermediate_dim

    def _inner_size(self, length):
        return self.intermediate_dim

    def get_config(self):
        return {**super().get_config(), "intermediate_dim": self.intermediate_dim}


def check_length(layer, inputs):
    """Refuses a sequence of another length than the one that a layer was built for."""
    if inputs.shape[1] not in (None, layer._length):
        raise ValueError(
            f"Expected inputs of length {layer._length}, for which layer name={layer.name!r} was "
            f"built, received shape={tuple(inputs.shape)}."
        )


def hide(inputs, mask):
    """Makes positions zero that a mask `(B, T)` says are not real."""
    if mask is None:
        return inputs
    return ops.where(ops.convert_to_tensor(mask)[:, :, None], inputs, ops.zeros_like(inputs))
