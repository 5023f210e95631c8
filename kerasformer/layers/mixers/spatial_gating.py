"""The gate of gMLP: one half of the features is multiplied by the other, mixed over positions.

Letters: `B` batch, `T` length, the one that the layer was built for.
"""

import keras
from keras import ops

from kerasformer.layers.activations import get_activation, serialize_activation
from kerasformer.layers.children import Composite
from kerasformer.layers.initializers import make_dense, serialize_initializer
from kerasformer.layers.masks import causal_mask
from kerasformer.layers.mixers.token_mixing import check_length, hide, known_length
from kerasformer.layers.sizes import check_sizes


@keras.saving.register_keras_serializable(package="kerasformer")
class SpatialGating(Composite):
    """Widens the features, gates one half of them by the other across positions, and narrows them.

    `activation(x W1 + b1)` is split into `u` and `v`; `v` is normalised and, for each feature,
    multiplied by a learned matrix `(T, T)` over positions and shifted by a bias for each position;
    the outputs are `(u * v) W2 + b2`. The matrix starts near zero and the bias at one, so that the
    gate is open and positions do not mix at first. A block of it needs no feed-forward layer:
    `EncoderBlock(hidden_dim, mixer=SpatialGating(6 * hidden_dim))`.

    Args:
        intermediate_dim: int. Size of `u` and `v` together, an even number.
        activation: str or callable. `"gelu"` (exact), `"gelu_tanh"`, `"relu"`, ...
        epsilon: float. Added to the variance by the normalisation of `v`.
        use_bias: bool. Whether the two products over features add a bias.
        kernel_initializer: Keras initializer, its name or its config, for their kernels.
        bias_initializer: Keras initializer, its name or its config, for their biases.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real, or `None`.
        use_causal_mask: bool. Whether a position may not read later ones: the part of the matrix
            that would is left out.

    Returns:
        Float tensor `(B, T, hidden_dim)`.

    Masking: positions that are not real count as zeros, so that no other position depends on them;
    the mask is kept.

    Raises:
        ValueError: when the length is unknown or another than that of the first call, for a
            mask of another shape, or when `intermediate_dim` is odd.

    Example:

    >>> tuple(SpatialGating(intermediate_dim=14)(ops.ones((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Liu et al., 2021](https://arxiv.org/abs/2105.08050), section 2. The published code
          activates before it splits, and normalises `v` with an epsilon of 1e-5.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="gelu",
        epsilon=1e-5,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(intermediate_dim=intermediate_dim)
        if intermediate_dim % 2:
            raise ValueError(
                "Expected intermediate_dim to be a positive even number, received "
                f"intermediate_dim={intermediate_dim}."
            )
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.epsilon = epsilon
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.supports_masking = True
        self.activation_function = get_activation(activation)
        self.inner_dense = make_dense(self, intermediate_dim, "inner_dense")
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, name="norm", dtype=self.dtype_policy
        )

    def build(self, inputs_shape):
        self.length = length = known_length(self, inputs_shape)
        half = self.intermediate_dim // 2
        self.inner_dense.build(inputs_shape)
        self.norm.build((*inputs_shape[:-1], half))
        self.kernel = self.add_weight(
            name="kernel",
            shape=(length, length),
            initializer=keras.initializers.RandomNormal(stddev=1e-6),
        )
        self.bias = self.add_weight(name="bias", shape=(length,), initializer="ones")
        self.output_dense = make_dense(self, inputs_shape[-1], "output_dense")
        self.output_dense.build((*inputs_shape[:-1], half))

    def call(self, inputs, *, mask=None, use_causal_mask=False):
        check_length(self, inputs)
        kept, gate = ops.split(self.activation_function(self.inner_dense(inputs)), 2, axis=-1)
        gate = hide(self.norm(gate), mask)
        matrix = ops.transpose(ops.cast(self.kernel, gate.dtype))
        if use_causal_mask:
            matrix = matrix * ops.cast(causal_mask(self.length)[0], gate.dtype)
        gate = ops.matmul(matrix, gate) + ops.cast(self.bias, gate.dtype)[:, None]
        return self.output_dense(kept * gate)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": serialize_activation(self.activation),
            "epsilon": self.epsilon,
            "use_bias": self.use_bias,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "bias_initializer": serialize_initializer(self.bias_initializer),
        }
