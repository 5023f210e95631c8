"""Which way up a photograph is, read from its JPEG inside a TensorFlow graph.

Cameras write the pixels as the sensor has them, and in the metadata (EXIF) how they were held.
"""

import functools

import tensorflow as tf

HEAD = 2**16  # bytes of the EXIF data
SEGMENTS = 8  # that may lie before them
ENTRIES = 64  # of their list, one of which is the orientation
ORIENTATION = 0x0112  # its number there
JFIF = b"\xff\xe0\x00\x10"  # the first segment of most files, of 18 bytes
OTHERS = [bytes([number]) for number in (*range(0xE0, 0xF0), 0xFE)]  # of a program, or a comment
UPRIGHT = 1


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """Reads the EXIF orientation of a JPEG.

    Args:
        contents: string scalar: a JPEG file.

    Returns:
        int32 scalar from 1, upright, to 8; 1 where the file does not say.

    References:
        - CIPA DC-008, Exif 2.32, sections 4.5 and 4.6
    """
    # Most files have EXIF data at once or none; the walk is for the others, because it takes time.
    head = _part(contents, 0, 32)
    start = tf.where(tf.strings.substr(head, 2, 4) == JFIF, 20, 2)
    is_there = tf.strings.substr(head, start + 4, 4) == b"Exif"
    is_other = tf.reduce_any(tf.strings.substr(head, start + 1, 1) == OTHERS)
    walk = functools.partial(_walk, contents, start)
    start, is_there = tf.cond(is_other & ~is_there, walk, lambda: (start, is_there))
    metadata = _part(contents, start + 10, HEAD)
    return tf.cond(is_there, lambda: _read(metadata), lambda: UPRIGHT)


def _part(contents, start, length):
    """Returns a part of a file, with zeros for what lies behind its end."""
    found = tf.strings.substr(contents, tf.minimum(start, tf.strings.length(contents)), length)
    return tf.strings.join([found, bytes(32)])


# A function of its own, whose operations cost no time for images that do not need it.
@functools.partial(tf.function, experimental_attributes={"_noinline": True})
def _walk(contents, start):
    """Goes from segment to segment, and returns where EXIF data begin, and whether they do."""

    def has_exif(start):
        return tf.strings.substr(_part(contents, start, 8), 4, 4) == b"Exif"

    def is_before(start):
        marker = tf.strings.substr(_part(contents, start, 2), 1, 1)
        return tf.reduce_any(marker == OTHERS) & ~has_exif(start)

    def behind(start):
        octets = tf.cast(tf.io.decode_raw(_part(contents, start + 2, 2), tf.uint8), tf.int32)
        return (start + 2 + 256 * octets[0] + octets[1],)

    (start,) = tf.while_loop(is_before, behind, (start,), maximum_iterations=SEGMENTS)
    return start, has_exif(start)


def _read(metadata):
    """Reads the orientation from EXIF data, which are a TIFF file without pixels."""
    octets = tf.io.decode_raw(tf.strings.join([metadata, bytes(16)]), tf.uint8)
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
