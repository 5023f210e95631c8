"""Random numbers that a key decides, for whole batches at once.

An image gets the same numbers in whatever batch, on whatever thread and after whatever restart it
is read. The generator is SplitMix64 as TensorFlow operations: the n-th number of a key is a hash of
both. `tf.random.stateless_uniform` takes one seed a call, so that each image would need a call.
"""

import tensorflow as tf

GOLDEN = 0x9E3779B97F4A7C15  # 2 ** 64 over the golden ratio: what SplitMix64 adds each time


def fold(keys: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Makes new keys out of keys and numbers, elementwise with broadcasting.

    Of one key and the numbers 0, 1, 2, ... they are the outputs of SplitMix64 seeded with it.

    Args:
        keys: uint64 tensor.
        numbers: int tensor.

    Returns:
        uint64 tensor.

    Example:

    >>> fold(tf.constant(1234567, tf.uint64), tf.range(2)).numpy()
    array([6457827717110365317, 3203168211198807973], dtype=uint64)

    References:
        - [Steele et al., 2014](https://doi.org/10.1145/2714064.2660195)
    """
    z = keys + (tf.cast(numbers, tf.uint64) + _uint64(1)) * _uint64(GOLDEN)
    z = (z ^ _shifted(z, 30)) * _uint64(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _uint64(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def make_keys(*numbers: int | tf.Tensor) -> tf.Tensor:
    """Makes keys out of numbers such as a seed, an epoch and the indices of images.

    Args:
        *numbers: int, or int tensors that broadcast.

    Returns:
        uint64 tensor.
    """
    keys = _uint64(0)
    for number in numbers:
        keys = fold(keys, tf.convert_to_tensor(number, dtype_hint=tf.int64))
    return keys


def uniform(keys: tf.Tensor, stream: int, count: int) -> tf.Tensor:
    """Draws numbers evenly spread between 0 and 1, neither of which occurs.

    Args:
        keys: uint64 tensor of any shape.
        stream: int. Streams are independent of each other; each purpose has its own.
        count: int. How many for each key.

    Returns:
        float32 tensor of the shape of `keys` with an axis of `count` more.
    """
    bits = fold(fold(keys, stream)[..., None], tf.range(count, dtype=tf.int64))
    # 23 bits, and half a step added; with 24 bits the largest number would be rounded up to 1.
    return tf.cast(_shifted(bits, 41), tf.float32) * 2.0**-23 + 2.0**-24


def normal(keys: tf.Tensor, stream: int, count: int) -> tf.Tensor:
    """Draws numbers from the standard normal distribution; arguments as in `uniform`."""
    return tf.math.ndtri(uniform(keys, stream, count))


def integers(uniforms: tf.Tensor, limits: tf.Tensor | int) -> tf.Tensor:
    """Turns uniform numbers into integers from 0 to `limits - 1`, each as likely as the others.

    Args:
        uniforms: float32 tensor between 0 and 1.
        limits: int32 tensor or int, at least 1.

    Returns:
        int32 tensor.
    """
    limits = tf.convert_to_tensor(limits, tf.int32)
    numbers = tf.cast(uniforms * tf.cast(limits, tf.float32), tf.int32)
    return tf.minimum(numbers, limits - 1)


def _uint64(number: int) -> tf.Tensor:
    return tf.constant(number, tf.uint64)


def _shifted(bits: tf.Tensor, places: int) -> tf.Tensor:
    return tf.bitwise.right_shift(bits, _uint64(places))
