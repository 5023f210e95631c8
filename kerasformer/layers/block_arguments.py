"""The arguments that blocks and stacks share, stored once."""

import inspect

import keras

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite, deserialize_child
from kerasformer.layers.initializers import serialize_initializer
from kerasformer.layers.sizes import check_sizes


class BlockArguments(Composite):
    """Stores the arguments of a block except its mixer; `EncoderBlock` explains them."""

    # Traced, because the arguments decide how many tensors come out, and not the shapes alone.
    compute_output_spec = keras.Operation.compute_output_spec

    def __init__(
        self,
        hidden_dim,
        num_heads=None,
        intermediate_dim=None,
        *,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation="relu",
        norm_first=True,
        normalization="layer",
        epsilon=1e-6,
        num_key_value_heads=None,
        key_dim=None,
        use_bias=True,
        use_rotary=False,
        rotary_max_wavelength=10000.0,
        rotary_scaling=None,
        use_gate=False,
        stochastic_depth=0.0,
        layer_scale=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(hidden_dim=hidden_dim, num_heads=num_heads, intermediate_dim=intermediate_dim)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.activation = activation
        self.norm_first = norm_first
        self.normalization = normalization
        self.epsilon = epsilon
        self.num_key_value_heads = num_key_value_heads
        self.key_dim = key_dim
        self.use_bias = use_bias
        self.use_rotary = use_rotary
        self.rotary_max_wavelength = rotary_max_wavelength
        self.rotary_scaling = rotary_scaling
        self.use_gate = use_gate
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.seed = seed
        self.supports_masking = True

    def block_arguments(self):
        """Returns the arguments of one block except its mixer, ready for `get_config`."""
        names = list(inspect.signature(BlockArguments.__init__).parameters)
        return {
            **{name: getattr(self, name) for name in names if name not in ("self", "kwargs")},
            "activation": serialize_activation(self.activation),
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "bias_initializer": serialize_initializer(self.bias_initializer),
        }

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), **self.block_arguments()}

    @classmethod
    def from_config(cls, config):
        """Makes the layer, its mixer included, from what `get_config` returned."""
        return cls(**{**config, "mixer": deserialize_child(config.get("mixer"))})
