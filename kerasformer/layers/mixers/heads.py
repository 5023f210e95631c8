"""What every attention with heads is made of: its arguments, its projections, its heads.

Letters: `B` batch, `T` length, `N` query heads, `G` key and value heads, `K` size of a head.
"""

import functools

import keras
from keras import ops

from kerasformer.layers.children import Composite
from kerasformer.layers.initializers import make_dense, serialize_initializer
from kerasformer.layers.mixers.caches import write
from kerasformer.layers.positions.rotary import RotaryEmbedding
from kerasformer.layers.sizes import check_sizes


class AttentionHeads(Composite):
    """Stores the arguments that `MultiHeadAttention` explains, and projects to heads and back."""

    def __init__(
        self,
        hidden_dim,
        num_heads,
        num_key_value_heads=None,
        key_dim=None,
        use_bias=True,
        dropout=0.0,
        use_rotary=False,
        rotary_max_wavelength=10000.0,
        rotary_scaling=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads
        self.key_dim = key_dim
        self.use_bias = use_bias
        self.dropout = dropout
        self.use_rotary = use_rotary
        self.rotary_max_wavelength = rotary_max_wavelength
        self.rotary_scaling = rotary_scaling
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.seed = seed
        self.supports_masking = True
        self._check_arguments()
        self._groups = num_heads if num_key_value_heads is None else num_key_value_heads
        self._head_dim = hidden_dim // num_heads if key_dim is None else key_dim
        policy = self.dtype_policy
        self.output_dense = make_dense(self, hidden_dim, "output_dense")
        self.dropout_layer = keras.layers.Dropout(
            dropout, seed=seed, name="dropout_layer", dtype=policy
        )
        self.rotary_embedding = None
        if use_rotary:
            self.rotary_embedding = RotaryEmbedding(
                rotary_max_wavelength, rotary_scaling, name="rotary_embedding", dtype=policy
            )

    def _check_arguments(self):
        check_sizes(
            hidden_dim=self.hidden_dim,
            num_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            key_dim=self.key_dim,
        )
        if self.num_heads % (self.num_key_value_heads or self.num_heads):
            raise ValueError(
                "Expected num_key_value_heads to divide num_heads, received "
                f"num_heads={self.num_heads} and num_key_value_heads={self.num_key_value_heads}."
            )
        if self.key_dim is None and self.hidden_dim % self.num_heads:
            raise ValueError(
                "Expected num_heads to divide hidden_dim (or a key_dim), received "
                f"hidden_dim={self.hidden_dim} and num_heads={self.num_heads}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                "Expected dropout to be at least 0 and less than 1, received "
                f"dropout={self.dropout}."
            )
        is_default = self.rotary_max_wavelength == 10000 and self.rotary_scaling is None
        if not self.use_rotary and not is_default:
            raise ValueError(
                "Expected use_rotary=True with rotary_max_wavelength or rotary_scaling, received "
                f"use_rotary={self.use_rotary}."
            )

    def _build_own(self, inputs_shape):
        """Builds what self-attention needs: one product for query, key and value, and the last."""
        query_dim = self.num_heads * self._head_dim
        self.query_key_value_dense = make_dense(
            self, query_dim + 2 * self._groups * self._head_dim, "query_key_value_dense"
        )
        self.query_key_value_dense.build(inputs_shape)
        self.output_dense.build((*inputs_shape[:-1], query_dim))

    def _project_inputs(self, inputs, positions=None):
        heads = self.num_heads + 2 * self._groups
        x = self._split_heads(self.query_key_value_dense(inputs), heads)
        # `split`, not slices: the gradient of a slice is an array of zeros as large as `x`.
        query, key, value = ops.split(x, [self.num_heads, self.num_heads + self._groups], axis=1)
        if self.use_rotary:
            query = self.rotary_embedding(query, positions=positions)
            key = self.rotary_embedding(key, positions=positions)
        return query, key, value

    def _split_heads(self, x, num_heads):
        batch, length, _ = ops.shape(x)
        x = ops.reshape(x, (batch, length, num_heads, self._head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def _join_heads(self, x):
        batch, num_heads, length, width = ops.shape(x)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, num_heads * width))

    def _write_step(self, inputs, cache, positions):
        """Projects new tokens: queries, the cache with them, and their positions `(R, T)`."""
        positions = ops.cast(positions, "int32")[:, None]
        positions = positions + ops.arange(ops.shape(inputs)[1], dtype="int32")
        query, *entries = self._project_inputs(inputs, positions)
        pairs = zip(cache, entries, strict=True)
        return query, tuple(write(old, new, positions) for old, new in pairs), positions

    def _dropout_function(self, training):
        """Returns what drops probabilities, or `None` where nothing is dropped."""
        is_active = training and self.dropout > 0
        return functools.partial(self.dropout_layer, training=True) if is_active else None

    def _check_positions(self, positions):
        if positions is not None and not self.use_rotary:
            raise ValueError(
                "Expected positions=None with use_rotary=False, received "
                "use_rotary=False and a value for positions."
            )

    def _check_inputs(self, name, tensor, width):
        if len(tensor.shape) != 3 or tensor.shape[-1] not in (None, width):
            raise ValueError(
                f"Expected {name} of shape (B, T, {width}), for which layer "
                f"name={self.name!r} was built, received shape={tuple(tensor.shape)}."
            )

    # Keras traces the call, because `return_attention_scores` changes what comes out of it.
    compute_output_spec = keras.Operation.compute_output_spec

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "key_dim": self.key_dim,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "use_rotary": self.use_rotary,
            "rotary_max_wavelength": self.rotary_max_wavelength,
            "rotary_scaling": self.rotary_scaling,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "bias_initializer": serialize_initializer(self.bias_initializer),
            "seed": self.seed,
        }


def check_sequence_shape(name, shape):
    """Refuses the shape of what is no sequence of a known width.

    Args:
        name: str. Name of the argument, for the error.
        shape: tuple of int or `None`.

    Raises:
        ValueError: when it has not three axes, or an unknown last one.

    Example:

    >>> check_sequence_shape("inputs", (None, None, 6))
    """
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"Expected {name} of three axes with a known last size, received shape={tuple(shape)}."
        )
