"""LiteRT files answer as the model does, for sizes that were never tried, or are not written."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kerasformer.interop.litert import export_litert
from kerasformer.models import VisionTransformer

OPEN = tf.TensorSpec((None, 3), tf.float32, name="x")


def reason_not_to_write(tmp_path, function):
    with pytest.raises(ValueError) as caught:
        export_litert(function, tmp_path / "model.tflite", [{"x": [[2.0, 3.0, 5.0]]}])
    assert not list(tmp_path.iterdir()) and "\n" not in str(caught.value)
    return str(caught.value)


class ExportTest:
    def test_a_vision_transformer_answers_for_any_batch_and_names_what_it_saw(self, tmp_path):
        model = VisionTransformer.from_variant(
            "S/16", 32, 7, num_layers=1, hidden_dim=12, num_heads=3, intermediate_dim=13
        )
        model.build((None, 32, 32, 3))
        random = np.random.default_rng(1)
        model.head.kernel.assign(random.normal(size=(12, 7)))  # It begins as zeros.

        @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.uint8, name="image")])
        def classify(image):
            logits = model(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False)
            return {"logits": logits, "name": tf.gather(list("abcdefg"), tf.argmax(logits, -1))}

        images = random.integers(0, 256, (5, 32, 32, 3)).astype("uint8")
        path = tmp_path / "model.tflite"
        assert 0 < export_litert(classify, path, [{"image": images[:2]}]) < 1e-5
        found, expected = Interpreter(path).get_signature_runner()(image=images), classify(images)
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
        assert found["name"].tolist() == expected["name"].numpy().tolist()

        sizes = [path.stat().st_size]
        for quantization, bound in (("float16", 0.01), ("int8", 0.2)):
            options = {"quantization": quantization, "calibration": [{"image": images}]}
            difference = export_litert(classify, path, [{"image": images}], **options)
            assert 1e-6 < difference < bound
            found = Interpreter(path).get_signature_runner()(image=images)
            assert found["name"].dtype == object and found["logits"].dtype == np.float32
            sizes.append(path.stat().st_size)
        assert sizes == sorted(sizes, reverse=True)


class RefusalTest:
    def test_a_quantization_that_cannot_be_is_one_sentence(self, tmp_path):
        function = tf.function(lambda x: {"y": x}, [OPEN])
        for quantization, sentence in (
            ("int16", "received quantization='int16'"),
            ("int8", "none"),
        ):
            with pytest.raises(ValueError, match=sentence):
                export_litert(function, tmp_path / "x", [], quantization=quantization)

    def test_an_operation_that_litert_lacks_is_named(self, tmp_path):
        function = tf.function(lambda x: {"y": tf.math.igamma(x, x)}, [OPEN])
        assert reason_not_to_write(tmp_path, function).endswith("operations: Igamma.")

    def test_an_answer_that_is_no_number_is_refused(self, tmp_path):
        function = tf.function(lambda x: {"y": tf.sqrt(-x)}, [OPEN])
        sentence = reason_not_to_write(tmp_path, function)
        assert sentence.startswith("LiteRT gives another y of shape (1, 3) than the model")

    def test_a_missing_package_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        function = tf.function(lambda x: {"y": x}, [OPEN])
        with pytest.raises(ImportError, match=r'pip install "kerasformer\[litert\]"'):
            export_litert(function, tmp_path / "model.tflite", [])
