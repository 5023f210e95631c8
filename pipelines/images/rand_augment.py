"""RandAugment as timm's `rand-m9-mstd0.5-inc1` defines it, on batches.

Each image draws its own operations, and each operation runs once, on the images that drew it. An
operation takes uint8 images `(B, h, w, c)`, c 1 or 3, and an argument `(B,)`. Its result differs
from that of Pillow's function of the same name by at most one level.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from pipelines.images.keyed_random import integers, normal, uniform

TOP_LEVEL = 10.0  # of the scale on which magnitudes are given
GRAY = 128
STREAM = 100  # and one more for each layer: the streams of `keyed_random`


def auto_contrast(images: tf.Tensor) -> tf.Tensor:
    """Stretches the levels of each channel so that they reach from 0 to 255."""
    x = tf.cast(images, tf.int32)
    low, high = (reduce(x, axis=(1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    stretched = (x - low) * 255 // tf.maximum(high - low, 1)
    return tf.where(high > low, tf.cast(stretched, tf.uint8), images)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Spreads the levels of each channel so that each range of them is about as common."""
    channels = tf.reduce_prod(tf.shape(images)[::3])
    x = tf.cast(tf.transpose(images, (0, 3, 1, 2)), tf.int32)
    x = tf.reshape(x, (channels, tf.reduce_prod(tf.shape(images)[1:3])))
    x += 256 * tf.range(channels)[:, None]
    counts = tf.reshape(tf.math.bincount(x, minlength=256 * channels), (channels, 256))
    highest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    last = tf.gather(counts, highest, batch_dims=1)
    step = ((tf.shape(x)[1] - last) // 255)[:, None]
    table = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    x = tf.gather(tf.reshape(tf.cast(table, tf.uint8), (-1,)), x)
    x = tf.reshape(x, tf.gather(tf.shape(images), (0, 3, 1, 2)))
    return tf.ensure_shape(tf.transpose(x, (0, 2, 3, 1)), images.shape)


def invert(images: tf.Tensor) -> tf.Tensor:
    """Replaces each level `x` by `255 - x`."""
    return 255 - images


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest `bits` of each level, from 1 to 8."""
    shift = _per_image(tf.cast(8 - bits, tf.uint8))
    return tf.bitwise.left_shift(tf.bitwise.right_shift(images, shift), shift)


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the levels that are not below `threshold`, from 0 to 256."""
    return tf.where(tf.cast(images, tf.int32) < _per_image(threshold), images, 255 - images)


def solarize_add(images: tf.Tensor, addend: tf.Tensor) -> tf.Tensor:
    """Adds `addend` to the levels below 128."""
    added = tf.minimum(tf.cast(images, tf.int32) + _per_image(addend), 255)
    return tf.where(images < 128, tf.cast(added, tf.uint8), images)


def color(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves images from gray, factor 0, over themselves, 1, towards brighter colours."""
    return _blend(_luminance(images), images, factor)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves images from their mean gray, factor 0, over themselves, 1, away from it."""
    gray = tf.cast(_luminance(images), tf.float32)
    return _blend(tf.floor(tf.reduce_mean(gray, (1, 2, 3), True) + 0.5), images, factor)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves images from black, factor 0, over themselves, 1, towards white."""
    return _blend(0.0, images, factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves images from a smoothed version, factor 0, over themselves, 1, to a sharper one."""
    x = tf.cast(images, tf.float32)
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    center = x[:, 1:-1, 1:-1]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * center
    inner = _blend(tf.floor(sums / 13 + 0.5), center, factor)  # as Pillow, without the outline
    inside = tf.pad(tf.ones_like(inner[:1, :, :, :1], tf.bool), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return tf.where(inside, tf.pad(inner, ((0, 0), (1, 1), (1, 1), (0, 0))), images)


def rotation(degrees: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Makes the matrices `(B, 6)` that turn images counter-clockwise about their centers."""
    angle = -degrees * math.pi / 180
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = width / 2, height / 2
    return tf.stack([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y], axis=1)


def shear_x(factor: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Makes the matrices `(B, 6)` that move each row by `factor` of its distance from the top."""
    return _matrix(tf.zeros_like(factor), b=factor)


def shear_y(factor: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Makes the matrices `(B, 6)` that move each column by `factor` of its distance from left."""
    return _matrix(tf.zeros_like(factor), d=factor)


def translate_x(share: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Makes the matrices `(B, 6)` that move images to the left by a share of their width."""
    return _matrix(tf.zeros_like(share), c=share * width)


def translate_y(share: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Makes the matrices `(B, 6)` that move images upwards by a share of their height."""
    return _matrix(tf.zeros_like(share), f=share * height)


def warp(images: tf.Tensor, matrices: tf.Tensor, fill: Sequence[int], interpolation: str):
    """Moves the pixels of images as Pillow's `Image.transform` with `AFFINE` does.

    Args:
        images: uint8 tensor `(B, h, w, c)`.
        matrices: float32 tensor `(B, 6)` of (a, b, c, d, e, f): what lands at (x, y) comes from
            (a x + b y + c, d x + e y + f), counted in pixels from the upper left corner.
        fill: level of each channel where the source lies outside the image.
        interpolation: `"bilinear"` or `"bicubic"`.

    Returns:
        uint8 tensor of the same shape.
    """
    taps = {"bilinear": _bilinear, "bicubic": _bicubic}[interpolation]
    count, height, width, channels = tf.unstack(tf.shape(images))
    rows = tf.range(tf.cast(height, tf.float32))[:, None] + 0.5
    columns = tf.range(tf.cast(width, tf.float32)) + 0.5
    a, b, c, d, e, f = (m[:, None, None] for m in tf.unstack(matrices, 6, axis=1))
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    size = tf.cast((height, width), tf.float32)
    inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    left, column_weights = taps(x - 0.5)
    top, row_weights = taps(y - 0.5)
    first = tf.range(count)[:, None, None] * height
    pixels = tf.cast(tf.reshape(images, (-1, channels)), tf.float32)
    total = tf.zeros((), tf.float32)
    for i, row_weight in enumerate(row_weights):
        start = (first + tf.clip_by_value(top + i, 0, height - 1)) * width
        for j, column_weight in enumerate(column_weights):
            picked = tf.gather(pixels, start + tf.clip_by_value(left + j, 0, width - 1))
            total += picked * (row_weight * column_weight)[..., None]
    levels = tf.cast(tf.clip_by_value(total + 1e-3, 0.0, 255.0), tf.uint8)  # Pillow rounds down
    levels = tf.where(inside[..., None], levels, tf.cast(fill, tf.uint8))
    return tf.ensure_shape(levels, images.shape)


def _signed(top: float) -> Callable:
    return lambda level, sign: level / TOP_LEVEL * top * sign


def _factor(level, sign):
    return tf.maximum(0.1, 1.0 + level / TOP_LEVEL * 0.9 * sign)


def _whole(level, top):
    return tf.cast(level / TOP_LEVEL * top, tf.int32)


def _bits(level, sign):
    # At the top level no bit would be left: timm's definition then makes a black image with old
    # versions of Pillow and raises an error with new ones.
    return tf.maximum(4 - _whole(level, 4.0), 1)


# name: (function, its argument for a level from 0 to 10 and a sign of -1 or 1)
POINTWISE: dict[str, tuple[Callable, Callable | None]] = {
    "auto_contrast": (auto_contrast, None),
    "equalize": (equalize, None),
    "invert": (invert, None),
    "posterize": (posterize, _bits),
    "solarize": (solarize, lambda level, sign: 256 - _whole(level, 256.0)),
    "solarize_add": (solarize_add, lambda level, sign: _whole(level, 110.0)),
    "color": (color, _factor),
    "contrast": (contrast, _factor),
    "brightness": (brightness, _factor),
    "sharpness": (sharpness, _factor),
}
GEOMETRIC = {
    "rotate": (rotation, _signed(30.0)),
    "shear_x": (shear_x, _signed(0.3)),
    "shear_y": (shear_y, _signed(0.3)),
    "translate_x": (translate_x, _signed(0.45)),
    "translate_y": (translate_y, _signed(0.45)),
}
OPERATIONS = (*POINTWISE, *GEOMETRIC)
NOTHING = len(OPERATIONS)


class Draw(NamedTuple):
    """The operation drawn for each image of a batch in one layer; each field has shape `(B,)`.

    Attributes:
        operations: int32, an index of `OPERATIONS`, or `NOTHING`.
        levels: float32 from 0 to 10.
        signs: float32, -1 or 1.
        interpolations: int32, an index of the interpolations to choose from.
    """

    operations: tf.Tensor
    levels: tf.Tensor
    signs: tf.Tensor
    interpolations: tf.Tensor


def draw(
    keys: tf.Tensor,
    layer: int,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    probability: float = 0.5,
    num_interpolations: int = 1,
) -> Draw:
    """Draws a uniform operation and a normally distributed level for each image.

    Args:
        keys: uint64 tensor `(B,)`.
        layer: int. Layers draw independently.
        magnitude, magnitude_std: float. Mean and standard deviation of the level, which is then
            kept between 0 and 10.
        probability: float. Share of images that an operation is applied to.
        num_interpolations: int. How many there are to choose from.
    """
    choice, skip, sign, interpolation = tf.unstack(uniform(keys, STREAM + 2 * layer, 4), axis=-1)
    levels = magnitude + magnitude_std * normal(keys, STREAM + 2 * layer + 1, 1)[:, 0]
    return Draw(
        tf.where(skip < probability, integers(choice, NOTHING), NOTHING),
        tf.clip_by_value(levels, 0.0, TOP_LEVEL),
        tf.where(sign < 0.5, -1.0, 1.0),
        integers(interpolation, num_interpolations),
    )


def apply(
    images: tf.Tensor,
    drawn: Draw,
    fill: Sequence[int] = (GRAY,),
    interpolations: Sequence[str] = ("bilinear",),
) -> tf.Tensor:
    """Applies to each image what was drawn for it; arguments are those of `rand_augment`."""
    # Geometric operations differ only in a matrix, so one `warp` an interpolation runs them all.
    geometric = len(POINTWISE) + drawn.interpolations
    last = len(POINTWISE) + len(interpolations)
    groups = tf.where(drawn.operations < len(POINTWISE), drawn.operations, geometric)
    groups = tf.where(drawn.operations == NOTHING, last, groups)
    rows = tf.range(tf.shape(images)[0])
    split = (tf.dynamic_partition(part, groups, last + 1) for part in (images, rows, *drawn[:3]))
    parts, rows, *drawn_parts = split
    drawn_parts = list(zip(*drawn_parts, strict=True))
    for group, (operate, argument) in enumerate(POINTWISE.values()):
        _, levels, signs = drawn_parts[group]
        arguments = (argument(levels, signs),) if argument else ()
        parts[group] = operate(parts[group], *arguments)
    for group, interpolation in enumerate(interpolations, start=len(POINTWISE)):
        matrices = _matrices(*drawn_parts[group], *images.shape[1:3])
        parts[group] = warp(parts[group], matrices, fill, interpolation)
    return tf.ensure_shape(tf.dynamic_stitch(rows, parts), images.shape)


def rand_augment(
    images: tf.Tensor,
    keys: tf.Tensor,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    num_layers: int = 2,
    fill: Sequence[int] = (GRAY,),
    interpolations: Sequence[str] = ("bilinear",),
) -> tf.Tensor:
    """Applies random operations to each image of a batch, each with probability 0.5.

    Args:
        images: uint8 tensor `(B, h, w, c)` of static height and width, c 1 or 3.
        keys: uint64 tensor `(B,)`. An image's key alone decides what happens to it.
        magnitude, magnitude_std: float, as in `draw`.
        num_layers: int. How many operations are drawn for each image.
        fill: int, or one for each channel: what appears where an image was moved away.
        interpolations: of `"bilinear"` and `"bicubic"`, those that geometric operations choose
            from, evenly.

    Returns:
        uint8 tensor of the same shape.

    References:
        - [Cubuk et al., 2019](https://arxiv.org/abs/1909.13719)
    """
    for layer in range(num_layers):
        drawn = draw(keys, layer, magnitude, magnitude_std, 0.5, len(interpolations))
        images = apply(images, drawn, fill, interpolations)
    return images


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _luminance(images: tf.Tensor) -> tf.Tensor:
    """Turns uint8 images into gray ones `(B, h, w, 1)`, as int32, with Pillow's weights."""
    x = tf.cast(images, tf.int32)
    if images.shape[-1] == 1:
        return x
    sums = 19595 * x[..., 0:1] + 38470 * x[..., 1:2] + 7471 * x[..., 2:3]
    return tf.bitwise.right_shift(sums + 32768, 16)


def _blend(start, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Moves from `start`, factor 0, to the images, 1, and beyond; rounds down as Pillow does."""
    start, images = tf.cast(start, tf.float32), tf.cast(images, tf.float32)
    levels = start + _per_image(factor) * (images - start)
    return tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)


def _matrix(zeros, b=None, c=None, d=None, f=None):
    given = [zeros if entry is None else entry for entry in (b, c, d, f)]
    return tf.stack([zeros + 1, given[0], given[1], given[2], zeros + 1, given[3]], axis=1)


def _matrices(operations, levels, signs, height, width):
    made = [make(argument(levels, signs), height, width) for make, argument in GEOMETRIC.values()]
    return tf.gather(tf.stack(made, axis=1), operations - len(POINTWISE), batch_dims=1)


def _bilinear(position):
    """Finds the first of 2 neighbours of positions, and the weights of both."""
    first = tf.floor(position)
    t = position - first
    return tf.cast(first, tf.int32), (1 - t, t)


def _bicubic(position):
    """Finds the first of 4 neighbours of positions, and the weights of all (Keys, a = -1)."""
    second = tf.floor(position)
    t = position - second
    weights = (-t * (1 - t) ** 2, 1 - t**2 * (2 - t), t * (1 + t - t**2), -(t**2) * (1 - t))
    return tf.cast(second, tf.int32) - 1, weights
