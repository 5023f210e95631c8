"""Mixers that are feed-forward layers over positions: a learned matrix stands for attention.

Letters: `B` batch, `T` length, the one that the layer was built for.
"""

import numbers

import keras
from keras import ops

from kerasformer.layers.activations import get_activation, serialize_activation
from kerasformer.layers.children import Composite
from kerasformer.layers.feed_forward import FeedForward
from kerasformer.layers.initializers import clone_initializer, serialize_initializer
from kerasformer.layers.masks import check_key_mask
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
        get_activation(activation)  # An error here, and not when the layer is built.
        if not isinstance(dropout, numbers.Real) or not 0 <= dropout < 1:
            raise ValueError(
                "Expected dropout to be a number of at least 0 and less than 1, received "
                f"dropout={dropout!r}."
            )
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
        batch, _, width = inputs_shape
        self.length = length = known_length(self, inputs_shape)
        size = self._inner_size(length)
        options = {
            "use_bias": self.use_bias,
            "kernel_initializer": clone_initializer(self.kernel_initializer),
            "bias_initializer": clone_initializer(self.bias_initializer),
            "dtype": self.dtype_policy,
        }
        if size is None:
            self.network = keras.layers.Dense(length, name="network", **options)
        else:
            options |= {"activation": self.activation, "dropout": self.dropout, "seed": self.seed}
            self.network = FeedForward(length, size, name="network", **options)
        self.network.build((batch, width, length))

    def call(self, inputs, *, mask=None):
        check_length(self, inputs)
        x = hide(inputs, mask)
        x = self.network(ops.transpose(x, (0, 2, 1)))
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
        ValueError: when the length is unknown or another than that of the first call, or for a mask
            of another shape.

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


@keras.saving.register_keras_serializable(package="kerasformer")
class FeedForwardMixing(_OverPositions):
    """Applies to each feature a feed-forward layer across positions, as wide as there are many.

    With `ratio=None` it is one linear layer across positions, without an activation.

    Args:
        ratio: float or `None`. Inner size of the feed-forward layer as a multiple of the length;
            `None` for one linear layer.
        **kwargs: the other arguments of `TokenMixing`, `name` and `dtype` included; `activation`
            and `dropout` are ignored with `ratio=None`.

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: as in `TokenMixing`.

    Raises:
        ValueError: when the length is unknown or another than that of the first call, or for a mask
            of another shape.

    Example:

    >>> tuple(FeedForwardMixing(ratio=4)(ops.ones((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Melas-Kyriazi, 2021](https://arxiv.org/abs/2105.02723). The published code normalises
          over positions before this layer, and puts it behind the one over features; here it
          stands where attention does, behind the normalisation that every block has.
        - [Touvron et al., 2021](https://arxiv.org/abs/2105.03404), ResMLP: `ratio=None`
    """

    def __init__(self, ratio=4.0, **kwargs):
        super().__init__(**kwargs)
        if ratio is not None and not ratio > 0:
            raise ValueError(f"Expected ratio to be None or above 0, received ratio={ratio}.")
        self.ratio = ratio

    def _inner_size(self, length):
        return None if self.ratio is None else max(int(self.ratio * length), 1)

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


def known_length(layer, inputs_shape):
    """Returns the length of a sequence of which a layer has weights for each position.

    Args:
        layer: Keras layer, for the error.
        inputs_shape: tuple `(B, T, hidden_dim)`.

    Returns:
        int, `T`.

    Raises:
        ValueError: when the length is `None`.

    Example:

    >>> known_length(None, (None, 5, 3))
    5
    """
    if inputs_shape[1] is None:
        raise ValueError(
            f"Expected inputs of a known length, because layer name={layer.name!r} has weights for "
            f"each position, received shape={tuple(inputs_shape)}."
        )
    return inputs_shape[1]


def check_length(layer, inputs):
    """Refuses a sequence of another length than the one that a layer was built for.

    Args:
        layer: Keras layer with its `length`.
        inputs: float tensor `(B, T, hidden_dim)`.

    Raises:
        ValueError: when `T` is another.

    Example:

    >>> layer = TokenMixing(intermediate_dim=7)
    >>> layer.build((None, 5, 3))
    >>> check_length(layer, ops.ones((2, 5, 3)))
    """
    if inputs.shape[1] not in (None, layer.length):
        raise ValueError(
            f"Expected inputs of length {layer.length}, for which layer name={layer.name!r} was "
            f"built, received shape={tuple(inputs.shape)}."
        )


def hide(inputs, mask):
    """Makes positions zero that are not real.

    Args:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`.

    Returns:
        Float tensor like `inputs`.

    Raises:
        ValueError: when the mask is not boolean or has another shape.

    Example:

    >>> hide(ops.ones((1, 2, 1)), [[True, False]])[0, :, 0].numpy().tolist()
    [1.0, 0.0]
    """
    if mask is None:
        return inputs
    mask = check_key_mask(mask, (inputs.shape[0], None, None, inputs.shape[1]))
    return ops.where(mask[:, :, None], inputs, ops.zeros_like(inputs))
