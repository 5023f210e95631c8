"""Patches of images: cut out, put together again, and projected to a sequence.

A patch is flattened as `(row, column, channel)`, the order of a convolution's kernel, and patches
stand in the sequence row by row. No pixel is lost: patches cover the image to its last row and
column, or `"same"` padding adds zeros around it until they do. Letters: `B` batch, `P` patches.
"""

import numbers

import keras
from keras import ops

from kerasformer.layers.children import Composite
from kerasformer.layers.embeddings.layout import check_images
from kerasformer.layers.initializers import clone_initializer, serialize_initializer
from kerasformer.layers.sizes import pair

PADDINGS = ("valid", "same")


def patch_grid(image_size, patch_size, strides=None, padding="valid"):
    """Counts the patches along the height and the width of an image.

    Args:
        image_size: pair of ints `(height, width)`; an unknown one is `None` or a scalar tensor.
        patch_size: int or pair of ints.
        strides: int or pair of ints, from one patch to the next; `None` means `patch_size`.
        padding: str. `"valid"`, or `"same"`: zeros around the image, `ceil(size / stride)` patches.

    Returns:
        Tuple `(rows, columns)` of what `image_size` holds: ints, scalar tensors or `None`.

    Raises:
        ValueError: when patches do not cover an image, with `padding="valid"`; when they would
            leave gaps; for another padding.

    Example:

    >>> patch_grid((6, 10), (3, 2)), patch_grid((6, 10), 4, strides=2, padding="same")
    ((2, 5), (3, 5))
    """
    sizes, steps = _sizes_and_steps(patch_size, strides)
    if padding not in PADDINGS:
        raise ValueError(f"Expected padding to be one of {PADDINGS}, received padding={padding!r}.")
    if any(step > size for step, size in zip(steps, sizes, strict=True)):
        raise ValueError(
            "Expected strides of at most patch_size, received "
            f"strides={strides} and patch_size={patch_size}."
        )
    counts = []
    for length, size, step in zip(image_size, sizes, steps, strict=True):
        known = isinstance(length, numbers.Integral)
        if known and padding == "valid" and (length < size or (length - size) % step):
            raise ValueError(
                "Expected patches to cover the image from edge to edge, "
                f"received image_size={tuple(image_size)}, patch_size={patch_size} and "
                f"strides={strides}."
            )
        if length is None:
            counts.append(None)
        elif padding == "valid":
            counts.append((length - size) // step + 1)
        else:
            counts.append((length + step - 1) // step)
    return tuple(counts)


def extract_patches(images, patch_size, strides=None, padding="valid"):
    """Cuts images into flattened patches.

    Args:
        images: tensor `(B, height, width, channels)`.
        patch_size: int or pair of ints.
        strides: int or pair of ints, from one patch to the next; `None` means `patch_size`.
        padding: str. `"valid"`, or `"same"`: zeros around the image.

    Returns:
        Tensor `(B, P, patch_height * patch_width * channels)`.

    Raises:
        ValueError: as `patch_grid` does. When sizes are unknown until run time, the backend's
            own error comes then.

    Example:

    >>> images = ops.reshape(ops.arange(12), (1, 2, 6, 1))
    >>> extract_patches(images, 2)[0].numpy().tolist()
    [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    """
    (height, width), steps = _sizes_and_steps(patch_size, strides)
    images, (rows, columns) = _fit(images, patch_size, strides, padding)
    batch, channels = ops.shape(images)[0], images.shape[-1]
    if steps == (height, width):
        # Rows of patches, then one transposition of four axes.
        x = ops.reshape(images, (batch * rows, height, columns, width * channels))
        x = ops.transpose(x, (0, 2, 1, 3))
    else:
        # Pixels by their index, so that they stay exact: (B, rows, height, columns, width, c).
        x = ops.take(images, _indices(rows, steps[0], height), axis=1)
        x = ops.take(x, _indices(columns, steps[1], width), axis=3)
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (batch, rows * columns, height * width * channels))


def merge_patches(patches, grid_size, patch_size):
    """Puts patches that do not overlap together again: the inverse of `extract_patches`.

    Args:
        patches: tensor `(B, P, patch_height * patch_width * channels)`.
        grid_size: pair `(rows, columns)`, whose product is `P`.
        patch_size: int or pair of ints.

    Returns:
        Tensor `(B, rows * patch_height, columns * patch_width, channels)`.

    Raises:
        ValueError: when the sizes contradict each other.

    Example:

    >>> patches = extract_patches(ops.ones((1, 4, 6, 3)), 2)
    >>> tuple(merge_patches(patches, (2, 3), 2).shape)
    (1, 4, 6, 3)
    """
    height, width = pair("patch_size", patch_size)
    rows, columns = grid_size
    batch, count, _ = ops.shape(patches)
    values = patches.shape[-1]
    sizes_known = all(isinstance(x, numbers.Integral) for x in (count, rows, columns))
    if values % (height * width) or (sizes_known and count != rows * columns):
        raise ValueError(
            "Expected patches of shape (B, rows * columns, patch_height * patch_width * channels), "
            f"received shape={tuple(patches.shape)}, grid_size={tuple(grid_size)} and "
            f"patch_size={patch_size}."
        )
    channels = values // (height * width)
    x = ops.reshape(patches, (batch * rows, columns, height, width * channels))
    x = ops.transpose(x, (0, 2, 1, 3))
    return ops.reshape(x, (batch, rows * height, columns * width, channels))


def _sizes_and_steps(patch_size, strides):
    """Reads the size of a patch and the steps between patches, a pair each."""
    sizes = pair("patch_size", patch_size)
    return sizes, sizes if strides is None else pair("strides", strides)


def _fit(images, patch_size, strides, padding):
    """Pads images so that patches cover them exactly; returns them and the grid of patches."""
    sizes, steps = _sizes_and_steps(patch_size, strides)
    batch, *image_size, channels = ops.shape(images)
    grid = patch_grid(image_size, patch_size, strides, padding)
    covered = [(n - 1) * step + size for n, step, size in zip(grid, steps, sizes, strict=True)]
    if padding == "same":
        extra = [new - old for new, old in zip(covered, image_size, strict=True)]
        pads = [(0, 0), *((x // 2, x - x // 2) for x in extra), (0, 0)]
        images = ops.pad(images, pads)
    # Costs nothing, and fails when sizes unknown until run time do not fit.
    return ops.reshape(images, (batch, *covered, channels)), grid


def _indices(count, step, size):
    """Lists the pixels `(count, size)` of each patch along one axis."""
    starts = ops.arange(count, dtype="int32") * step
    return starts[:, None] + ops.arange(size, dtype="int32")


@keras.saving.register_keras_serializable(package="kerasformer")
class PatchExtractor(Composite):
    """Cuts images into a sequence of flattened patches.

    Args:
        patch_size: int or pair of ints `(height, width)`.
        strides: int or pair of ints, from one patch to the next; `None` means `patch_size`,
            patches side by side, and less lets them overlap.
        padding: str. `"valid"`, or `"same"`: zeros around the image until patches cover it.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: tensor `(B, height, width, channels)`; `height` and `width` may be unknown.

    Returns:
        Float tensor `(B, P, patch_height * patch_width * channels)`, row by row.

    Masking: produces no mask; every patch is real.

    Raises:
        ValueError: when patches do not cover the image and padding was not asked for, the
            arguments contradict each other, or the channels of the images come first.

    Example:

    >>> tuple(PatchExtractor(patch_size=(2, 3))(ops.ones((1, 4, 6, 3))).shape)
    (1, 4, 18)

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), section 3.1
    """

    def __init__(self, patch_size, strides=None, padding="valid", **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.strides = strides
        self.padding = padding
        self.input_spec = keras.InputSpec(ndim=4)
        self.grid_size((None, None))  # checks the arguments

    def build(self, inputs_shape):
        check_images(inputs_shape)
        self.grid_size(inputs_shape[1:3])

    def call(self, inputs):
        check_images(inputs.shape)
        images = ops.cast(inputs, self.compute_dtype)
        return extract_patches(images, self.patch_size, self.strides, self.padding)

    def grid_size(self, image_size):
        """Returns `(rows, columns)` of the patches of an image of size `(height, width)`."""
        return patch_grid(image_size, self.patch_size, self.strides, self.padding)

    def compute_output_shape(self, inputs_shape):
        height, width = pair("patch_size", self.patch_size)
        rows, columns = self.grid_size(inputs_shape[1:3])
        count = None if None in (rows, columns) else rows * columns
        return (inputs_shape[0], count, height * width * inputs_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class PatchEmbedding(PatchExtractor):
    """Projects the patches of images to a sequence: a strided convolution by another name.

    Patches side by side are cut out and multiplied by one matrix, which is faster than the
    convolution. Patches that overlap go through the convolution, which does not copy them, unless
    the matrix is quantised. The matrix is the convolution's kernel, its first three axes
    flattened.

    Args:
        hidden_dim: int. Size of the sequence.
        patch_size: int or pair of ints `(height, width)`.
        strides: int or pair of ints, from one patch to the next; `None` means `patch_size`,
            patches side by side, and less lets them overlap.
        padding: str. `"valid"`, or `"same"`: zeros around the image until patches cover it.
        use_bias: bool. Whether the projection adds a bias.
        kernel_initializer: str, dict or initializer of the matrix.
        bias_initializer: str, dict or initializer of the bias.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: tensor `(B, height, width, channels)`; `height` and `width` may be unknown.

    Returns:
        Float tensor `(B, P, hidden_dim)`, row by row.

    Masking: produces no mask; every patch is real.

    Raises:
        ValueError: when patches do not cover the image and padding was not asked for, the
            arguments contradict each other, or the channels of the images come first.

    Example:

    >>> layer = PatchEmbedding(hidden_dim=5, patch_size=2)
    >>> tuple(layer(ops.ones((1, 4, 6, 3))).shape), layer.grid_size((4, 6))
    ((1, 6, 5), (2, 3))

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), equation 1
    """

    def __init__(
        self,
        hidden_dim,
        patch_size,
        strides=None,
        padding="valid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(patch_size, strides, padding, **kwargs)
        self.hidden_dim = hidden_dim
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.dense = keras.layers.Dense(
            hidden_dim,
            use_bias=use_bias,
            kernel_initializer=clone_initializer(kernel_initializer),
            bias_initializer=clone_initializer(bias_initializer),
            name="dense",
            dtype=self.dtype_policy,
        )

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.channels = inputs_shape[-1]
        self.dense.build(super().compute_output_shape(inputs_shape))

    def call(self, inputs):
        check_images(inputs.shape, self.channels)
        size, steps = _sizes_and_steps(self.patch_size, self.strides)
        # A quantised kernel is not the matrix itself: only its own layer can multiply by it.
        if steps == size or self.dense.quantization_mode:
            patches = super().call(inputs)
            batch, count, values = ops.shape(patches)
            # Flat, because a product of two matrices is the fastest, forwards and backwards.
            x = self.dense(ops.reshape(patches, (batch * count, values)))
            return ops.reshape(x, (batch, count, self.hidden_dim))
        images = ops.cast(inputs, self.compute_dtype)
        images, (rows, columns) = _fit(images, size, steps, self.padding)
        kernel = ops.reshape(self.dense.kernel, (*size, self.channels, self.hidden_dim))
        x = ops.conv(images, kernel, steps, padding="valid", data_format="channels_last")
        x = ops.reshape(x, (ops.shape(images)[0], rows * columns, self.hidden_dim))
        return x + self.dense.bias if self.use_bias else x

    def compute_output_shape(self, inputs_shape):
        return (*super().compute_output_shape(inputs_shape)[:-1], self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "use_bias": self.use_bias,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "bias_initializer": serialize_initializer(self.bias_initializer),
        }
