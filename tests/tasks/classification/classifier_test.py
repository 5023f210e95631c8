"""Tests of the exported classifier: what it refuses, what it answers, and who can load it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerasformer.models import VisionTransformer
from pipelines.tasks.classification.classifier import Classifier
from tests.images.samples import CROP, DEVIATION, FILES, MEAN, SIZE, read_files

RANDOM = np.random.default_rng(0)
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "größe")
GRID = (3, 5)
TINY = {"patch_size": 2, "num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 13}


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


def logits_of(model, pixels):
    normalised = (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(DEVIATION)
    return model(normalised, training=False).numpy()


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def spelled(strings):
    return np.char.decode(strings.numpy().astype(bytes), "utf-8").tolist()


class AnswersTest:
    def test_classify_names_the_most_probable_classes_in_order(self, classifier):
        found = classifier.classify(tf.constant(FILES))
        probabilities = softmax(logits_of(classifier.model, read_files(FILES)))
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

    def test_attention_shares_at_most_one_among_the_patches(self, classifier):
        found = classifier.attention(tf.constant(FILES))
        maps = found["attention"].numpy()
        assert maps.shape == (len(FILES), *GRID)
        assert maps.min() > 0
        assert maps.sum(axis=(1, 2)).max() <= 1 + 1e-6
        pixels = (read_files(FILES) - np.float32(MEAN)) / np.float32(DEVIATION)
        _, (scores,) = classifier.model(pixels, return_attention_scores=True)
        # One block: half of what the class token read, the other half is its own.
        expected = scores.numpy().mean(axis=1)[:, 0, 1:] / 2
        np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=1e-4)
        best = classifier.classify(tf.constant(FILES))["class_names"][:, 0]
        assert spelled(found["class_name"]) == spelled(best)

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
        np.save(tmp_path / "pixels.npy", read_files(FILES))
        command = [sys.executable, "-c", ANSWER]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        answers = json.loads(done.stdout.splitlines()[-1])
        assert answers.keys() == signatures.keys()
        for name, function in signatures.items():
            is_decoded = name == "predict" or name.endswith("_pixels")
            expected = function(read_files(FILES) if is_decoded else tf.constant(FILES))
            assert answers[name].keys() == expected.keys()
            for key, value in expected.items():
                if value.dtype == tf.string:
                    assert answers[name][key] == spelled(value)
                else:
                    np.testing.assert_allclose(answers[name][key], value, rtol=1e-4, atol=1e-6)
