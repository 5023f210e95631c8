"""The parts of a ResNet whose kernels are standardised and whose outputs are group-normalised."""

import keras
from keras import ops

from kerasformer.layers.initializers import serialize_initializer


def standardize_kernel(kernel, epsilon=1e-5):
    """Shifts and scales each filter of a kernel to mean 0 and standard deviation 1.

    Args:
        kernel: float tensor `(height, width, channels, filters)`.
        epsilon: float. Added to the standard deviation.

    Returns:
        Float tensor of the same shape, in float32 at least.

    Example:

    >>> standardize_kernel(ops.array([[[[1.0], [3.0]]]]), epsilon=0.0).numpy().ravel().tolist()
    [-1.0, 1.0]

    References:
        - [Qiao et al., 2019](https://arxiv.org/abs/1903.10520), equation 4
    """
    kernel = ops.cast(kernel, keras.backend.result_type(kernel.dtype, "float32"))
    mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
    return (kernel - mean) / (ops.sqrt(variance) + epsilon)


@keras.saving.register_keras_serializable(package="kerasformer")
class NormalizedConvolution(keras.layers.Layer):
    """Convolves with a standardised kernel, then normalises groups of channels.

    Args:
        filters: int. Channels of the output.
        kernel_size: int. Side of the square window.
        strides: int. Step of the window.
        groups: int. Groups of channels that are normalised together, a divisor of `filters`.
        epsilon: float. Added to the variance of a group.
        gamma_initializer: str. What the learned scale starts from.
        kernel_initializer: str, dict or initializer of the kernel.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides,
        groups,
        epsilon=1e-6,
        gamma_initializer="ones",
        kernel_initializer="lecun_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.groups = groups
        self.epsilon = epsilon
        self.gamma_initializer = gamma_initializer
        self.kernel_initializer = kernel_initializer
        self.norm = keras.layers.GroupNormalization(
            groups,
            epsilon=epsilon,
            gamma_initializer=gamma_initializer,
            name="norm",
            dtype=self.dtype_policy,
        )

    def build(self, inputs_shape):
        # Not autocast, because the statistics of the kernel are computed in float32.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, inputs_shape[-1], self.filters),
            initializer=self.kernel_initializer,
            autocast=False,
        )
        self.norm.build((*inputs_shape[:-1], self.filters))

    def call(self, inputs):
        kernel = ops.cast(standardize_kernel(self.kernel), inputs.dtype)
        x = ops.conv(inputs, kernel, self.strides, padding="same", data_format="channels_last")
        return self.norm(x)

    def compute_output_shape(self, inputs_shape):
        size = [None if x is None else -(-x // self.strides) for x in inputs_shape[1:3]]
        return (inputs_shape[0], *size, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "groups": self.groups,
            "epsilon": self.epsilon,
            "gamma_initializer": self.gamma_initializer,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class BottleneckUnit(keras.layers.Layer):
    """Applies three convolutions (1 x 1, 3 x 3, 1 x 1), adds the inputs, then applies ReLU.

    The last convolution starts at scale zero, so a new unit passes on its shortcut alone: the
    inputs, or their projection where the shape changes.

    Args:
        filters: int. Channels inside; the output has four times as many.
        strides: int. Step of the middle convolution.
        groups: int. Groups of channels that are normalised together, a divisor of `filters`.
        epsilon: float. Added to the variance of a group.
        kernel_initializer: str, dict or initializer of the kernels.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    References:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), figure 5
    """

    def __init__(
        self,
        filters,
        strides,
        groups,
        epsilon=1e-6,
        kernel_initializer="lecun_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.groups = groups
        self.epsilon = epsilon
        # Not an object: layers that share one would start with equal kernels.
        self.kernel_initializer = serialize_initializer(kernel_initializer)
        self.shortcut = None
        self.reduce = self._convolution("reduce", filters, 1, 1)
        self.convolve = self._convolution("convolve", filters, 3, strides)
        self.expand = self._convolution("expand", 4 * filters, 1, 1, "zeros")

    def build(self, inputs_shape):
        if self.strides > 1 or inputs_shape[-1] != 4 * self.filters:
            self.shortcut = self._convolution("shortcut", 4 * self.filters, 1, self.strides)
            self.shortcut.build(inputs_shape)
        inner_shape = (None, None, None, self.filters)
        self.reduce.build(inputs_shape)
        self.convolve.build(inner_shape)
        self.expand.build(inner_shape)

    def call(self, inputs):
        x = ops.relu(self.reduce(inputs))
        x = self.expand(ops.relu(self.convolve(x)))
        return ops.relu(x + (inputs if self.shortcut is None else self.shortcut(inputs)))

    def _convolution(self, name, filters, kernel_size, strides, gamma_initializer="ones"):
        return NormalizedConvolution(
            filters,
            kernel_size,
            strides,
            self.groups,
            self.epsilon,
            gamma_initializer,
            self.kernel_initializer,
            name=name,
            dtype=self.dtype_policy,
        )

    def compute_output_shape(self, inputs_shape):
        size = self.convolve.compute_output_shape(inputs_shape)[1:3]
        return (inputs_shape[0], *size, 4 * self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "groups": self.groups,
            "epsilon": self.epsilon,
            "kernel_initializer": self.kernel_initializer,
        }
