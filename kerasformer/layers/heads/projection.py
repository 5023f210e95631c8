"""The projection head of self-distillation: vectors to scores of many prototypes.

Letters: `B` batch, `K` prototypes.
"""

import keras
from keras import ops

from kerasformer.layers.activations import get_activation, serialize_activation
from kerasformer.layers.children import Composite
from kerasformer.layers.initializers import clone_initializer, serialize_initializer


def unit_vectors(inputs, axis=-1):
    """Divides vectors by their length.

    Args:
        inputs: float tensor.
        axis: int. The axis of the vectors.

    Returns:
        Float tensor of the shape of `inputs`, in float32 at least; a vector of zeros stays one.

    Example:

    >>> ops.round(unit_vectors(ops.array([[3.0, 4.0], [0.0, 0.0]])), 1).numpy().tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-24))


@keras.saving.register_keras_serializable(package="kerasformer")
class ProjectionHead(Composite):
    """Compares vectors with learned prototypes: the head of DINO.

    A small network ends in a bottleneck, whose vectors are divided by their lengths. The last layer
    is weight-normalised, and its lengths are fixed to one, so that each output is the cosine of the
    angle between the bottleneck and a prototype.

    Args:
        output_dim: int. Number of prototypes, `K`.
        intermediate_dim: int. Size of the layers before the bottleneck.
        bottleneck_dim: int. Size of the bottleneck.
        num_layers: int. Number of layers up to the bottleneck, which is the last of them.
        activation: str or callable. Activation of all layers but the bottleneck.
        kernel_initializer: Keras initializer, its name or its config, for the layers up to the
            bottleneck; `None` means a truncated normal distribution with a standard deviation of
            0.02.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, features)`, or with more axes before the last.
        freeze_prototypes: bool tensor or bool. Whether no gradient reaches the prototypes, as in
            the first epoch of DINO.

    Returns:
        Float tensor `(B, K)` of numbers from -1 to 1, in float32 at least.

    Masking: the mask of the inputs is kept.

    Raises:
        ValueError: when `num_layers` is not positive.

    Example:

    >>> head = ProjectionHead(output_dim=7, intermediate_dim=5, bottleneck_dim=3)
    >>> tuple(head(ops.ones((2, 4))).shape)
    (2, 7)

    References:
        - [Caron et al., 2021](https://arxiv.org/abs/2104.14294), appendix C
        - [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868), weight normalisation
    """

    def __init__(
        self,
        output_dim,
        intermediate_dim=2048,
        bottleneck_dim=256,
        num_layers=3,
        activation="gelu",
        kernel_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_layers < 1:
            raise ValueError(
                f"Expected num_layers of at least 1, received num_layers={num_layers}."
            )
        self.output_dim = output_dim
        self.intermediate_dim = intermediate_dim
        self.bottleneck_dim = bottleneck_dim
        self.num_layers = num_layers
        self.activation = activation
        self.kernel_initializer = kernel_initializer
        self.supports_masking = True
        self.activation_function = get_activation(activation)
        self.inner_denses = [
            self._make_dense(intermediate_dim, f"inner_dense_{index}")
            for index in range(num_layers - 1)
        ]
        self.bottleneck_dense = self._make_dense(bottleneck_dim, "bottleneck_dense")

    def _make_dense(self, units, name):
        initializer = clone_initializer(self.kernel_initializer)
        initializer = initializer or keras.initializers.TruncatedNormal(stddev=0.02)
        return keras.layers.Dense(
            units, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
        )

    def build(self, inputs_shape):
        shape = inputs_shape
        for dense in [*self.inner_denses, self.bottleneck_dense]:
            dense.build(shape)
            shape = dense.compute_output_shape(shape)
        # Only their directions matter.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.bottleneck_dim, self.output_dim),
            initializer="random_normal",
            autocast=False,
        )

    def call(self, inputs, *, freeze_prototypes=False):
        x = inputs
        for dense in self.inner_denses:
            x = self.activation_function(dense(x))
        x = unit_vectors(self.bottleneck_dense(x))
        kernel = ops.convert_to_tensor(self.kernel)
        if freeze_prototypes is not False:
            kernel = ops.where(freeze_prototypes, ops.stop_gradient(kernel), kernel)
        return ops.matmul(x, ops.cast(unit_vectors(kernel, axis=0), x.dtype))

    # Traced, because the outputs are float32 under any dtype policy.
    compute_output_spec = keras.Operation.compute_output_spec

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "intermediate_dim": self.intermediate_dim,
            "bottleneck_dim": self.bottleneck_dim,
            "num_layers": self.num_layers,
            "activation": serialize_activation(self.activation),
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
        }
