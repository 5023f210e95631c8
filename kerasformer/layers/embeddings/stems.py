"""Convolutional stems: layers that turn images into a sequence by more than one projection.

Convolutions and pools use `"same"` padding: `ceil(size / stride)` positions along each axis.
Letters: `B` batch, `P` positions of the sequence, row by row.
"""

import keras
from keras import ops

from kerasformer.layers.children import Composite
from kerasformer.layers.embeddings.bottleneck import BottleneckUnit, NormalizedConvolution
from kerasformer.layers.embeddings.layout import check_images
from kerasformer.layers.embeddings.patches import PatchEmbedding
from kerasformer.layers.initializers import serialize_initializer
from kerasformer.layers.sizes import check_sizes


def downsample(image_size, factors):
    """Computes the size of an image after steps of `"same"` padding.

    Args:
        image_size: pair of ints `(height, width)`; an unknown one is `None`.
        factors: list of ints, the strides one after the other.

    Returns:
        Tuple `(rows, columns)` of ints or `None`.

    Example:

    >>> downsample((32, 33), [2, 2])
    (8, 9)
    """
    for factor in factors:
        image_size = [None if size is None else -(-size // factor) for size in image_size]
    return tuple(image_size)


class _Stem(Composite):
    """Checks images and computes shapes: what the stems below share."""

    def __init__(self, hidden_dim, kernel_initializer, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        # Not an object: layers that share one would start with equal kernels.
        self.kernel_initializer = serialize_initializer(kernel_initializer)
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, inputs_shape):
        check_images(inputs_shape)
        self.channels = inputs_shape[-1]

    def call(self, inputs):
        check_images(inputs.shape, self.channels)
        return self.convolve(ops.cast(inputs, self.compute_dtype))

    def compute_output_shape(self, inputs_shape):
        rows, columns = self.grid_size(inputs_shape[1:3])
        count = None if None in (rows, columns) else rows * columns
        return (inputs_shape[0], count, self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "kernel_initializer": self.kernel_initializer,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class ConvolutionalStem(_Stem):
    """Turns images into a sequence by convolutions and pools: the tokenizer of CCT.

    Each of `num_layers` steps is a convolution without bias, ReLU, and the maximum over windows of
    3 x 3 pixels, 2 apart. Neighbouring windows overlap, so a model can do without positions.

    Args:
        hidden_dim: int. Size of the sequence, filters of the last convolution.
        num_layers: int. Number of convolutions, each with its pool.
        kernel_size: int. Side of a convolution's square window.
        strides: int. Step of each convolution.
        width: int. Filters of the convolutions before the last.
        kernel_initializer: str, dict or initializer of the kernels.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`; `height` and `width` may be unknown.

    Returns:
        Float tensor `(B, P, hidden_dim)`, row by row.

    Masking: produces no mask; every position is real.

    Raises:
        ValueError: when `num_layers` is not positive, or the channels of the images come first.

    Example:

    >>> layer = ConvolutionalStem(hidden_dim=5, num_layers=2)
    >>> tuple(layer(ops.ones((1, 8, 11, 3))).shape), layer.grid_size((8, 11))
    ((1, 6, 5), (2, 3))

    References:
        - [Hassani et al., 2021](https://arxiv.org/abs/2104.05704), section 3.3
    """

    def __init__(
        self,
        hidden_dim,
        num_layers=1,
        kernel_size=3,
        strides=1,
        width=64,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(hidden_dim, kernel_initializer, **kwargs)
        check_sizes(num_layers=num_layers)
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        self.strides = strides
        self.width = width
        self.convolutions = [
            keras.layers.Conv2D(
                filters,
                kernel_size,
                strides=strides,
                padding="same",
                data_format="channels_last",
                use_bias=False,
                kernel_initializer=self.kernel_initializer,
                name=f"convolution_{index}",
                dtype=self.dtype_policy,
            )
            for index, filters in enumerate([width] * (num_layers - 1) + [hidden_dim])
        ]

    def build(self, inputs_shape):
        super().build(inputs_shape)
        channels = self.channels
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = convolution.filters

    def convolve(self, images):
        """Computes the sequence of images `(B, height, width, channels)` of the compute dtype."""
        x = images
        for convolution in self.convolutions:
            # ReLU and the maximum commute; after the pool it has a quarter of the numbers.
            x = ops.relu(_max_pool(convolution(x)))
        batch, rows, columns, channels = ops.shape(x)
        return ops.reshape(x, (batch, rows * columns, channels))

    def grid_size(self, image_size):
        """Returns `(rows, columns)` of the sequence of an image of size `(height, width)`."""
        return downsample(image_size, [self.strides, 2] * self.num_layers)

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "width": self.width,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class ResNetStem(_Stem):
    """Turns images into a sequence by the first stages of a ResNet: the stem of the hybrid ViT.

    First come a 7 x 7 convolution and a pool, each of stride 2; then stages of bottleneck units,
    each of which halves height and width except the first; then a `PatchEmbedding`. Kernels are
    standardised and outputs are normalised by groups of channels, so that no example depends on
    its batch. The defaults are those of R50+ViT-B/16.

    Args:
        hidden_dim: int. Size of the sequence.
        num_units: tuple of ints. Units of each stage; `()` leaves the root alone.
        width: int. Filters of the root and of the first stage's bottleneck, doubled every stage.
        patch_size: int or pair of ints. Size of a patch of the last stage's positions.
        groups: int. Groups of channels that are normalised together, a divisor of `width`.
        epsilon: float. Added to the variance by each normalisation.
        kernel_initializer: str, dict or initializer of the kernels of the convolutions.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`; `height` and `width` may be unknown.

    Returns:
        Float tensor `(B, P, hidden_dim)`, row by row.

    Masking: produces no mask; every position is real.

    Raises:
        ValueError: when `groups` does not divide `width`, patches do not cover the positions, or
            the channels of the images come first.

    Example:

    >>> layer = ResNetStem(hidden_dim=5, num_units=(1, 2), width=4, groups=2)
    >>> tuple(layer(ops.ones((1, 16, 24, 3))).shape), layer.grid_size((16, 24))
    ((1, 6, 5), (2, 3))

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), section 3.1 and appendix B.1
        - [Kolesnikov et al., 2019](https://arxiv.org/abs/1912.11370), section 3.3
    """

    def __init__(
        self,
        hidden_dim,
        num_units=(3, 4, 9),
        width=64,
        patch_size=1,
        groups=32,
        epsilon=1e-6,
        kernel_initializer="lecun_normal",
        **kwargs,
    ):
        super().__init__(hidden_dim, kernel_initializer, **kwargs)
        if width % groups:
            raise ValueError(
                f"Expected groups to divide width, received groups={groups} and width={width}."
            )
        self.num_units = num_units
        self.width = width
        self.patch_size = patch_size
        self.groups = groups
        self.epsilon = epsilon
        arguments = {
            "groups": groups,
            "epsilon": epsilon,
            "kernel_initializer": self.kernel_initializer,
            "dtype": self.dtype_policy,
        }
        self.root = NormalizedConvolution(width, 7, 2, name="root", **arguments)
        steps = [
            (width * 2**stage, 2 if stage and not unit else 1)
            for stage, count in enumerate(num_units)
            for unit in range(count)
        ]
        self.units = [
            BottleneckUnit(filters, strides, name=f"unit_{index}", **arguments)
            for index, (filters, strides) in enumerate(steps)
        ]
        self.patch_embedding = PatchEmbedding(
            hidden_dim, patch_size, name="patch_embedding", dtype=self.dtype_policy
        )

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.root.build(inputs_shape)
        shape = (None, None, None, self.width)
        for unit in self.units:
            unit.build(shape)
            shape = unit.compute_output_shape(shape)
        self.patch_embedding.build((None, None, None, shape[-1]))

    def convolve(self, images):
        """Computes the sequence of images `(B, height, width, channels)` of the compute dtype."""
        x = _max_pool(ops.relu(self.root(images)))
        for unit in self.units:
            x = unit(x)
        return self.patch_embedding(x)

    def grid_size(self, image_size):
        """Returns `(rows, columns)` of the sequence of an image of size `(height, width)`."""
        return self.patch_embedding.grid_size(self._positions(image_size))

    def _positions(self, image_size):
        return downsample(image_size, [2, 2, *(unit.strides for unit in self.units)])

    def get_config(self):
        return {
            **super().get_config(),
            "num_units": self.num_units,
            "width": self.width,
            "patch_size": self.patch_size,
            "groups": self.groups,
            "epsilon": self.epsilon,
        }


def _max_pool(x):
    return ops.max_pool(x, 3, 2, padding="same", data_format="channels_last")
