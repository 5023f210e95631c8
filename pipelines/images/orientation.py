"""Which way up a photograph is, read from its JPEG, PNG or WebP inside a TensorFlow graph.

Cameras write the pixels as the sensor has them, and in the metadata (EXIF) how they were held.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

HEAD = 2**16  # bytes of the EXIF data
ENTRIES = 64  # of their list, one of which is the orientation
ORIENTATION = 0x0112  # its number there
JFIF = b"\xff\xe0\x00\x10"  # the first segment of most JPEGs, of 18 bytes
OTHERS = [bytes([number]) for number in (*range(0xE0, 0xF0), 0xFE)]  # of a program, or a comment
EXIF_FLAG = 8  # of a WebP
UPRIGHT = 1


class Layout(NamedTuple):
    """The layout of the parts that a file of a format consists of, in bytes from their start.

    Attributes:
        name: bytes by which the part with EXIF data is known.
        name_at: int. Where they are.
        length_at: int. Where the length of a part is.
        weights: what the four bytes there are worth.
        unit: int. The length is rounded up to a multiple of it.
        around: int. Bytes that the length does not count.
        data_at: int. Where the data begin.
        parts: int. Most of them that may lie before the EXIF data.
    """

    name: bytes
    name_at: int
    length_at: int
    weights: tuple[int, ...]
    unit: int
    around: int
    data_at: int
    parts: int


BIG, LITTLE = (2**24, 2**16, 2**8, 1), (1, 2**8, 2**16, 2**24)
LAYOUTS = {
    "JPEG": Layout(b"Exif", 4, 2, (2**8, 1, 0, 0), 1, 2, 4, 8),
    "PNG": Layout(b"eXIf", 4, 0, BIG, 1, 12, 8, 4096),  # Large ones have one every 8,192 bytes.
    "WEBP": Layout(b"EXIF", 0, 4, LITTLE, 2, 8, 8, 8),
}


def orientation(contents: tf.Tensor, kind: str) -> tf.Tensor:
    """Reads the EXIF orientation of an image file.

    Args:
        contents: string scalar: the file.
        kind: str. Its format, `"JPEG"`, `"PNG"` or `"WEBP"`; images of others are upright.

    Returns:
        int32 scalar from 1, upright, to 8; 1 where the file does not say.

    References:
        - CIPA DC-008, Exif 2.32, sections 4.5 and 4.6
        - [PNG, third edition](https://www.w3.org/TR/png-3/), section 11.3.4.5
        - [RFC 9649](https://www.rfc-editor.org/rfc/rfc9649), WebP, section 2.7
    """
    # Most files show at once that they have no EXIF data; looking for them takes time.
    if kind == "JPEG":
        head = _part(contents, 0, 32)
        start = tf.where(tf.strings.substr(head, 2, 4) == JFIF, 20, 2)
        may_have = tf.reduce_any(tf.strings.substr(head, start + 1, 1) == OTHERS)
    elif kind == "PNG":
        start, may_have = tf.constant(8), has_exif_mark(contents)
    elif kind == "WEBP":
        head = _part(contents, 12, 9)
        flags = tf.io.decode_raw(tf.strings.substr(head, 8, 1), tf.uint8)[0]
        start = tf.constant(12)
        may_have = (tf.strings.substr(head, 0, 4) == b"VP8X") & (flags & EXIF_FLAG > 0)
    else:
        return tf.constant(UPRIGHT)
    layout = [tf.constant(value) for value in LAYOUTS[kind]]
    return tf.cond(may_have, lambda: _find(contents, start, layout), lambda: UPRIGHT)


def has_exif_mark(png: tf.Tensor) -> tf.Tensor:
    """Tests whether the name of the EXIF data is anywhere in a PNG, which is quick.

    Args:
        png: string scalar: the file.

    Returns:
        bool scalar.
    """
    without = tf.strings.regex_replace(png, LAYOUTS["PNG"].name, b"", replace_global=False)
    return tf.strings.length(without) < tf.strings.length(png)


def _part(contents, start, length):
    """Returns a part of a file, with zeros for what lies behind its end."""
    found = tf.strings.substr(contents, tf.minimum(start, tf.strings.length(contents)), length)
    return tf.strings.join([found, bytes(32)])


# A function of its own, whose operations cost no time for images that do not need it.
@functools.partial(tf.function, experimental_attributes={"_noinline": True})
def _find(contents, start, layout):
    """Goes from part to part of a file, and reads the orientation from the one with EXIF data."""
    layout, total = Layout(*layout), tf.strings.length(contents)

    def is_found(start):
        return tf.strings.substr(_part(contents, start, 8), layout.name_at, 4) == layout.name

    def is_before(start):
        return (start < total) & ~is_found(start)

    def behind(start):
        octets = tf.strings.substr(_part(contents, start, 8), layout.length_at, 4)
        octets = tf.cast(tf.io.decode_raw(octets, tf.uint8), tf.int64)
        length = tf.reduce_sum(octets * tf.cast(layout.weights, tf.int64))
        length += tf.cast(layout.around, tf.int64) + length % tf.cast(layout.unit, tf.int64)
        # A forged length may be larger than an int32.
        return (start + tf.cast(tf.minimum(length, tf.cast(total - start, tf.int64)), tf.int32),)

    (start,) = tf.while_loop(is_before, behind, (start,), maximum_iterations=layout.parts)
    metadata = _part(contents, start + layout.data_at, HEAD)
    return tf.cond(is_found(start), lambda: _read(metadata), lambda: UPRIGHT)


def _read(metadata):
    """Reads the orientation from EXIF data, which are a TIFF file without pixels."""
    first = tf.where(tf.strings.substr(metadata, 0, 6) == b"Exif\0\0", 6, 0)
    octets = tf.io.decode_raw(tf.strings.substr(metadata, first, HEAD), tf.uint8)
    is_little = octets[0] == ord("I")

    def number(positions, length):
        positions = tf.clip_by_value(positions, 0, tf.size(octets) - length)
        digits = tf.gather(octets, positions[..., None] + tf.range(length))
        digits = tf.cast(tf.where(is_little, digits, digits[..., ::-1]), tf.int32)
        return tf.reduce_sum(digits * 256 ** tf.range(length), axis=-1)

    entries = number(tf.constant(4), 4)
    positions = entries + 2 + 12 * tf.range(ENTRIES)
    is_orientation = number(positions, 2) == ORIENTATION
    is_orientation &= tf.range(ENTRIES) < number(entries, 2)
    value = tf.reduce_max(tf.where(is_orientation, number(positions + 8, 2), 0))
    return tf.where((value >= 1) & (value <= 8), value, UPRIGHT)


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image upright.

    Args:
        image: tensor `(height, width, channels)`.
        orientation: int32 scalar, as `orientation` returns it.

    Returns:
        Tensor `(height, width, channels)`, or `(width, height, channels)` after a quarter turn.
    """

    def turned():
        x = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        for axis, mirrored in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
            is_mirrored = tf.reduce_any(orientation == mirrored)
            x = tf.cond(is_mirrored, lambda x=x, axis=axis: tf.reverse(x, [axis]), lambda x=x: x)
        return x

    return tf.cond(orientation == UPRIGHT, lambda: image, turned)
