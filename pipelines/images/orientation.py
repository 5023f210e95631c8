"""Which way up a photograph is, read from its JPEG inside a TensorFlow graph.

Cameras write the pixels as the sensor has them, and in the metadata (EXIF) how they were held.
"""

import tensorflow as tf

HEAD = 2**16  # bytes of the EXIF data
SEGMENTS = 8  # that may lie before them
ENTRIES = 64  # of their list, one of which is the orientation
ORIENTATION = 0x0112  # its number there
JFIF = b"\xff\xe0\x00\x10"  # the first segment of most files, of 18 bytes
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
    size = tf.strings.length(contents)

    def part(start, length):  # The zeros stand for what lies behind the end of a short file.
        found = tf.strings.substr(contents, tf.minimum(start, size), length)
        return tf.strings.join([found, bytes(16)])

    def has_exif(start):
        return tf.strings.substr(part(start, 8), 4, 4) == b"Exif"

    def octets(start):
        return tf.cast(tf.io.decode_raw(part(start, 2), tf.uint8), tf.int32)

    def is_before(start):
        marker = octets(start)
        is_other = (marker[1] // 16 == 0xE) | (marker[1] == 0xFE)  # Of a program, or a comment.
        return (marker[0] == 0xFF) & is_other & ~has_exif(start)

    def behind(start):
        length = octets(start + 2)
        return (start + 2 + 256 * length[0] + length[1],)

    start = tf.where(tf.strings.substr(part(2, 4), 0, 4) == JFIF, 20, 2)
    (start,) = tf.while_loop(is_before, behind, (start,), maximum_iterations=SEGMENTS)
    return tf.cond(has_exif(start), lambda: _read(part(start + 10, HEAD)), lambda: UPRIGHT)


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
