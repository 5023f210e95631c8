"""Tests of the exported module of a model of images: what it refuses, embeds and shows."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasformer.models import MLPMixer, VisionTransformer
from pipelines.images.files import decode
from pipelines.images.headers import header_size
from pipelines.images.module import ImageModule
from tests.images.samples import CROP, DEVIATION, FILES, MEAN, SIZE, encode, read_files

RANDOM = np.random.default_rng(0)
KINDS = ("BMP", "GIF", "JPEG", "PNG")
GRID = (3, 5)
TINY = {"patch_size": 2, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 13}
DESCRIBED = {"channels": 3, "mean": MEAN, "deviation": DEVIATION}
REFUSED = tf.errors.InvalidArgumentError


def with_size(contents, kind, height, width):
    """Forges the size in the header; that of a GIF is the size of its first frame."""
    place, layout, numbers = {
        "BMP": (18, "<ii", (width, height)),
        "GIF": (contents.find(b",\0\0\0\0") + 5, "<HH", (width, height)),
        "JPEG": (contents.find(b"\xff\xc0") + 5, ">HH", (height, width)),
        "PNG": (16, ">II", (width, height)),
    }[kind]
    forged = struct.pack(layout, *numbers)
    return contents[:place] + forged + contents[place + len(forged) :]


def make_module(**arguments):
    model = VisionTransformer.from_variant("ViT-Lite-6/4", SIZE, **{**TINY, **arguments})
    model.build((None, *SIZE, 3))
    return ImageModule(model, DESCRIBED, SIZE, CROP)


@pytest.fixture(scope="module")
def module():
    return make_module(num_layers=1)


def seen():
    """What a model sees of the files."""
    return (read_files(FILES) - np.float32(MEAN)) / np.float32(DEVIATION)


class HeaderSizeTest:
    @pytest.mark.parametrize("kind", [*KINDS, "WEBP"])
    @pytest.mark.parametrize("size", [(3, 307), (521, 2), (11, 13)])
    def test_it_is_the_size_that_decoding_gives(self, kind, size):
        contents = encode(size, kind)
        assert header_size(contents).numpy().tolist() == list(decode(contents).shape[:2])

    @pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif"}])
    def test_each_kind_of_webp_has_its_size(self, options):
        contents = encode((37, 1021), "WEBP", **options)
        assert header_size(contents).numpy().tolist() == list(decode(contents).shape[:2])

    def test_the_height_of_a_bitmap_may_be_below_zero(self):
        contents = with_size(encode((11, 13), "BMP"), "BMP", -11, 13)
        assert decode(contents).shape == (11, 13, 3)
        assert header_size(contents).numpy().tolist() == [11, 13]

    def test_the_size_of_a_gif_is_that_of_its_frames_whatever_its_header_says(self):
        contents = encode((37, 41), "GIF", comment=b"," * 300)
        contents = contents[:6] + struct.pack("<HH", 1, 1) + contents[10:]
        assert decode(contents).shape == (37, 41, 3)
        assert header_size(contents).numpy().tolist() == [37, 41]

    def test_all_frames_of_a_gif_count(self):
        others = [Image.fromarray(RANDOM.integers(0, 256, (11, 13, 3), np.uint8)) for _ in range(2)]
        contents = encode((11, 13), "GIF", save_all=True, append_images=others)
        assert header_size(contents).numpy().tolist() == [33, 13]


class RefusalTest:
    @pytest.mark.parametrize("kind", KINDS)
    def test_an_image_of_too_many_pixels_is_not_decoded(self, module, kind):
        for height, width in ((8001, 8000), (65500, 65500)):
            contents = with_size(encode((11, 13), kind), kind, height, width)
            assert header_size(contents).numpy().tolist() == [height, width]
            with pytest.raises(REFUSED, match="at most 64000000 pixels"):
                module.decode(tf.constant([FILES[0], contents]))

    def test_a_size_whose_product_overflows_is_refused(self, module):
        contents = with_size(FILES[0], "PNG", 2**32 - 1, 2**32 - 1)
        with pytest.raises(REFUSED, match="at most 64000000 pixels"):
            module.decode(tf.constant([contents]))

    @pytest.mark.parametrize("contents", [b"", b"no image", b"RIFF1234WAVEfmt ", b"GIF", b"\xff"])
    def test_a_file_that_is_no_image_is_refused(self, module, contents):
        with pytest.raises(REFUSED, match="Expected a JPEG, PNG, GIF, BMP or still WebP image"):
            module.decode(tf.constant([contents]))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("length", [9, 40])
    def test_a_file_that_is_cut_off_is_refused(self, module, kind, length):
        with pytest.raises(REFUSED):
            module.decode(tf.constant([encode((11, 13), kind)[:length]]))


class AnswersTest:
    def test_embed_gives_the_features_of_the_model(self, module):
        found = module.embed(tf.constant(FILES))["features"]
        np.testing.assert_allclose(found, module.model.features(seen()), rtol=1e-4, atol=1e-5)

    def test_a_model_without_attention_has_no_signatures_of_it(self):
        model = MLPMixer.from_variant("Lite-4/4", image_size=8)
        model.build((None, 8, 8, 3))
        assert ImageModule(model, DESCRIBED, (8, 8)).signatures().keys() == {
            "embed",
            "decode",
            "embed_pixels",
        }

    @pytest.mark.parametrize("pool", ["class", "sequence", "attention", "mean"])
    def test_heads_are_what_the_reader_reads_through_each_head_of_each_block(self, pool):
        module = make_module(pool=pool, num_layers=2)
        answer = module.attention(tf.constant(FILES))
        heads = answer["heads"].numpy()
        assert heads.shape == (len(FILES), 2, 3, *GRID)
        pixels = seen()
        sequence, scores = module.model.encode(pixels, return_attention_scores=True)
        length = sequence.shape[1]
        for layer, found in enumerate(scores):
            if hasattr(module.model.pooling, "weights_of"):
                readers = module.model.pooling.weights_of(sequence).numpy()
            else:  # The class token is the first of the sequence.
                row = np.eye(length)[0] if pool == "class" else np.full(length, 1 / length)
                readers = np.broadcast_to(row, (len(FILES), length))
            expected = np.einsum("bt,bnts->bns", readers, found)[..., length - 15 :]
            flat = heads[:, layer].reshape(expected.shape)
            np.testing.assert_allclose(flat, expected, rtol=1e-4, atol=1e-6)
        if pool != "class":
            np.testing.assert_allclose(heads.sum(axis=(-2, -1)), 1, rtol=1e-4)
        if pool in ("sequence", "attention"):  # Where the rollout goes on through the pool.
            first, second = ((x.numpy().mean(axis=1) + np.eye(length)) / 2 for x in scores)
            maps = answer["attention"].numpy()
            expected = np.einsum("bt,btu,bus->bs", readers, second, first)
            np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=1e-4)
            np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, rtol=1e-4)
