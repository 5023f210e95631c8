"""The residual connection, written once: normalisation, sublayer, scale, dropout, addition."""

import numbers

import keras
from keras import ops

from kerasformer.layers.children import (
    Composite,
    child_seed,
    deserialize_child,
    serialize_child,
)


class Affine(keras.layers.Layer):
    """Multiplies each feature by a learned factor and adds a learned shift, with no statistics.

    Args:
        epsilon: float, which is ignored; other normalisations have it.
        **kwargs: passed to `keras.layers.Layer`.

    References:
        - [Touvron et al., 2021](https://arxiv.org/abs/2105.03404), ResMLP, equation 1
    """

    def __init__(self, epsilon=None, **kwargs):
        super().__init__(**kwargs)

    def build(self, inputs_shape):
        shape = (inputs_shape[-1],)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")
        self.shift = self.add_weight(name="shift", shape=shape, initializer="zeros")

    def call(self, inputs):
        return inputs * ops.cast(self.scale, inputs.dtype) + ops.cast(self.shift, inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


NORMALIZATIONS = {
    "affine": Affine,
    "layer": keras.layers.LayerNormalization,
    "rms": keras.layers.RMSNormalization,
}


def make_normalization(normalization, epsilon, name, dtype):
    """Makes a normalisation layer over the last axis.

    Args:
        normalization: str. `"layer"`, `"rms"` or `"affine"` (a scale and a shift alone).
        epsilon: float. Added to the variance.
        name: str. Name of the layer.
        dtype: str or dtype policy of the layer.

    Returns:
        A Keras layer; its statistics are computed in float32 at least.

    Raises:
        ValueError: for another `normalization`.

    Example:

    >>> make_normalization("rms", 1e-6, "norm", "float32").name
    'norm'
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"Expected normalization to be one of {sorted(NORMALIZATIONS)}, "
            f"received normalization={normalization!r}."
        )
    norm = NORMALIZATIONS[normalization](epsilon=epsilon, name=name, dtype=dtype)
    # Keras's RMSNormalization would drop the mask on its way to the sublayer.
    norm.supports_masking = True
    return norm


def drop_rows(inputs, rate, seed):
    """Makes whole rows of a batch zero at random, and scales the others by `1 / (1 - rate)`.

    Args:
        inputs: float tensor `(B, ...)`.
        rate: float in `[0, 1)`. The probability of a zero.
        seed: int or `keras.random.SeedGenerator`.

    Returns:
        Float tensor `(B, ...)` of the dtype of `inputs`, the same on average.

    Example:

    >>> set(float(x) for x in drop_rows(ops.ones(97), 0.5, seed=3)) == {0.0, 2.0}
    True

    References:
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382), stochastic depth
    """
    shape = (ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))
    # float32, because numbers of 16 bits are too coarse for the small rates of the first blocks.
    is_kept = ops.greater_equal(keras.random.uniform(shape, dtype="float32", seed=seed), rate)
    return inputs * ops.cast(ops.cast(is_kept, "float32") / (1.0 - rate), inputs.dtype)


class StochasticDepth(keras.layers.Layer):
    """Applies `drop_rows` while a model trains, with a random state that checkpoints hold."""

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape):
        """Makes nothing: there are no weights."""

    def call(self, inputs, training=None):
        return drop_rows(inputs, self.rate, self.seed_generator) if training else inputs

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


@keras.saving.register_keras_serializable(package="kerasformer")
class Residual(Composite):
    """Adds what a sublayer computes to its inputs.

    Pre-norm (`norm_first=True`): `x + branch(norm(x))`.
    Post-norm, as in 2017: `norm(x + branch(x))`.
    The branch is `stochastic_depth(layer_scale * dropout(sublayer(x)))`.

    Args:
        sublayer: Keras layer from `(B, T, hidden_dim)` to `(B, T, hidden_dim)`.
        norm_first: bool. Whether to normalise before the sublayer or after the addition.
        normalization: str. `"layer"`, `"rms"` or `"affine"` (a scale and a shift alone).
        epsilon: float. Added to the variance.
        dropout: float in `[0, 1)`. Rate at which the sublayer's outputs are dropped.
        stochastic_depth: float in `[0, 1)`. Rate at which the whole branch is dropped, for each
            example alone; what is kept is divided by `1 - stochastic_depth`.
        layer_scale: float or `None`. What a learned vector `(hidden_dim,)` starts at that
            multiplies the branch; `None` for no such vector.
        seed: int or `None`. From it dropout and stochastic depth derive a random stream each.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        context: float tensor `(B, S, context_dim)` for a sublayer that takes one, or `None`.

    Returns:
        Float tensor `(B, T, hidden_dim)`. When the sublayer returns a tuple, the residual acts on
        its first entry and the others are returned behind it.

    Masking: Keras's masks are kept and reach the sublayer. To hand it more arguments, call
    `apply` with a function.

    Raises:
        ValueError: for an unknown normalisation or a rate that is none.

    Example:

    >>> from keras import ops
    >>> layer = Residual(keras.layers.Dense(3), dropout=0.1)
    >>> tuple(layer(ops.ones((2, 5, 3))).shape)
    (2, 5, 3)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
        - [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), pre-norm and post-norm
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382), stochastic depth
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239), section 2.1, `layer_scale`
    """

    def __init__(
        self,
        sublayer,
        norm_first=True,
        normalization="layer",
        epsilon=1e-6,
        dropout=0.0,
        stochastic_depth=0.0,
        layer_scale=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        is_number = isinstance(stochastic_depth, numbers.Real)
        if not is_number or not 0 <= stochastic_depth < 1:
            raise ValueError(
                "Expected stochastic_depth to be a number of at least 0 and less than 1, received "
                f"stochastic_depth={stochastic_depth!r}."
            )
        self.sublayer = sublayer
        self.norm_first = norm_first
        self.normalization = normalization
        self.epsilon = epsilon
        self.dropout = dropout
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.seed = seed
        self.supports_masking = True
        self.norm = make_normalization(normalization, epsilon, "norm", self.dtype_policy)
        self.dropout_layer = keras.layers.Dropout(
            dropout,
            seed=child_seed(seed, "dropout_layer"),
            name="dropout_layer",
            dtype=self.dtype_policy,
        )
        self.stochastic_depth_layer = None
        if stochastic_depth:
            self.stochastic_depth_layer = StochasticDepth(
                stochastic_depth,
                seed=child_seed(seed, "stochastic_depth_layer"),
                name="stochastic_depth_layer",
                dtype=self.dtype_policy,
            )

    def build(self, inputs_shape, context_shape=None):
        self.norm.build(inputs_shape)
        if self.layer_scale is not None:
            self.scale = self.add_weight(
                name="scale",
                shape=(inputs_shape[-1],),
                initializer=keras.initializers.Constant(self.layer_scale),
            )
        if not self.sublayer.built:  # Keras builds it first when it loads a model.
            shapes = (inputs_shape,) if context_shape is None else (inputs_shape, context_shape)
            self.sublayer.build(*shapes)

    def call(self, inputs, context=None):
        if context is None:
            return self.apply(inputs, self.sublayer)
        return self.apply(inputs, lambda x: self.sublayer(x, context))

    def apply(self, inputs, function):
        """Puts the residual around any function: the sublayer with masks, or its cached step.

        Args:
            inputs: float tensor `(B, T, hidden_dim)`.
            function: from a tensor like `inputs` to another, or to a tuple that starts with it.

        Returns:
            What `function` returns, with the residual around its first entry.
        """
        result = function(self.norm(inputs) if self.norm_first else inputs)
        outputs, *others = result if isinstance(result, tuple) else (result,)
        outputs = self.dropout_layer(outputs)
        if self.layer_scale is not None:
            outputs = outputs * ops.cast(self.scale, outputs.dtype)
        if self.stochastic_depth_layer is not None:
            outputs = self.stochastic_depth_layer(outputs)
        outputs = inputs + outputs
        if not self.norm_first:
            outputs = self.norm(outputs)
        return (outputs, *others) if others else outputs

    # Traced, because the sublayer decides how many tensors come out, and not the shapes alone.
    compute_output_spec = keras.Operation.compute_output_spec

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "sublayer": serialize_child(self.sublayer),
            "norm_first": self.norm_first,
            "normalization": self.normalization,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Makes the layer, its sublayer included, from what `get_config` returned."""
        return cls(**{**config, "sublayer": deserialize_child(config["sublayer"])})
