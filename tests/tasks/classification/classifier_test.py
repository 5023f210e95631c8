"""Tests of the exported classifier: what it refuses, what it answers, and who can load it."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasformer.models import VisionTransformer
from pipelines.images.augmentation import resize_and_crop
from pipelines.images.files import decode
from pipelines.images.headers import header_size
from pipelines.tasks.classification.classifier import Classifier

RANDOM = np.random.default_rng(0)
KINDS = ("BMP", "GIF", "JPEG", "PNG")
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "größe")
MEAN, DEVIATION = (101.0, 103.0, 107.0), (53.0, 59.0, 61.0)
SIZE, GRID, CROP = (6, 10), (3, 5), 0.75
TINY = {"patch_size": 2, "num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 13}
REFUSED = tf.errors.InvalidArgumentError


def encode(size, kind="PNG", **options):
    pixels = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


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


def make_classifier(names=NAMES, **arguments):
    model = VisionTransformer.from_variant(
        "ViT-Lite-6/4",
        SIZE,
        len(names),
        **{**TINY, **arguments},
    )
    model.build((None, *SIZE, 3))
    for variable in model.head.variables:  # It starts at zero.
        variable.assign(RANDOM.normal(size=variable.shape))
    described = {"class_names": list(names), "channels": 3, "mean": MEAN, "deviation": DEVIATION}
    return Classifier(model, described, SIZE, CROP)


@pytest.fixture(scope="module")
def classifier():
    return make_classifier()


FILES = [encode((17, 29)), encode((31, 11), "JPEG"), encode((13, 19), "BMP"), encode((7, 5), "GIF")]


def logits_of(model, pixels):
    normalised = (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(DEVIATION)
    return model(normalised, training=False).numpy()


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def read(files):
    return np.stack([resize_and_crop(decode(file), SIZE, CROP).numpy() for file in files])


def spelled(strings):
    return np.char.decode(strings.numpy().astype(bytes), "utf-8").tolist()


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
    def test_an_image_of_too_many_pixels_is_not_decoded(self, classifier, kind):
        for height, width in ((8001, 8000), (65500, 65500)):
            contents = with_size(encode((11, 13), kind), kind, height, width)
            assert header_size(contents).numpy().tolist() == [height, width]
            with pytest.raises(REFUSED, match="at most 64000000 pixels"):
                classifier.classify(tf.constant([FILES[0], contents]))

    def test_a_size_whose_product_overflows_is_refused(self, classifier):
        contents = with_size(FILES[0], "PNG", 2**32 - 1, 2**32 - 1)
        with pytest.raises(REFUSED, match="at most 64000000 pixels"):
            classifier.classify(tf.constant([contents]))

    @pytest.mark.parametrize("contents", [b"", b"no image", b"RIFF1234WAVEfmt ", b"GIF", b"\xff"])
    def test_a_file_that_is_no_image_is_refused(self, classifier, contents):
        with pytest.raises(REFUSED, match="Expected a JPEG, PNG, GIF, BMP or still WebP image"):
            classifier.classify(tf.constant([contents]))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("length", [9, 40])
    def test_a_file_that_is_cut_off_is_refused(self, classifier, kind, length):
        with pytest.raises(REFUSED):
            classifier.classify(tf.constant([encode((11, 13), kind)[:length]]))


class AnswersTest:
    def test_classify_names_the_most_probable_classes_in_order(self, classifier):
        found = classifier.classify(tf.constant(FILES))
        probabilities = softmax(logits_of(classifier.model, read(FILES)))
        best = np.argsort(-probabilities, axis=-1)[:, :5]
        expected = np.take_along_axis(probabilities, best, axis=-1)
        np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4)
        assert spelled(found["class_names"]) == np.array(NAMES)[best].tolist()

    def test_of_few_classes_all_are_named(self):
        classifier = make_classifier(NAMES[:3])  # A `tf.function` does not keep its object alive.
        found = classifier.classify(tf.constant(FILES[:1]))
        assert found["probabilities"].shape == (1, 3)
        assert sorted(spelled(found["class_names"])[0]) == list(NAMES[:3])

    def test_predict_gives_every_class_in_its_order(self, classifier):
        pixels = RANDOM.integers(0, 256, (2, *SIZE, 3), np.uint8)
        found = classifier.predict(pixels)
        expected = softmax(logits_of(classifier.model, pixels))
        np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4)
        assert spelled(found["class_name"]) == [NAMES[i] for i in expected.argmax(axis=-1)]

    def test_embed_gives_what_the_head_reads(self, classifier):
        features = classifier.embed(tf.constant(FILES))["features"]
        assert features.shape == (len(FILES), 12)
        expected = logits_of(classifier.model, read(FILES))
        np.testing.assert_allclose(classifier.model.head(features), expected, rtol=1e-4, atol=1e-5)

    def test_attention_shares_at_most_one_among_the_patches(self, classifier):
        found = classifier.attention(tf.constant(FILES))
        maps = found["attention"].numpy()
        assert maps.shape == (len(FILES), *GRID)
        assert maps.min() > 0
        assert maps.sum(axis=(1, 2)).max() <= 1 + 1e-6
        pixels = (read(FILES) - np.float32(MEAN)) / np.float32(DEVIATION)
        _, (scores,) = classifier.model(pixels, return_attention_scores=True)
        # One block: half of what the class token read, the other half is its own.
        expected = scores.numpy().mean(axis=1)[:, 0, 1:] / 2
        np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=1e-4)
        best = classifier.classify(tf.constant(FILES))["class_names"][:, 0]
        assert spelled(found["class_name"]) == spelled(best)

    @pytest.mark.parametrize("pool", ["class", "sequence", "attention", "mean"])
    def test_heads_are_what_the_reader_reads_through_each_head_of_each_block(self, pool):
        module = make_classifier(pool=pool, num_layers=2)
        answer = module.attention(tf.constant(FILES))
        heads = answer["heads"].numpy()
        assert heads.shape == (len(FILES), 2, 3, *GRID)
        pixels = (read(FILES) - np.float32(MEAN)) / np.float32(DEVIATION)
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

    def test_no_image_gives_no_answer(self, classifier):
        found = classifier.classify(tf.constant([], tf.string))
        assert found["probabilities"].shape == (0, 5)


ANSWER = """
import json, sys
for name in ("keras", "kerasformer", "pipelines"):
    sys.modules[name] = None  # no import of it can succeed
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load("model")
answers = {}
for name, signature in loaded.signatures.items():
    pixels = np.load("pixels.npy")
    files = [tf.io.read_file(f"image-{i}") for i in range(len(pixels))]
    (key,) = signature.structured_input_signature[1]
    is_decoded = name == "predict" or key == "pixels"
    found = signature(**{key: tf.constant(pixels) if is_decoded else tf.stack(files)})
    answers[name] = {
        key: value.numpy().astype(bytes if value.dtype == tf.string else float).tolist()
        for key, value in found.items()
    }
print(json.dumps(answers, default=bytes.decode))
"""


@pytest.mark.integration
class SavedModelTest:
    def test_a_process_with_tensorflow_alone_gives_the_same_answers(self, classifier, tmp_path):
        signatures = classifier.signatures()
        tf.saved_model.save(classifier, str(tmp_path / "model"), signatures=signatures)
        for index, contents in enumerate(FILES):
            (tmp_path / f"image-{index}").write_bytes(contents)
        np.save(tmp_path / "pixels.npy", read(FILES))
        command = [sys.executable, "-c", ANSWER]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        answers = json.loads(done.stdout.splitlines()[-1])
        assert answers.keys() == signatures.keys()
        for name, function in signatures.items():
            is_decoded = name == "predict" or name.endswith("_pixels")
            expected = function(read(FILES) if is_decoded else tf.constant(FILES))
            assert answers[name].keys() == expected.keys()
            for key, value in expected.items():
                if value.dtype == tf.string:
                    assert answers[name][key] == spelled(value)
                else:
                    np.testing.assert_allclose(answers[name][key], value, rtol=1e-4, atol=1e-6)
