"""Encoded images: whether one can be used, and its pixels."""

import functools
import io
import struct
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from pipelines.images.headers import USUAL_MASKS
from pipelines.images.orientation import has_exif_mark, orientation, turn_upright

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
NO_IMAGE = "no BMP, GIF, JPEG, PNG or WebP image"  # A TIFF is an image, and none of these.
ANIMATED = ("GIF", "PNG", "WEBP")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16")
CHANNELS = (1, 3, 4)
MAX_PIXELS = 64_000_000  # of an image that is decoded
MAX_BYTES = 4 * 2**30  # of an array of decoded images
CHUNK = 256  # images decoded at once
LISTED = 20  # bad images that a message names; it counts the rest
PALETTE = 4 * 256  # bytes of the colours of a BMP of 8 bits


def decode(contents: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes a BMP, GIF, JPEG, PNG or WebP image, in `tf.data` or an exported graph.

    A photograph is turned upright as the EXIF data of its JPEG, PNG or WebP say. Of 16 bits the
    upper 8 are kept. Transparency is left out, unless there are four channels.

    Args:
        contents: string scalar.
        channels: int, 1 (gray), 3, or 4 (with transparency, 255 where an image has none).

    Returns:
        uint8 tensor `(height, width, channels)`.
    """

    contents = tf.convert_to_tensor(contents)

    def special():
        return _decode_special(contents, channels)

    def other():
        return tf.io.decode_image(contents, channels=3, expand_animations=False)

    first = tf.strings.substr(contents, 0, 1)
    is_special = tf.cond(
        first == b"\x89",
        lambda: has_exif_mark(contents) | (channels == 4),
        lambda: tf.reduce_any(first == (b"\xff", b"R", b"B")),
    )
    image = tf.cond(is_special, special, other)
    if channels == 4:
        return _with_alpha(image)
    image = tf.ensure_shape(image, (None, None, 3))
    if channels == 3:
        return image
    # The decoders themselves would weigh the colours differently from format to format.
    x = tf.reduce_sum(tf.cast(image, tf.int32) * (19595, 38470, 7471), axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(x + 32768, 16), tf.uint8)


# A function of its own, whose operations cost no time for images that do not need it.
@functools.partial(tf.function, experimental_attributes={"_noinline": True})
def _decode_special(contents, channels):
    """Decodes what `tf.io.decode_image` alone does not: rotated, transparent images, palettes."""

    def jpeg():
        return tf.io.decode_jpeg(contents, channels=3), orientation(contents, "JPEG")

    def png():
        image = tf.io.decode_png(contents, channels=max(channels, 3))
        return image, orientation(contents, "PNG")

    def webp():
        image = tf.image.decode_webp(contents, channels=0)[0, ..., : max(channels, 3)]
        return image, orientation(contents, "WEBP")

    def bmp():
        return _decode_bmp(contents), orientation(contents, "BMP")

    first = tf.strings.substr(contents, 0, 1)
    cases = [(first == mark, of) for mark, of in ((b"\xff", jpeg), (b"R", webp), (b"B", bmp))]
    return turn_upright(*tf.case(cases, default=png))


def _decode_bmp(contents):
    """Decodes a BMP to three channels, because TensorFlow alone reads a palette as gray."""
    head = tf.strings.join([tf.strings.substr(contents, 0, 2 * PALETTE), bytes(2 * PALETTE)])
    octets = tf.io.decode_raw(head, tf.uint8)
    image = tf.image.decode_bmp(contents)

    def coloured():
        start = 14 + tf.cast(octets[14], tf.int32)  # Behind the header, whose length this is.
        palette = tf.reshape(octets[start : start + PALETTE], (256, 4))[:, 2::-1]
        return tf.gather(palette, tf.cast(image[..., 0], tf.int32))

    return tf.cond(octets[28] == 8, coloured, lambda: image[..., :3])


def _with_alpha(image):
    """Adds full opacity to an image of three channels; one of four stays as it is."""
    opaque = tf.fill(tf.shape(image[..., :1]), tf.constant(255, tf.uint8))
    return tf.concat([image, opaque], axis=-1)[..., :4]


def is_hidden(name: str) -> bool:
    """Tests whether a file or folder is one that systems make for themselves."""
    return name.startswith(".") or name == "__MACOSX"


def count_pixels(contents: bytes) -> int:
    """Reads height times width from the header of an image in which `fault` finds nothing wrong."""
    image = _open(contents)
    return image.width * image.height


def size_and_mode(path: Path) -> tuple[tuple[int, int], str] | None:
    """Reads the sides of an image and Pillow's name for its colours, or nothing where it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                return image.size, image.mode
    except Exception:  # Pillow's plugins raise whatever they like.
        return None


def is_dark(contents: bytes) -> bool:
    """Tests whether a PNG of 16 bits uses only the lowest quarter of its levels.

    Scanners of 12 bits write such files, of which the upper 8 bits are nearly black.
    """
    if contents[:4] != b"\x89PNG" or contents[24:25] != b"\x10":  # The bits of a level.
        return False
    levels = tf.io.decode_png(contents, channels=3, dtype=tf.uint16)  # Transparency aside.
    return int(tf.reduce_max(levels)) < 2**14


def fault(contents: bytes, max_pixels: int = MAX_PIXELS) -> str | None:
    """Finds the reason why an image cannot be used, from its header alone.

    Args:
        contents: bytes of the file.
        max_pixels: int. Most pixels that an image may have when it is decoded.

    Returns:
        `None` for an image that can be used, or a few words: `"empty"`,
        `"no BMP, GIF, JPEG, PNG or WebP image"`, `"animated: 3 frames"`,
        `"too large: 90000 x 90000 pixels"`.

    Example:

    >>> fault(b"")
    'empty'
    """
    if not contents:
        return "empty"
    try:
        image = _open(contents)
        if image.width * image.height > max_pixels:
            return f"too large: {image.width} x {image.height} pixels"
        # A JPEG of several frames is a photograph with previews, and can be used.
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        if frames > 1:
            return f"animated: {frames} frames"
    except Image.DecompressionBombError:
        return "too large"
    except Exception:  # Pillow's plugins raise whatever they like.
        return NO_IMAGE
    if image.format == "BMP" and not _is_usual_bmp(contents):
        return "BMP that is compressed, or not of 8, 24 or 32 bits"
    return None if image.mode in MODES else image.mode


def read_image(path: str) -> bytes:
    """Reads the file of an image that can be used; of an animated one the first frame counts.

    Raises:
        ValueError: when it cannot be read or used, naming it and the reason.
    """
    try:
        contents = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be used: {error.strerror}.") from None
    reason = fault(contents)
    if reason and not reason.startswith("animated"):
        raise ValueError(f"{path} cannot be used: {reason}.")
    return contents


def decode_usable(
    items: Sequence | np.ndarray,
    names: Sequence[str] | np.ndarray,
    read: Callable,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    on_bad_image: str = "stop",
) -> tuple[np.ndarray | None, list[int]]:
    """Decodes every image once, and leaves out, or stops at, those that cannot be used.

    Args:
        items: files, encoded images or whatever else `read` reads.
        names: str for each item, used in errors.
        read: function from an item to its bytes. When it raises an `OSError`, the image cannot be
            used.
        channels: int, 1 or 3.
        max_pixels: int, as in `fault`.
        on_bad_image: `"stop"` or `"skip"`.

    Returns:
        Tuple of the pixels, a uint8 array `(kept, height, width, channels)`, or `None` where the
        images differ in size or are too many for memory; and the indices of the kept items.

    Raises:
        ValueError: with `"stop"`, when an image cannot be used; with `"skip"`, when none can.
    """
    kept, bad, decoded, size = [], [], [], None
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(items), CHUNK):
            loaded = threads.map(lambda item: _load(read, item), items[start : start + CHUNK])
            good = {}
            for index, (contents, reason) in enumerate(loaded, start):
                reason = reason or fault(contents, max_pixels)
                if reason:
                    bad.append((names[index], reason))
                else:
                    good[index] = contents
            if good and size is None:
                size = _upright_size(next(iter(good.values())))
                size = size if len(items) * size[0] * size[1] * channels <= MAX_BYTES else (0, 0)
            usable, pixels = _decode_chunk(list(good.values()), size, channels)
            kept += [index for index, is_usable in zip(good, usable, strict=True) if is_usable]
            unusable = [i for i, is_usable in zip(good, usable, strict=True) if not is_usable]
            bad += [(names[index], "cannot be decoded") for index in unusable]
            decoded += pixels
            if sum(map(len, decoded)) < len(kept):  # an image of another size
                decoded, size = [], (0, 0)
    _report(bad, len(items), on_bad_image)
    return (np.concatenate(decoded) if decoded else None), kept


def _open(contents: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own limit of pixels, and damaged metadata
        return Image.open(io.BytesIO(contents), formats=FORMATS)


def _is_usual_bmp(contents: bytes) -> bool:
    """Tests what `headers.header_size` requires of a BMP in the graph."""
    (size,), (bits, compression) = (
        struct.unpack_from(layout, contents, start) for layout, start in (("<I", 14), ("<HI", 28))
    )
    is_plain = compression == 0 or (compression == 3 and contents[54:66] == USUAL_MASKS)
    return size >= 40 and bits in (8, 24, 32) and is_plain


def _upright_size(contents: bytes) -> tuple[int, int]:
    image = _open(contents)
    kind = "JPEG" if contents[:2] == b"\xff\xd8" else str(image.format)  # Or "MPO".
    is_lying = int(orientation(contents, kind)) >= 5
    return (image.width, image.height) if is_lying else (image.height, image.width)


def _load(read: Callable, item) -> tuple[bytes, str | None]:
    try:
        return read(item), None
    except OSError as error:
        return b"", error.strerror or "cannot be read"


def _decode_chunk(contents: list, size: tuple | None, channels: int) -> tuple[list, list]:
    """Decodes images in one call, and if that fails each half by itself.

    Returns:
        Tuple of a bool for each image, whether it can be decoded, and a list of uint8 arrays
        `(n, *size, channels)`, the pixels of those that have this size.
    """
    if not contents:
        return [], []
    try:
        fits, pixels = _decode_all(tf.constant(contents), tf.constant(size), channels)
        return [True] * len(contents), [pixels.numpy()[fits.numpy()]]
    except tf.errors.InvalidArgumentError:
        if len(contents) == 1:
            return [False], []
        middle = len(contents) // 2
        halves = (_decode_chunk(c, size, channels) for c in (contents[:middle], contents[middle:]))
        usable, decoded = zip(*halves, strict=True)
        return sum(usable, []), sum(decoded, [])


@tf.function(reduce_retracing=True)
def _decode_all(contents, size, channels):
    def decode_one(content):
        image = decode(content, channels)
        fits = tf.reduce_all(tf.shape(image)[:2] == size)
        return fits, image if fits else tf.zeros((*tf.unstack(size), channels), tf.uint8)

    signature = tf.TensorSpec((), tf.bool), tf.TensorSpec((None, None, channels), tf.uint8)
    return tf.map_fn(decode_one, contents, fn_output_signature=signature, parallel_iterations=16)


def _report(bad: list[tuple[str, str]], total: int, on_bad_image: str) -> None:
    """Reports the images that cannot be used, each with its reason, by an error or a line."""
    if not bad:
        return
    names = ", ".join(f"{name} ({reason})" for name, reason in bad[:LISTED])
    if len(bad) > LISTED:
        names += f" and {len(bad) - LISTED} more"
    if on_bad_image == "stop" or len(bad) == total:
        raise ValueError(
            f"Expected images that can be used, received {len(bad)} of {total} that cannot: "
            f'{names}; data.on_bad_image="skip" leaves such images out.'
        )
    print(f"Skipped {len(bad)} of {total} images: {names}.", flush=True)
