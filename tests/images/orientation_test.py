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


def jpeg(turn, before=(), **tags):
    exif = Image.Exif()
    for tag, value in (*before, (0x0112, turn)):
        exif[tag] = value
    file = io.BytesIO()
    PHOTOGRAPH.save(file, "JPEG", exif=exif)
    return file.getvalue()


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
        big = jpeg(turn, [maker, settings])
        for contents in (big, in_other_byte_order(big)):
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
            for found in (decode(contents).numpy(), in_graph(contents).numpy()):
                assert found.shape[1::-1] == upright.size
                assert np.abs(found - np.asarray(upright, int)).mean() < 3
        assert int(orientation(big)) == turn

    def test_the_data_may_come_first_as_cameras_write_them(self):
        contents = jpeg(6)
        assert contents[20:22] == b"\xff\xe1"  # Behind the 18 bytes of JFIF.
        camera = contents[:2] + contents[20:]
        assert int(orientation(camera)) == int(orientation(contents)) == 6

    def test_the_data_may_lie_behind_comments_and_data_of_other_programs(self):
        contents = jpeg(6)
        comment = b"\xff\xfe\0\x09holiday"
        program = b"\xff\xe1" + (300).to_bytes(2, "big") + b"http://ns.adobe.com/xap/1.0/\0"
        program = program.ljust(302, b"x")
        profile = b"\xff\xe2\xff\xff" + bytes(2**16 - 3)
        starts = (comment, program, program + comment, profile + comment, comment * 7)
        for start in (2, 20):
            for before in starts:
                longer = contents[:start] + before + contents[start:]
                upright = ImageOps.exif_transpose(Image.open(io.BytesIO(longer)))
                assert decode(longer).numpy().shape[1::-1] == upright.size == (22, 34)
        cut = contents[:2] + program[:-5]  # It ends within a segment.
        assert int(orientation(cut)) == 1

    def test_damaged_or_forged_data_mean_upright_and_never_an_error(self):
        contents = bytearray(jpeg(6))
        place = contents.index(b"Exif")
        for length in (0, 2, 25, place + 9, place + 20, len(contents)):
            assert int(orientation(bytes(contents[:length]))) in (1, 6)
        for value in (0, 9, 65535):
            assert int(orientation(jpeg(value))) == 1
        for _ in range(40):
            forged = bytearray(contents)
            for position in RANDOM.integers(place + 6, place + 40, 5):
                forged[position] = RANDOM.integers(256)
            assert 1 <= int(orientation(bytes(forged))) <= 8
        far = contents[: place + 10] + HEAD.to_bytes(4, "big") + contents[place + 14 :]
        assert int(orientation(bytes(far))) == 1

    def test_a_photograph_that_lies_has_its_upright_size_among_the_others(self):
        standing = io.BytesIO()
        PHOTOGRAPH.transpose(Image.Transpose.ROTATE_90).save(standing, "PNG")
        items = [jpeg(6), standing.getvalue(), jpeg(8), jpeg(1)]
        for chosen, shape in ((items[:3], (3, 34, 22, 3)), (items[:0:-1], None)):
            pixels, kept = decode_usable(chosen, ["x"] * 4, lambda item: item)
            assert len(kept) == 3 and (pixels is None) == (shape is None)
            assert pixels is None or pixels.shape == shape
