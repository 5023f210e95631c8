"""Random changes of colour and sharpness, as self-supervised learning uses them, on batches.

An operation takes uint8 images `(B, h, w, c)`, c 1 or 3, and an argument `(B,)`. Its result differs
from that of torchvision on images of Pillow by at most one level, but for `blur`: Pillow imitates
the Gaussian by boxes.

Letters: `B` batch, `h` height, `w` width, `c` channels.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from pipelines.images.keyed_random import uniform
from pipelines.images.rand_augment import brightness, color, contrast

JITTER, CHANCE, AMOUNT = range(200, 203)  # streams of `keyed_random`


def hue(images: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Turns the colours of images about the circle of hues, of 256 steps as in Pillow.

    Args:
        images: uint8 tensor `(B, h, w, 3)`; gray images have no hue and stay as they are.
        shift: float32 tensor `(B,)`, the part of the circle, from -0.5 to 0.5.

    Returns:
        uint8 tensor of the same shape.
    """
    if images.shape[-1] == 1:
        return images
    x = tf.cast(images, tf.float32)
    red, green, blue = tf.unstack(x, axis=-1)
    high, low = tf.reduce_max(x, axis=-1), tf.reduce_min(x, axis=-1)
    far = (high[..., None] - x) / tf.maximum(high - low, 1.0)[..., None]
    far_red, far_green, far_blue = tf.unstack(far, axis=-1)
    sixths = tf.where(
        red == high,
        far_blue - far_green,
        tf.where(green == high, 2.0 + far_red - far_blue, 4.0 + far_green - far_red),
    )
    # In float64, because Pillow rounds down, and one step of the circle is six levels.
    circle = tf.cast(tf.math.floormod(tf.cast(sixths, tf.float64) / 6.0 + 1.0, 1.0), tf.float32)
    level = tf.cast(tf.floor(tf.cast(circle, tf.float64) * 255.0), tf.float32)
    saturation = tf.cast((high - low) / tf.maximum(high, 1.0), tf.float64)
    saturation = tf.cast(tf.floor(saturation * 255.0), tf.float32) / 255.0
    steps = tf.cast(tf.cast(shift * 255.0, tf.int32), tf.float32)  # towards zero
    level = tf.math.floormod(level + steps[:, None, None], 256.0)
    turned = []
    for offset in (5.0, 3.0, 1.0):  # of red, green and blue, in sixths of the circle
        k = tf.math.floormod(offset + level * (6.0 / 255.0), 6.0)
        part = tf.clip_by_value(tf.minimum(k, 4.0 - k), 0.0, 1.0)
        turned.append(tf.floor(high * (1.0 - saturation * part) + 0.5))
    return tf.cast(tf.stack(turned, axis=-1), tf.uint8)


def color_jitter(images: tf.Tensor, keys: tf.Tensor, strengths: Sequence[float]) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue of each image, in an order of its own.

    Args:
        images: uint8 tensor `(B, h, w, c)`, c 1 or 3.
        keys: uint64 tensor `(B,)`.
        strengths: four floats: factors of brightness, contrast and saturation lie evenly between
            one less and one more than these, and the hue is turned by up to the fourth in either
            direction.

    Returns:
        uint8 tensor of the same shape.
    """
    draws = uniform(keys, JITTER, 8)
    amounts = (2.0 * draws[:, :4] - 1.0) * tf.constant(strengths, tf.float32)
    amounts += tf.constant((1.0, 1.0, 1.0, 0.0))
    order = tf.argsort(draws[:, 4:])
    rows = tf.range(tf.shape(images)[0])
    operations = (brightness, contrast, color, hue)
    for turn in tf.range(4):  # In a graph one loop, which begins four times faster.
        chosen = order[:, turn]
        argument = tf.gather(amounts, chosen, batch_dims=1)
        parts = (tf.dynamic_partition(x, chosen, 4) for x in (rows, images, argument))
        groups, *groups_and_arguments = parts
        changed = [f(*pair) for f, *pair in zip(operations, *groups_and_arguments, strict=True)]
        images = tf.ensure_shape(tf.dynamic_stitch(groups, changed), images.shape)
    return images


def gray(images: tf.Tensor) -> tf.Tensor:
    """Takes the colours out of images, which keep their channels."""
    return color(images, tf.zeros(tf.shape(images)[:1]))


def blur(images: tf.Tensor, radius: tf.Tensor, largest: float) -> tf.Tensor:
    """Averages the surroundings of each pixel with Gaussian weights.

    Args:
        images: uint8 tensor `(B, h, w, c)` of static height and width. Its edges go on outside.
        radius: float32 tensor `(B,)`, the standard deviation in pixels, above 0.
        largest: float. The largest that a radius can be.

    Returns:
        uint8 tensor of the same shape.
    """
    margin = math.ceil(3 * largest)
    rows, columns = (_blur_matrices(radius, margin, size) for size in images.shape[1:3])
    return transformed(images, rows, columns)


def _blur_matrices(radius, margin, size):
    """Makes matrices `(B, size, size)` that blur lines of pixels."""
    places = tf.range(-margin, size + margin, dtype=tf.float32)
    distances = places - tf.range(size, dtype=tf.float32)[:, None]
    weights = tf.exp(-0.5 * tf.square(distances / radius[:, None, None]))
    weights /= tf.reduce_sum(weights, axis=-1, keepdims=True)
    # What lies outside has the level of the edge.
    inside = tf.clip_by_value(tf.cast(places, tf.int32), 0, size - 1)
    return tf.einsum("bip,pj->bij", weights, tf.one_hot(inside, size))


def transformed(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Makes each row of pixels anew by weights, and each column.

    Args:
        images: uint8 tensor `(B, h, w, c)`.
        rows: float32 tensor `(B, new h, h)`.
        columns: float32 tensor `(B, new w, w)`.

    Returns:
        uint8 tensor `(B, new h, new w, c)`.
    """
    x = tf.cast(images, tf.float32)
    x = tf.einsum("bph,bhwc->bpwc", rows, x)
    x = tf.einsum("bqw,bpwc->bpqc", columns, x)
    return tf.cast(tf.clip_by_value(tf.round(x), 0.0, 255.0), tf.uint8)


def sometimes(
    images: tf.Tensor,
    keys: tf.Tensor,
    number: int,
    probabilities: tf.Tensor,
    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Changes some of the images of a batch.

    Args:
        images: uint8 tensor `(B, h, w, c)`.
        keys: uint64 tensor `(B,)`. The key of an image decides whether it is changed.
        number: int. Another one for each change, because they are independent of each other.
        probabilities: float32 tensor `(B,)`.
        change: function from the chosen images and their keys to changed images.

    Returns:
        uint8 tensor of the same shape.
    """
    chosen = uniform(keys, CHANCE, number + 1)[:, number] < probabilities
    rows = tf.where(chosen)
    changed = change(tf.gather_nd(images, rows), tf.gather_nd(keys, rows))
    return tf.tensor_scatter_nd_update(images, rows, changed)
