"""Random changes to training images, as TensorFlow operations on batches.

The key of an image decides what happens to it (see `keyed_random`), and the key of a batch decides
how its images are mixed. A `Recipe` lists the changes of a run, in the order in which they are
made.
"""

import dataclasses
import math
from collections.abc import Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.images.keyed_random import fold, integers, normal, uniform
from pipelines.runs.config import check_ranges

BICUBIC = "bicubic"
INTERPOLATIONS = (BICUBIC, "bilinear", "nearest", "lanczos3")  # of `tf.image.resize`
ATTEMPTS = 10  # at a rectangle that fits into the image
CROP, FLIP, RESIZED_CROP, ERASE, NOISE, MIX, BETA = range(7)  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Lists the changes to training images; each is left out at its default.

    Args:
        repeats: int. Copies of each image in a batch, each changed differently. An epoch then
            reads only `1 / repeats` of the images.
        padding: int. Pixels of black around an image out of which a crop of its size is taken.
        min_area: float. Smallest share of its area that a random crop keeps, which is then
            resized to the size of the model; 0.08 is customary for photographs.
        flip: float. Probability of mirroring.
        layers: int. Operations of RandAugment, each applied with probability 0.5.
        magnitude: float, from 0 to 10. Their mean level.
        magnitude_std: float. Its standard deviation.
        interpolations: tuple of `"bilinear"` and `"bicubic"`, from which rotation and the like
            choose. Bicubic takes twice the time.
        erase: float. Probability of erasing a rectangle.
        mixup: float. Alpha of the beta distribution of mixup.
        cutmix: float. Alpha of the beta distribution of CutMix.
        mix_probability: float. Share of batches that are mixed, if `mixup` or `cutmix` are above 0.
        switch_probability: float. Share of the mixed batches that use CutMix, if both are above 0.

    Raises:
        ValueError: for a number outside its range.
    """

    repeats: int = 1
    padding: int = 0
    min_area: float = 1.0
    flip: float = 0.0
    layers: int = 0
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    interpolations: tuple[str, ...] = ("bilinear",)
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5

    def __post_init__(self):
        shares = ("min_area", "flip", "erase", "mix_probability", "switch_probability")
        counts = {"repeats": (1, 100), "padding": (0, 10000), "layers": (0, 100)}
        ranges = counts | {"magnitude": (0, 10), **dict.fromkeys(shares, (0, 1))}
        ranges |= dict.fromkeys(("magnitude_std", "mixup", "cutmix"), (0, 100))
        check_ranges({name: (getattr(self, name), *ends) for name, ends in ranges.items()})
        for name in counts:
            if getattr(self, name) != int(getattr(self, name)):
                raise ValueError(
                    f"Expected {name} to be a whole number, received {name}={getattr(self, name)}."
                )
        if not set(self.interpolations) <= {"bilinear", "bicubic"} or not self.interpolations:
            raise ValueError(
                'Expected interpolations out of "bilinear" and "bicubic", '
                f"received interpolations={self.interpolations}."
            )

    @property
    def mixes(self) -> bool:
        """Returns whether images are mixed with one another."""
        return self.mix_probability * max(self.mixup, self.cutmix) > 0


def read_recipe(config: ml_collections.ConfigDict) -> Recipe:
    """Returns the augmentation that `config.augment` describes.

    Raises:
        ValueError: when it cannot be.
    """
    try:
        return Recipe(**config.augment.to_dict())
    except ValueError as error:
        raise ValueError(f"config.augment is wrong: {error}") from error


def check_channels(recipe: Recipe, channels: int) -> None:
    """Refuses changes that images of these channels cannot have.

    Raises:
        ValueError: for RandAugment and images with transparency.
    """
    if channels == 4 and recipe.layers:
        raise ValueError(
            "Expected augment.layers=0 with images of 4 channels, because RandAugment knows no "
            f"transparency, received augment.layers={recipe.layers}."
        )


def crop_and_flip(images: tf.Tensor, keys: tf.Tensor, padding: int, flip: float) -> tf.Tensor:
    """Moves each image by up to `padding` pixels in each direction, and mirrors some.

    Args:
        images: uint8 tensor `(B, h, w, c)`.
        keys: uint64 tensor `(B,)`.
        padding: int. What comes from outside the image is black.
        flip: float. Probability of mirroring left and right.

    Returns:
        uint8 tensor of the same shape.
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    moves = integers(uniform(keys, CROP, 2), 2 * padding + 1) - padding
    rows = moves[:, :1] + tf.range(height)
    columns = moves[:, 1:] + tf.range(width)
    columns = tf.where(uniform(keys, FLIP, 1) < flip, columns[:, ::-1], columns)
    # One gather moves and mirrors: each pixel comes from a row and a column.
    rows_inside = (rows >= 0) & (rows < height)
    columns_inside = (columns >= 0) & (columns < width)
    rows = tf.clip_by_value(rows, 0, height - 1) + height * tf.range(tf.shape(images)[0])[:, None]
    pixels = rows[:, :, None] * width + tf.clip_by_value(columns, 0, width - 1)[:, None, :]
    moved = tf.gather(tf.reshape(images, (-1, images.shape[-1])), pixels)
    inside = rows_inside[:, :, None] & columns_inside[:, None, :]
    return tf.ensure_shape(moved * tf.cast(inside, tf.uint8)[..., None], images.shape)


def random_resized_crop(
    image: tf.Tensor,
    key: tf.Tensor,
    size: tuple[int, int],
    min_area: float,
    max_area: float = 1.0,
    interpolation: str = BICUBIC,
) -> tf.Tensor:
    """Cuts a random rectangle out of one image and resizes it.

    Its area is a share of the image's from `min_area` to `max_area`, its width 3/4 to 4/3 of its
    height. If ten attempts do not fit, it is the largest such rectangle in the middle of the image.

    Args:
        image: uint8 tensor `(h, w, c)`.
        key: uint64 scalar.
        size: (height, width) of the result.
        min_area, max_area: float.
        interpolation: str. As in `resize`.

    Returns:
        uint8 tensor `(*size, c)`.
    """
    box = crop_box(key, tf.shape(image), min_area, max_area)
    image = tf.image.crop_to_bounding_box(image, *tf.unstack(box))
    return resize(image, size, interpolation)


def crop_box(
    keys: tf.Tensor, shape: tf.Tensor, min_area: float, max_area: float = 1.0
) -> tf.Tensor:
    """Draws the rectangles of `random_resized_crop`.

    Args:
        keys: uint64 tensor of any shape, a key for each rectangle.
        shape: height and width of the images.
        min_area, max_area: float.

    Returns:
        int32 tensor of the shape of `keys` with an axis more: (top, left, height, width).
    """
    image_height, image_width = shape[0], shape[1]
    draws = uniform(keys, RESIZED_CROP, 2 * ATTEMPTS + 2)
    shares = min_area + draws[..., :ATTEMPTS] * (max_area - min_area)
    ratios = _aspects(draws[..., ATTEMPTS:-2], 3 / 4)
    areas = shares * tf.cast(image_height * image_width, tf.float32)
    heights = _rounded(tf.sqrt(areas / ratios))
    widths = _rounded(tf.sqrt(areas * ratios))
    fits = (heights > 0) & (heights <= image_height) & (widths > 0) & (widths <= image_width)
    # If none fits, the image is cut to the nearest of these ratios.
    size = tf.cast((image_height, image_width), tf.float32)
    whole = (tf.minimum(size[0], size[1] * 4 / 3), tf.minimum(size[1], size[0] * 4 / 3))
    last = tf.ones_like(fits[..., :1])
    heights, widths = (
        tf.concat([sides, _rounded(side) * tf.cast(last, tf.int32)], axis=-1)
        for sides, side in ((heights, whole[0]), (widths, whole[1]))
    )
    chosen = tf.argmax(tf.concat([fits, last], axis=-1), axis=-1, output_type=tf.int32)[..., None]
    sides = [tf.gather(x, chosen, batch_dims=len(keys.shape)) for x in (heights, widths)]
    sides = tf.concat(sides, axis=-1)
    room = tf.stack([image_height, image_width]) - sides
    random = integers(draws[..., -2:], room + 1)
    corners = tf.where(tf.reduce_any(fits, axis=-1, keepdims=True), random, room // 2)
    return tf.concat([corners, sides], axis=-1)


def resize(image: tf.Tensor, size: tuple[int, int], interpolation: str = BICUBIC) -> tf.Tensor:
    """Resizes one uint8 image with antialiasing, as Pillow does.

    Args:
        image: uint8 tensor `(h, w, c)`.
        size: (height, width) of the result.
        interpolation: str. One of `INTERPOLATIONS`.

    Returns:
        uint8 tensor `(*size, c)`.
    """
    resized = tf.image.resize(image, size, interpolation, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def resize_and_crop(
    image: tf.Tensor, size: tuple[int, int], crop: float = 1.0, interpolation: str = BICUBIC
) -> tf.Tensor:
    """Resizes one image so that its middle, `crop` of the shorter side, has the given size.

    Args:
        image: uint8 tensor `(h, w, c)`.
        size: (height, width) of the result.
        crop: float, above 0 and at most 1. 0.875 is customary for photographs.
        interpolation: str. As in `resize`.

    Returns:
        uint8 tensor `(*size, c)`.
    """
    wanted = tf.constant(size, tf.float32) / crop
    scale = tf.reduce_max(wanted / tf.cast(tf.shape(image)[:2], tf.float32))
    # A long thin image loses its ends first, because resizing would make it arbitrarily large.
    middle = tf.minimum(tf.shape(image)[:2], tf.cast(tf.math.ceil(4 * wanted / scale), tf.int32))
    top, left = tf.unstack((tf.shape(image)[:2] - middle) // 2)
    image = tf.image.crop_to_bounding_box(image, top, left, middle[0], middle[1])
    resized = tf.maximum(_rounded(tf.cast(middle, tf.float32) * scale), size)
    image = tf.cond(
        tf.reduce_all(resized == tf.shape(image)[:2]),
        lambda: image,
        lambda: resize(image, resized, interpolation),
    )
    top, left = tf.unstack((resized - size) // 2)
    return tf.image.crop_to_bounding_box(image, top, left, *size)


def normalize(images: tf.Tensor, mean: Sequence[float], deviation: Sequence[float]) -> tf.Tensor:
    """Turns levels from 0 to 255 into float32 numbers around 0."""
    scale = 1 / tf.constant(deviation, tf.float32)
    return tf.cast(images, tf.float32) * scale - tf.constant(mean, tf.float32) * scale


def to_levels(images: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """Turns normalised images back into levels from 0 to 255, uint8.

    Example:

    >>> to_levels(np.array([[[[1.0]]]]), [100.0], [50.0]).ravel().tolist()
    [150]
    """
    return np.clip(np.round(images * np.array(deviation) + mean), 0, 255).astype(np.uint8)


def erase(images: tf.Tensor, keys: tf.Tensor, probability: float) -> tf.Tensor:
    """Fills a random rectangle of some images with noise.

    Its area is 2 to 33 % of the image's, its height 0.3 to 1 / 0.3 of its width.

    Args:
        images: float32 tensor `(B, h, w, c)`, normalised: the noise is standard normal.
        keys: uint64 tensor `(B,)`.
        probability: float.

    Returns:
        float32 tensor of the same shape.

    References:
        - [Zhong et al., 2017](https://arxiv.org/abs/1708.04896)
    """
    _, height, width, channels = images.shape
    rows = tf.where(uniform(keys, ERASE, 1)[:, 0] < probability)[:, 0]
    keys = tf.gather(keys, rows)
    draws = uniform(keys, ERASE, 2 * ATTEMPTS + 3)[:, 1:]
    areas = (0.02 + draws[:, :ATTEMPTS] * (1 / 3 - 0.02)) * (height * width)
    ratios = _aspects(draws[:, ATTEMPTS:-2], 0.3)
    heights, widths = _rounded(tf.sqrt(areas * ratios)), _rounded(tf.sqrt(areas / ratios))
    fits = (heights < height) & (widths < width)
    chosen = tf.argmax(fits, axis=1)[:, None]
    heights = tf.gather(tf.where(fits, heights, 0), chosen, batch_dims=1)
    widths = tf.gather(widths, chosen, batch_dims=1)
    box = _inside(integers(draws[:, -2:-1], height - heights + 1), heights, height)[:, :, None]
    box &= _inside(integers(draws[:, -1:], width - widths + 1), widths, width)[:, None, :]
    noise = normal(keys, NOISE, height * width * channels)
    old = tf.gather(images, rows)
    new = tf.where(box[..., None], tf.reshape(noise, tf.shape(old)), old)
    return tf.tensor_scatter_nd_update(images, rows[:, None], new)


def mix(
    images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, recipe: Recipe
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mixes image `i` of a batch with image `B - 1 - i`, by mixup or by CutMix.

    Mixup adds the two, in shares of a beta distribution; CutMix puts a rectangle of the one into
    the other. All images of a batch share the kind, the shares and the rectangle.

    Args:
        images: float32 tensor `(B, h, w, c)`.
        labels: int tensor `(B,)`, or `(B, classes)`.
        key: uint64 scalar, of the batch.
        recipe: `Recipe`.

    Returns:
        Tuple of the images, the labels of what was mixed in, and the float32 shares of the original
        labels, `(B,)`.

    References:
        - [Zhang et al., 2017](https://arxiv.org/abs/1710.09412)
        - [Yun et al., 2019](https://arxiv.org/abs/1905.04899)
    """
    height, width = images.shape[1:3]
    takes, switches, y, x = tf.unstack(uniform(key, MIX, 4))
    switch = recipe.switch_probability if recipe.mixup else 1.0
    cuts = switches < (switch if recipe.cutmix else 0.0)
    alpha = tf.where(cuts, recipe.cutmix, recipe.mixup)
    share = tf.where(takes < recipe.mix_probability, _beta(key, alpha), 1.0)
    halves = [tf.cast(side * tf.sqrt(1 - share), tf.int32) // 2 for side in (height, width)]
    rows = _between(integers(y, height), halves[0], height)[:, None, None]
    columns = _between(integers(x, width), halves[1], width)[:, None]
    weights = tf.where(cuts, 1.0 - tf.cast(rows & columns, tf.float32), share)
    images = weights * images + (1 - weights) * images[::-1]
    return images, labels[::-1], tf.fill(tf.shape(labels)[:1], tf.reduce_mean(weights))


def _beta(key: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Draws a float32 of the beta distribution with both parameters `alpha`."""
    seed = tf.bitcast(fold(fold(key, BETA), tf.range(2)), tf.int64)
    # In float64, because two draws with a small alpha may both be 0 in float32.
    draws = tf.random.stateless_gamma((2,), seed, tf.cast(alpha, tf.float64), dtype=tf.float64)
    return tf.cast(draws[0] / tf.reduce_sum(draws), tf.float32)


def _between(center: tf.Tensor, half: tf.Tensor, size: int) -> tf.Tensor:
    return _inside(center - half, 2 * half, size)


def _aspects(uniforms: tf.Tensor, least: float) -> tf.Tensor:
    """Spreads numbers from `least` to `1 / least`, evenly on a logarithmic scale."""
    return tf.exp((2 * uniforms - 1) * math.log(1 / least))


def _rounded(numbers: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(numbers), tf.int32)


def _inside(start: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    positions = tf.range(size)
    return (positions >= start) & (positions < start + length)
