"""Several random views of each image, as self-distillation trains on: multi-crop.

Two global views show most of an image at the size of the model, and local views show small parts of
it at a smaller size. The key of an image and the number of a view decide what the view is.

Letters: `B` batch, `V` views, `h` height, `w` width, `c` channels.
"""

import dataclasses
import functools
from collections.abc import Sequence

import ml_collections
import tensorflow as tf

from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.images.augmentation import crop_box, normalize, random_resized_crop
from pipelines.images.batches import (
    IMAGE,
    indices_in_batches,
    reader,
    rows_of_shard,
    shuffled_batches,
)
from pipelines.images.dataset import Images
from pipelines.images.keyed_random import fold, make_keys, uniform
from pipelines.images.photometric import (
    AMOUNT,
    blur,
    color_jitter,
    gray,
    sometimes,
    transformed,
)
from pipelines.images.rand_augment import solarize
from pipelines.runs.config import check_ranges

GLOBAL_VIEWS = 2
FIRST, SECOND, LOCAL = range(3)  # kinds of views
FLIP, JITTER, GRAY, BLUR, SOLARIZE = range(5)  # changes that some views get
THRESHOLD = 128  # level from which on solarisation inverts


@dataclasses.dataclass(frozen=True)
class MultiCrop:
    """Lists the views of an image and the changes to them; the defaults are those of DINO.

    Args:
        global_area: two floats. Least and largest share of the image in a global view.
        local_count: int. Number of local views.
        local_size: int. Side of a local view, in pixels.
        local_area: two floats. Least and largest share of the image in a local view.
        flip: float. Probability of mirroring.
        jitter: float. Probability of changing the colours.
        brightness, contrast, saturation, hue: float. How much, as in `photometric.color_jitter`.
        gray: float. Probability of taking the colours out.
        blur: three floats. Probability of blurring the first global view, the second, and a local
            one.
        blur_radius: two floats. Least and largest standard deviation in pixels, for images of about
            224 pixels.
        solarize: three floats. Probability of inverting the bright levels, as for `blur`.

    Raises:
        ValueError: for a number outside its range.

    References:
        - [Caron et al., 2021](https://arxiv.org/abs/2104.14294), section 3.2
        - [Grill et al., 2020](https://arxiv.org/abs/2006.07733), appendix B, the changes
    """

    global_area: tuple[float, ...] = (0.4, 1.0)
    local_count: int = 8
    local_size: int = 96
    local_area: tuple[float, ...] = (0.05, 0.4)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    gray: float = 0.2
    blur: tuple[float, ...] = (1.0, 0.1, 0.5)
    blur_radius: tuple[float, ...] = (0.1, 2.0)
    solarize: tuple[float, ...] = (0.0, 0.2, 0.0)

    def __post_init__(self):
        names = ("flip", "jitter", "brightness", "contrast", "saturation", "gray")
        ranges = {name: (getattr(self, name), 0, 1) for name in names}
        ranges |= {"hue": (self.hue, 0, 0.5), "local_count": (self.local_count, 0, 100)}
        ranges["local_size"] = (self.local_size, 1, 10_000)
        lengths = {"global_area": 2, "local_area": 2, "blur_radius": 2, "blur": 3, "solarize": 3}
        for name, length in lengths.items():
            values = getattr(self, name)
            if len(values) != length or not all(isinstance(x, int | float) for x in values):
                raise ValueError(
                    f"Expected {name} to be {length} numbers, received {name}={values}."
                )
            least, most = (0, 1) if length == 3 else (0.001, 1)
            most = 100 if name == "blur_radius" else most
            ranges |= {f"{name}[{i}]": (x, least, most) for i, x in enumerate(values)}
        check_ranges(ranges)
        for name in ("global_area", "local_area", "blur_radius"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(
                    f"Expected {name} to be a smaller and a larger number, received "
                    f"{name}={(least, most)}."
                )


def read_multi_crop(config: ml_collections.ConfigDict) -> MultiCrop:
    """Returns the views that `config.views` describes.

    Raises:
        ValueError: when they cannot be.
    """
    try:
        return MultiCrop(**config.views.to_dict())
    except ValueError as error:
        raise ValueError(f"config.views is wrong: {error}") from error


def views_for_training(
    images: Images,
    batch_size: int,
    seed: int,
    recipe: MultiCrop,
    image_size: tuple[int, int],
    mean: Sequence[float],
    deviation: Sequence[float],
    *,
    start_batch: int = 0,
    shard: Shard = WHOLE_BATCH,
) -> tf.data.Dataset:
    """Makes the endless dataset of the views of training batches, from any batch on.

    The images come in the order of `batches.training_dataset`. The seed, the epoch, the index of an
    image and the number of a view decide what the view is, so that training can resume anywhere.

    Args:
        images: `Images` of 1 or 3 channels.
        batch_size, seed, mean, deviation, start_batch, shard: as in `batches.training_dataset`.
        recipe: `MultiCrop`.
        image_size: (height, width) of the global views.

    Returns:
        Dataset of dicts of `global_views`, float32 `(B, 2, h, w, c)`, normalised; and, where the
        recipe has any, `local_views` float32 `(B, local_count, local_size, local_size, c)`.

    Raises:
        ValueError: if there are fewer images than `batch_size`.
    """
    rows = rows_of_shard(batch_size, shard)
    make_views = _view_maker(images, recipe, image_size, mean, deviation)

    def make_batch(_, order):
        indices, draws, copies, epochs = (tf.gather(part, rows) for part in order)
        return make_views(indices, make_keys(seed, IMAGE, epochs, draws, copies))

    orders = shuffled_batches(len(images.labels), batch_size, seed, start_batch)
    batches = orders.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def views_for_validation(
    images: Images,
    batch_size: int,
    recipe: MultiCrop,
    image_size: tuple[int, int],
    mean: Sequence[float],
    deviation: Sequence[float],
) -> tf.data.Dataset:
    """Makes the dataset of views of all images once, in order, the same each time.

    Args:
        images, batch_size, recipe, image_size, mean, deviation: as in `views_for_training`.

    Returns:
        Dataset of dicts as there, and of `real`, bool `(B,)`: false for what fills the last batch.
    """
    make_views = _view_maker(images, recipe, image_size, mean, deviation)

    def make_batch(indices):
        used = tf.maximum(indices, 0)
        return {**make_views(used, make_keys(used)), "real": indices >= 0}

    batches = indices_in_batches(len(images.labels), batch_size)
    return batches.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _view_maker(images, recipe, image_size, mean, deviation):
    """Makes a function from indices and keys of images to their views."""
    pixels, read_one = reader(images)
    groups = {"global_views": ((FIRST, SECOND), image_size, recipe.global_area)}
    if recipe.local_count:
        local = (LOCAL,) * recipe.local_count
        groups["local_views"] = (local, (recipe.local_size,) * 2, recipe.local_area)

    def cut_one(index, keys, size, area):
        image = read_one(index)
        views = [random_resized_crop(image, key, size, *area) for key in tf.unstack(keys)]
        return tf.stack(views)

    def cut(indices, keys, size, area):
        if images.are_decoded:
            copies = tf.repeat(tf.gather(pixels, indices), keys.shape[1], axis=0)
            views = random_crops(copies, tf.reshape(keys, (-1,)), size, *area)
            return tf.reshape(views, (-1, keys.shape[1], *views.shape[1:]))
        spec = tf.TensorSpec((keys.shape[1], *size, images.channels), tf.uint8)
        pairs = (indices, keys)
        return tf.map_fn(lambda pair: cut_one(*pair, size, area), pairs, fn_output_signature=spec)

    def make_views(indices, keys):
        views, first = {}, 0
        for name, (kinds, size, area) in groups.items():
            numbers = tf.range(first, first + len(kinds))
            of_views = tf.ensure_shape(fold(keys[:, None], numbers), (*indices.shape, len(kinds)))
            first += len(kinds)
            x = change(cut(indices, of_views, size, area), of_views, recipe, kinds)
            x = tf.ensure_shape(x, (*indices.shape, *x.shape[1:]))
            views[name] = normalize(x, mean, deviation)
        return views

    return make_views


def random_crops(
    images: tf.Tensor,
    keys: tf.Tensor,
    size: tuple[int, int],
    min_area: float,
    max_area: float = 1.0,
) -> tf.Tensor:
    """Does what `augmentation.random_resized_crop` does with a whole batch of equal sizes.

    Args:
        images: uint8 tensor `(B, h, w, c)` of static height and width.
        keys: uint64 tensor `(B,)`.
        size: (height, width) of the results.
        min_area, max_area: float.

    Returns:
        uint8 tensor `(B, *size, c)`.
    """
    height, width = images.shape[1:3]
    top, left, heights, widths = tf.unstack(
        tf.cast(crop_box(keys, (height, width), min_area, max_area), tf.float32), axis=1
    )
    rows = _crop_matrices(top, heights, height, size[0])
    return transformed(images, rows, _crop_matrices(left, widths, width, size[1]))


def _crop_matrices(starts, lengths, old_size, new_size):
    """Makes matrices `(B, new_size, old_size)` that cut lines of pixels and resize them.

    The weights are Keys's, a = -0.5, with antialiasing: those of `augmentation.resize`.
    """
    scale = lengths[:, None] / new_size
    centers = (tf.range(new_size, dtype=tf.float32) + 0.5) * scale
    pixels = tf.range(old_size, dtype=tf.float32) + 0.5 - starts[:, None]
    x = tf.abs(centers[:, :, None] - pixels[:, None, :]) / tf.maximum(scale, 1.0)[..., None]
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    weights = tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))
    inside = (pixels > 0.0) & (pixels < lengths[:, None])
    weights *= tf.cast(inside, tf.float32)[:, None, :]
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def change(views: tf.Tensor, keys: tf.Tensor, recipe: MultiCrop, kinds: Sequence[int]) -> tf.Tensor:
    """Changes views at random: mirrored, other colours, gray, blurred, solarised, in this order.

    Args:
        views: uint8 tensor `(B, V, h, w, c)`, c 1 or 3.
        keys: uint64 tensor `(B, V)`.
        recipe: `MultiCrop`.
        kinds: of each of the `V` views, `FIRST`, `SECOND` or `LOCAL`.

    Returns:
        uint8 tensor of the same shape.
    """
    strengths = (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    least, largest = recipe.blur_radius

    def blurred(x, keys):
        radius = least + (largest - least) * uniform(keys, AMOUNT, 1)[:, 0]
        return blur(x, radius, largest)

    changes = (
        (FLIP, [recipe.flip] * 3, lambda x, _: x[:, :, ::-1]),
        (JITTER, [recipe.jitter] * 3, functools.partial(color_jitter, strengths=strengths)),
        (GRAY, [recipe.gray] * 3, lambda x, _: gray(x)),
        (BLUR, recipe.blur, blurred),
        (SOLARIZE, recipe.solarize, lambda x, _: solarize(x, _thresholds(x))),
    )
    # All together, because an operation on few small images takes longer to begin than to do.
    x, flat_keys = tf.reshape(views, (-1, *views.shape[2:])), tf.reshape(keys, (-1,))
    for number, of_kinds, function in changes:
        probabilities = [of_kinds[kind] for kind in kinds]
        if any(probabilities):
            probabilities = tf.tile(tf.constant(probabilities, tf.float32), tf.shape(views)[:1])
            x = sometimes(x, flat_keys, number, probabilities, function)
    return tf.reshape(x, (-1, *views.shape[1:]))


def _thresholds(images):
    return tf.fill(tf.shape(images)[:1], THRESHOLD)
