"""ONNX files answer as the model does, for sizes that were never tried, or are not written."""

import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from kerasformer.interop.onnx import export_onnx

OPEN = tf.TensorSpec((None, None, 3), tf.float32, name="x")


def written(tmp_path, function, samples):
    """Exports a function and returns what runs its file."""
    path = tmp_path / "model.onnx"
    export_onnx(function, path, samples)
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return session, lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))


def reason_not_to_write(tmp_path, function, samples=({"x": [[[2.0, 3.0, 5.0]]]},)):
    with pytest.raises(ValueError) as caught:
        export_onnx(function, tmp_path / "model.onnx", samples)
    assert not list(tmp_path.iterdir()) and "\n" not in str(caught.value)
    return str(caught.value)


class ExportTest:
    def test_heads_are_split_for_any_batch_and_length(self, tmp_path):
        # A Dense layer and a reshape, which tf2onnx's own optimizer joins into one wrong reshape.
        dense = keras.layers.Dense(35)
        dense.build((None, None, 3))

        @tf.function(input_signature=[OPEN])
        def split(x):
            y = dense(x)
            shape = tf.shape(y)
            return {"heads": tf.reshape(y, (shape[0], shape[1], 5, 7))}

        session, run = written(tmp_path, split, [{"x": np.ones((1, 1, 3))}])
        x = np.random.default_rng(1).normal(size=(11, 13, 3)).astype("float32")
        np.testing.assert_allclose(run(x=x)["heads"], split(x)["heads"], rtol=1e-5, atol=1e-6)
        (found,) = session.get_outputs()
        assert (found.name, found.shape) == ("heads", ["heads_0", "heads_1", 5, 7])

    @pytest.mark.parametrize("kind", ["gelu", "softmax"])
    def test_activations_keep_their_digits(self, tmp_path, kind):
        @tf.function(input_signature=[tf.TensorSpec((None, 1009), tf.float32, name="x")])
        def activate(x):
            return {"y": getattr(keras.activations, kind)(x)}

        x = np.linspace(-11, 11, 1009, dtype="float32")[None]
        _, run = written(tmp_path, activate, [{"x": x}])
        np.testing.assert_allclose(run(x=x)["y"], activate(x)["y"], atol=1e-6)

    def test_weights_are_those_of_the_moment(self, tmp_path):
        variable = tf.Variable(3.0)
        double = tf.function(lambda x: {"y": variable * x}, [OPEN])
        _, run = written(tmp_path, double, [{"x": np.ones((1, 1, 3))}])
        variable.assign(5.0)
        assert run(x=np.ones((1, 1, 3), "float32"))["y"].tolist() == [[[3.0, 3.0, 3.0]]]

    def test_infinities_and_sizes_of_zero_are_kept(self, tmp_path):
        @tf.function(input_signature=[OPEN])
        def choose(x):
            y = tf.where(x > 3, x, -float("inf"))
            best = tf.where(tf.reduce_any(x > 5, axis=-1, keepdims=True), y, tf.reverse(y, [-1]))
            shape = tf.shape(x)
            return {"y": best, "rows": tf.reshape(tf.repeat(x, 2, 0), (2 * shape[0], shape[1], 3))}

        x = np.array([[[2.0, 3.0, 5.0], [7.0, 1.0, 4.0]]], np.float32)
        _, run = written(tmp_path, choose, [{"x": np.full((1, 1, 3), 11.0)}])
        for inputs in (x, x[:, :0]):
            for name, expected in choose(inputs).items():
                np.testing.assert_array_equal(run(x=inputs)[name], expected)

    def test_int8_is_smaller_and_near_with_a_convolution_that_saw_inputs(self, tmp_path):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(31, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(7),
            ]
        )
        image = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="image")
        function = tf.function(lambda image: {"y": model(image)}, [image])
        images = np.random.default_rng(1).normal(size=(5, 8, 8, 3)).astype("float32")
        whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
        samples = [{"image": images}]
        export_onnx(function, whole, samples)
        options = {"quantization": "int8", "calibration": samples}
        difference = export_onnx(function, small, samples, **options)
        assert 1e-4 < difference < 0.05
        assert small.stat().st_size < 0.5 * whole.stat().st_size
        kinds = {node.op_type for node in onnx.load(small).graph.node}
        assert {"MatMulInteger", "DequantizeLinear"} <= kinds  # The latter for the convolution.


class RefusalTest:
    def test_another_quantization_is_one_sentence(self, tmp_path):
        function = tf.function(lambda x: {"y": x}, [OPEN])
        with pytest.raises(ValueError, match="'int8'.*, received quantization='float16'"):
            export_onnx(function, tmp_path / "x.onnx", [], quantization="float16")

    def test_an_operation_that_onnx_lacks_is_named(self, tmp_path):
        function = tf.function(lambda x: {"y": tf.math.igamma(x, x)}, [OPEN])
        assert reason_not_to_write(tmp_path, function).endswith("operations: ['Igamma'].")

    def test_an_answer_that_differs_is_refused(self, tmp_path):
        function = tf.function(lambda x: {"y": x + tf.random.uniform(tf.shape(x))}, [OPEN])
        sentence = reason_not_to_write(tmp_path, function)
        assert sentence.startswith("ONNX Runtime gives another y of shape (1, 1, 3) than the model")

    def test_a_name_may_not_mean_an_input_and_an_output(self, tmp_path):
        function = tf.function(lambda x: {"x": 2 * x}, [OPEN])
        assert "['x'] twice" in reason_not_to_write(tmp_path, function)

    def test_a_missing_package_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tf2onnx", None)
        function = tf.function(lambda x: {"y": x}, [OPEN])
        with pytest.raises(ImportError, match=r'pip install "kerasformer\[onnx\]"'):
            export_onnx(function, tmp_path / "model.onnx", [])
