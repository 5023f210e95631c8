"""Tests of encoded images: what can be used is decoded, what cannot is named."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.images.files import FORMATS, NO_IMAGE, decode, decode_usable, fault
from pipelines.images.headers import header_size

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (13, 17, 3), np.uint8)
UNUSUAL_BMP = "BMP that is compressed, or not of 8, 24 or 32 bits"
CLEAR = np.concatenate([PIXELS, np.full((13, 17, 1), 77, np.uint8)], axis=-1)


def encode(pixels=PIXELS, kind="PNG", mode=None, **options):
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def frames(kind):
    others = [Image.fromarray(255 - PIXELS), Image.fromarray(PIXELS[::-1].copy())]
    return encode(kind=kind, save_all=True, append_images=others)


def bmp(bits=8, compression=0):
    """Makes a BMP whose header says something else than is usual."""
    contents = bytearray(encode(kind="BMP", mode="P"))
    contents[28:34] = struct.pack("<HI", bits, compression)
    return bytes(contents)


def bit_fields(masks):
    """Makes a BMP of 32 bits that says in which of them red, green and blue are."""
    contents = encode(CLEAR, "BMP")
    header = bytearray(contents[:54])
    header[10:14] = struct.pack("<I", 54 + 12)
    header[30:34] = struct.pack("<I", 3)
    return bytes(header) + struct.pack("<3I", *masks) + contents[54:]


def png_header(width, height):
    """Makes the beginning of a PNG that promises an image of any size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(8)


class DecodeTest:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("mode", ["RGB", "L", "P"])
    def test_it_gives_the_pixels_that_pillow_gives(self, kind, mode):
        mode = mode if mode != "P" or kind in ("BMP", "GIF", "PNG") else "L"
        contents = encode(kind=kind, mode=mode)
        expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB")).astype(int)
        # The two decompress JPEG with another cosine transform.
        assert np.abs(decode(contents).numpy() - expected).max() <= (4 if kind == "JPEG" else 1)
        gray = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L")).astype(int)
        assert np.abs(decode(contents, channels=1).numpy()[..., 0] - gray).max() <= 2

    @pytest.mark.parametrize("kind", ["BMP", "PNG", "WEBP"])
    def test_transparency_is_left_out_or_a_fourth_channel(self, kind):
        contents = encode(CLEAR, kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert fault(contents) is None
        np.testing.assert_array_equal(decode(contents), PIXELS)
        alpha = 255 if kind == "BMP" else CLEAR[..., 3]  # Pillow reads none of a bitmap either.
        found = decode(contents, channels=4)
        np.testing.assert_array_equal(found[..., :3], PIXELS)
        np.testing.assert_array_equal(found[..., 3], np.broadcast_to(alpha, (13, 17)))

    def test_what_has_no_transparency_is_opaque(self):
        for kind, mode in (("JPEG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("GIF", "P")):
            contents = encode(kind=kind, mode=mode)
            found = decode(contents, channels=4).numpy()
            np.testing.assert_array_equal(found[..., :3], decode(contents))
            assert found.shape == (13, 17, 4) and found[..., 3].min() == 255

    def test_the_usual_bit_fields_are_read_as_pillow_reads_them(self):
        contents = bit_fields((0xFF0000, 0xFF00, 0xFF))
        assert fault(contents) is None and header_size(contents).numpy().tolist() == [13, 17]
        np.testing.assert_array_equal(decode(contents), Image.open(io.BytesIO(contents)))

    def test_of_16_bits_the_upper_8_are_kept(self):
        levels = RANDOM.integers(0, 2**16, (13, 17, 3), np.uint16)
        colours, gray = tf.io.encode_png(levels).numpy(), encode(levels[..., 0])
        assert fault(colours) is None and fault(gray) is None
        np.testing.assert_array_equal(decode(colours), levels >> 8)
        np.testing.assert_array_equal(decode(gray, channels=1)[..., 0], levels[..., 0] >> 8)

    def test_inks_become_colours_as_pillow_mixes_them(self):
        smooth = np.asarray(Image.fromarray(PIXELS[:3, :4]).resize((40, 30), Image.BICUBIC))
        for options in ({}, {"progressive": True}):
            contents = encode(smooth, "JPEG", "CMYK", quality=95, **options)
            assert fault(contents) is None
            expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB")).astype(int)
            assert np.abs(decode(contents).numpy() - expected).mean() < 3

    def test_it_runs_in_tf_data(self):
        dataset = tf.data.Dataset.from_tensors(encode()).map(decode)
        assert dataset.element_spec.shape.as_list() == [None, None, 3]
        np.testing.assert_array_equal(next(iter(dataset)), PIXELS)


class FaultTest:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
    def test_usual_images_have_none(self, kind, mode):
        mode = mode if mode in ("L", "RGB") or kind in ("PNG", "GIF") else "RGB"
        assert fault(encode(kind=kind, mode=mode)) is None

    @pytest.mark.parametrize(
        "contents, words",
        [
            (b"", "empty"),
            (b"\0" * 100, NO_IMAGE),
            (b"<html>not found</html>", NO_IMAGE),
            (encode(kind="TIFF"), NO_IMAGE),
            (encode()[:20], NO_IMAGE),
            (encode(kind="BMP", mode="1"), UNUSUAL_BMP),
            (bmp(bits=16), UNUSUAL_BMP),
            (bmp(bits=4), UNUSUAL_BMP),
            (bmp(compression=1), UNUSUAL_BMP),
            (bmp(compression=3), NO_IMAGE),
            (bit_fields((0xFF000000, 0xFF0000, 0xFF00)), UNUSUAL_BMP),
            (frames("GIF"), "animated: 3 frames"),
            (frames("PNG"), "animated: 3 frames"),
            (frames("WEBP"), "animated: 3 frames"),
            (png_header(9001, 9000), "too large: 9001 x 9000 pixels"),
            (png_header(90000, 90000), "too large"),
        ],
    )
    def test_unusable_images_are_told_apart(self, contents, words):
        assert fault(contents) == words
        if contents[:2] == b"BM":
            with pytest.raises(tf.errors.InvalidArgumentError, match="of 8, 24 or 32 bits"):
                header_size(contents)

    def test_the_limit_is_allowed_itself(self):
        assert fault(encode(), max_pixels=13 * 17) is None
        assert fault(encode(), max_pixels=13 * 17 - 1) == "too large: 17 x 13 pixels"

    def test_a_photograph_with_a_preview_is_not_animated(self):
        file = io.BytesIO()
        preview = Image.fromarray(PIXELS[::2, ::2].copy())
        Image.fromarray(PIXELS).save(file, "MPO", save_all=True, append_images=[preview])
        assert fault(file.getvalue()) is None
        assert decode(file.getvalue()).shape == (13, 17, 3)


class DecodeUsableTest:
    good = [encode(RANDOM.integers(0, 256, (13, 17, 3), np.uint8)) for _ in range(601)]

    def run(self, items, **keys):
        names = [f"image {number}" for number in range(len(items))]
        return decode_usable(items, names, lambda item: item, **keys)

    def test_images_of_one_size_become_one_array(self):
        pixels, kept = self.run(self.good)
        assert pixels.shape == (601, 13, 17, 3) and pixels.dtype == np.uint8
        assert kept == list(range(601))
        np.testing.assert_array_equal(pixels[599], decode(self.good[599]))

    def test_images_of_several_sizes_become_none(self):
        for place in (0, 299, 600):  # in the first, a middle and the last chunk
            items = [*self.good]
            items[place] = encode(PIXELS[:11])
            pixels, kept = self.run(items)
            assert pixels is None and kept == list(range(601))

    def test_images_too_many_for_memory_become_none(self, monkeypatch):
        monkeypatch.setattr("pipelines.images.files.MAX_BYTES", 601 * 13 * 17 * 3 - 1)
        assert self.run(self.good)[0] is None

    @pytest.mark.parametrize("kind", FORMATS)
    def test_what_breaks_off_is_found(self, kind):
        whole = encode(kind=kind)
        broken = [whole[: len(whole) // 2], whole[:-60]]
        pixels, kept = self.run([whole, *broken, whole], on_bad_image="skip")
        assert kept == [0, 3] and len(pixels) == 2

    def test_the_others_are_kept_in_order_and_the_bad_ones_named(self, capsys):
        items = [*self.good]
        bad = {0: b"", 255: encode()[:-30], 256: b"text", 256 + 7: encode()[:-20], 600: b""}
        for place, contents in bad.items():
            items[place] = contents
        pixels, kept = self.run(items, on_bad_image="skip")
        assert kept == [number for number in range(601) if number not in bad]
        np.testing.assert_array_equal(pixels[kept.index(257)], decode(self.good[257]))
        said = capsys.readouterr().out
        assert "Skipped 5 of 601 images" in said
        assert "image 0 (empty)" in said and "image 263 (cannot be decoded)" in said

    def test_stop_names_and_counts_them(self):
        items = [*self.good[:40], *[b""] * 23]
        with pytest.raises(ValueError, match="23 of 63 that cannot.*image 40 .empty.") as error:
            self.run(items)
        assert "and 3 more" in str(error.value) and "image 61" not in str(error.value)
        assert 'data.on_bad_image="skip"' in str(error.value)

    def test_nothing_left_stops_in_any_case(self):
        with pytest.raises(ValueError, match="2 of 2"):
            self.run([b"", b"x"], on_bad_image="skip")

    def test_what_cannot_be_read_is_a_fault(self, tmp_path):
        (tmp_path / "a.png").write_bytes(encode())
        paths = [tmp_path / "a.png", tmp_path / "b.png"]
        with pytest.raises(ValueError, match=r"b.png \(No such file or directory\)"):
            decode_usable(paths, list(map(str, paths)), lambda path: path.read_bytes())

    def test_nothing_gives_nothing(self):
        assert self.run([]) == (None, [])
