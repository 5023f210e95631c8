"""The size of an image file, read from its header inside a TensorFlow graph."""

import tensorflow as tf


def header_size(contents: tf.Tensor) -> tf.Tensor:
    """Reads height and width from the header of an image file, before anything is decoded.

    Args:
        contents: string scalar: a JPEG, PNG, GIF or BMP file.

    Returns:
        int64 tensor `(2,)`. The frames of a GIF count as one below the other, for the decoder
        makes room for them all, whatever the header says.

    Raises:
        tf.errors.InvalidArgumentError: for another file.
    """

    # The zeros stand for what a file that is cut off lacks; then the decoder refuses it.
    head = tf.strings.join([tf.strings.substr(contents, 0, 26), bytes(26)])

    def number(first, count, weights):
        part = tf.io.decode_raw(tf.strings.substr(head, first, count), tf.uint8)
        return tf.reduce_sum(tf.cast(part, tf.int64) * [256**power for power in weights])

    def png():
        return tf.stack([number(first, 4, (3, 2, 1, 0)) for first in (20, 16)])

    def bmp():
        height, width = (number(first, 4, (0, 1, 2, 3)) for first in (22, 18))
        # A file that begins with its top row has a height below 0.
        return tf.stack([tf.where(height < 2**31, height, 2**32 - height), width])

    def jpeg():
        return tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)

    def other():
        never = tf.strings.length(contents) < 0
        known = tf.debugging.Assert(never, ["Expected a JPEG, PNG, GIF or BMP image."])
        with tf.control_dependencies([known]):
            return tf.zeros((2,), tf.int64)

    def gif():
        return _gif_size(contents)

    starts = {b"\xff\xd8": jpeg, b"\x89PNG": png, b"GIF8": gif, b"BM": bmp}
    cases = [
        (tf.strings.substr(head, 0, len(start)) == start, function)
        for start, function in starts.items()
    ]
    return tf.case(cases, default=other)


def _gif_size(contents):
    """Walks over the blocks of a GIF and adds up the heights of its frames."""
    length = tf.strings.length(contents)
    # The zeros behind the end stand for what a file that is cut off lacks.
    octets = tf.io.decode_raw(tf.strings.join([contents, bytes(16)]), tf.uint8)
    octets = tf.cast(octets, tf.int32)

    def number(first):
        return octets[first] + 256 * octets[first + 1]

    def colors(flags):
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def step(place, in_data, height, width):
        kind = octets[place]
        is_frame, is_extension = (~in_data & (kind == mark) for mark in (0x2C, 0x21))
        frame = tf.where(is_frame, [number(place + 7), number(place + 5)], [0, 0])
        skip = tf.where(is_frame, 11 + colors(octets[place + 9]), 2)
        # Data is pieces, each behind its length; an empty one ends it.
        place += tf.where(in_data, kind + 1, skip)
        place = tf.where(in_data | is_frame | is_extension, place, length)
        in_data = is_frame | is_extension | (in_data & (kind > 0))
        return place, in_data, height + tf.cast(frame[0], tf.int64), tf.maximum(width, frame[1])

    start = (13 + colors(octets[10]), tf.constant(False), tf.constant(0, tf.int64), 0)
    place = tf.while_loop(lambda place, *_: place < length, step, start)
    return tf.stack([place[2], tf.cast(place[3], tf.int64)])
