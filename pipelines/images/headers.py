"""The size of an image file, read from its header inside a TensorFlow graph.

An exported model checks it before it decodes a file, because a small file may claim a size that
fills the memory.
"""

import tensorflow as tf

# Of red, green and blue in a BMP of bit fields: with these its bytes are those of any other.
USUAL_MASKS = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"


def header_size(contents: tf.Tensor) -> tf.Tensor:
    """Reads height and width from the header of an image file, before anything is decoded.

    Args:
        contents: string scalar: a JPEG, PNG, GIF, BMP or WebP file.

    Returns:
        int64 tensor `(2,)`. The frames of a GIF count as one below the other, because the decoder
        makes room for all of them, whatever the header says.

    Raises:
        tf.errors.InvalidArgumentError: for another file.
    """

    # The zeros stand for the missing end of a file that is cut off, which the decoder refuses.
    head = tf.strings.join([tf.strings.substr(contents, 0, 66), bytes(66)])

    def number(first, count, weights):
        part = tf.io.decode_raw(tf.strings.substr(head, first, count), tf.uint8)
        return tf.reduce_sum(tf.cast(part, tf.int64) * [256**power for power in weights])

    def png():
        return tf.stack([number(first, 4, (3, 2, 1, 0)) for first in (20, 16)])

    def bmp():
        height, width = (number(first, 4, (0, 1, 2, 3)) for first in (22, 18))
        known = [tf.reduce_any(number(28, 2, (0, 1)) == (8, 24, 32)), number(14, 1, (0,)) >= 40]
        compression, masks = number(30, 4, (0, 1, 2, 3)), tf.strings.substr(head, 54, 12)
        known += [(compression == 0) | ((compression == 3) & (masks == USUAL_MASKS))]
        message = "Expected a BMP of 8, 24 or 32 bits without compression."
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [message])]):
            # A negative height means that the top row comes first.
            return tf.stack([tf.where(height < 2**31, height, 2**32 - height), width])

    def jpeg():
        return tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)

    def other():
        never = tf.strings.length(contents) < 0
        known = tf.debugging.Assert(never, ["Expected a JPEG, PNG, GIF, BMP or still WebP image."])
        with tf.control_dependencies([known]):
            return tf.zeros((2,), tf.int64)

    def gif():
        return _gif_size(contents)

    def webp():
        # Each kind of WebP has the height and the width elsewhere.
        lossy = [number(first, 2, (0, 1)) % 2**14 for first in (28, 26)]
        bits = number(21, 4, (0, 1, 2, 3))
        lossless = [1 + bits // 2**14 % 2**14, 1 + bits % 2**14]
        extended = [1 + number(first, 3, (0, 1, 2)) for first in (27, 24)]
        kind = tf.strings.substr(head, 12, 4)
        size = tf.where(kind == b"VP8L", lossless, tf.where(kind == b"VP8X", extended, lossy))
        is_animated = (kind == b"VP8X") & (number(20, 1, (0,)) // 2 % 2 == 1)
        return tf.cond(is_animated, other, lambda: size)

    starts = {b"\xff\xd8": jpeg, b"\x89PNG": png, b"GIF8": gif, b"BM": bmp}
    cases = [
        (tf.strings.substr(head, 0, len(start)) == start, function)
        for start, function in starts.items()
    ]
    cases.append((tf.strings.substr(head, 8, 4) == b"WEBP", webp))
    return tf.case(cases, default=other)


def _gif_size(contents):
    """Walks over the blocks of a GIF and adds up the heights of its frames."""
    length = tf.strings.length(contents)
    # The zeros stand for the missing end of a file that is cut off.
    octets = tf.io.decode_raw(tf.strings.join([contents, bytes(16)]), tf.uint8)
    octets = tf.cast(octets, tf.int32)

    def number(first):
        return octets[first] + 256 * octets[first + 1]

    def colors(flags):
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def step(position, in_data, height, width):
        octet = octets[position]  # The length of a piece of data, or the mark of a block.
        is_frame, is_extension = (~in_data & (octet == mark) for mark in (0x2C, 0x21))
        frame = tf.where(is_frame, [number(position + 7), number(position + 5)], [0, 0])
        skip = tf.where(is_frame, 11 + colors(octets[position + 9]), 2)
        # Data comes in pieces, each after its length; an empty piece ends it.
        position += tf.where(in_data, octet + 1, skip)
        position = tf.where(in_data | is_frame | is_extension, position, length)
        in_data = is_frame | is_extension | (in_data & (octet > 0))
        height, width = height + tf.cast(frame[0], tf.int64), tf.maximum(width, frame[1])
        return position, in_data, height, width

    start = (13 + colors(octets[10]), tf.constant(False), tf.constant(0, tf.int64), 0)
    _, _, height, width = tf.while_loop(lambda position, *_: position < length, step, start)
    return tf.stack([height, tf.cast(width, tf.int64)])
