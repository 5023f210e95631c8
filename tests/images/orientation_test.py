"""Tests of turning photographs upright, against Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from pipelines.images.files import decode, decode_usable
from pipelines.images.orientation import HEAD, orientation

RANDOM = np.random.default_rng(5)
PHOTOGRAPH = Image.fromarray(RANDOM.integers(0, 256, (3, 5, 3), np.uint8)).resize((34, 22))
in_graph = tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)])
orientation_in_graph = tf.function(orientation)


def photograph(turn, kind="JPEG", before=(), **options):
    exif = Image.Exif()
    for tag, value in (*before, (0x0112, turn)):
        exif[tag] = value
    file = io.BytesIO()
    PHOTOGRAPH.save(file, kind, exif=exif, **options)
    return file.getvalue()


def turn_of(contents, kind):
    return int(orientation_in_graph(tf.constant(contents), kind))


def upright(contents):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))


def with_metadata_last(png):
    """Moves the EXIF data of a PNG behind its pixels, as some programs write them."""
    start = png.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(png[start : start + 4], "big")
    return png[:start] + png[end:-12] + png[start:end] + png[-12:]


def in_other_byte_order(contents):
    """Writes the EXIF data of one entry, the orientation, in the byte order of Intel."""
    start = contents.index(b"Exif") + 6
    header = b"II*\0" + (8).to_bytes(4, "little") + (1).to_bytes(2, "little")
    entry = [(number).to_bytes(size, "little") for number, size in ((0x0112, 2), (3, 2), (1, 4))]
    turn = Image.open(io.BytesIO(contents)).getexif()[0x0112]
    data = header + b"".join(entry) + turn.to_bytes(4, "little") + bytes(4)
    length = int.from_bytes(contents[start - 8 : start - 6], "big")
    rest = contents[start - 8 + length :]
    return contents[: start - 8] + (len(data) + 8).to_bytes(2, "big") + b"Exif\0\0" + data + rest


class OrientationTest:
    @pytest.mark.parametrize("turn", range(1, 9))
    def test_photographs_are_turned_as_pillow_turns_them(self, turn):
        maker, settings = (0x010F, "Wug & Sons"), (0x8769, {0x9003: "2026:11:28 09:00:00"})
        big = photograph(turn, before=[maker, settings])
        for contents in (big, in_other_byte_order(big)):
            expected = upright(contents)
            for found in (decode(contents).numpy(), in_graph(contents).numpy()):
                assert found.shape[1::-1] == expected.size
                assert np.abs(found - np.asarray(expected, int)).mean() < 3
        assert int(orientation(big, "JPEG")) == turn

    @pytest.mark.parametrize("turn", range(1, 9))
    def test_png_and_webp_are_turned_too(self, turn):
        before = [(0x010F, "Wug & Sons")]
        png = photograph(turn, "PNG", before)
        webps = [
            photograph(turn, "WEBP", before, lossless=is_lossless) for is_lossless in (True, False)
        ]
        for contents in (png, with_metadata_last(png), *webps):
            expected = np.asarray(upright(contents).convert("RGB"))
            np.testing.assert_array_equal(in_graph(contents), expected)
            np.testing.assert_array_equal(decode(contents, 4)[..., :3], expected)

    def test_the_data_may_come_first_as_cameras_write_them(self):
        contents = photograph(6)
        assert contents[20:22] == b"\xff\xe1"  # Behind the 18 bytes of JFIF.
        camera = contents[:2] + contents[20:]
        assert int(orientation(camera, "JPEG")) == int(orientation(contents, "JPEG")) == 6

    def test_the_data_may_lie_behind_comments_and_data_of_other_programs(self):
        contents = photograph(6)
        comment = b"\xff\xfe\0\x09holiday"
        program = b"\xff\xe1" + (300).to_bytes(2, "big") + b"http://ns.adobe.com/xap/1.0/\0"
        program = program.ljust(302, b"x")
        profile = b"\xff\xe2\xff\xff" + bytes(2**16 - 3)
        starts = (comment, program, program + comment, profile + comment, comment * 7)
        for start in (2, 20):
            for before in starts:
                longer = contents[:start] + before + contents[start:]
                assert decode(longer).numpy().shape[1::-1] == upright(longer).size == (22, 34)
        cut = contents[:2] + program[:-5]  # It ends within a segment.
        assert int(orientation(cut, "JPEG")) == 1

    def test_damaged_or_forged_data_mean_upright_and_never_an_error(self):
        contents = bytearray(photograph(6))
        place = contents.index(b"Exif")
        for length in (0, 2, 25, place + 9, place + 20, len(contents)):
            assert turn_of(bytes(contents[:length]), "JPEG") in (1, 6)
        for value in (0, 9, 65535):
            assert turn_of(photograph(value), "JPEG") == 1
        for _ in range(40):
            forged = bytearray(contents)
            for position in RANDOM.integers(place + 6, place + 40, 5):
                forged[position] = RANDOM.integers(256)
            assert 1 <= turn_of(bytes(forged), "JPEG") <= 8
        far = contents[: place + 10] + HEAD.to_bytes(4, "big") + contents[place + 14 :]
        assert turn_of(bytes(far), "JPEG") == 1
        for kind, name, lengths in (
            ("PNG", b"eXIf", slice(8, 12)),
            ("WEBP", b"EXIF", slice(16, 20)),
        ):
            whole = photograph(6, kind)
            for forged in (whole[: whole.index(name) + 6], bytearray(whole), bytearray(whole)):
                if isinstance(forged, bytearray):  # The length of the first part.
                    forged[lengths] = RANDOM.bytes(4)
                assert turn_of(bytes(forged), kind) == 1
            assert turn_of(whole, kind) == 6

    def test_a_photograph_that_lies_has_its_upright_size_among_the_others(self):
        standing = io.BytesIO()
        PHOTOGRAPH.transpose(Image.Transpose.ROTATE_90).save(standing, "PNG")
        items = [photograph(6), standing.getvalue(), photograph(8), photograph(1)]
        with_preview = photograph(6, "MPO", save_all=True, append_images=[PHOTOGRAPH])
        assert Image.open(io.BytesIO(with_preview)).format == "MPO"
        cases = ((items[:3], (3, 34, 22, 3)), (items[:0:-1], None))
        for chosen, shape in (*cases, ([with_preview, *items[:2]], (3, 34, 22, 3))):
            pixels, kept = decode_usable(chosen, ["x"] * 4, lambda item: item)
            assert len(kept) == 3 and (pixels is None) == (shape is None)
            assert pixels is None or pixels.shape == shape
