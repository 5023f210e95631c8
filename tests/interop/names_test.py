"""Tables of names lead both ways, and everything that does not fit is named."""

import keras
import numpy as np
import pytest

from kerasformer.interop.names import Names, check_shapes, read_weights, written_weights
from kerasformer.layers import PatchEmbedding

TABLE = Names(
    pairs=(("^first", "body/one+two"), ("^second", "last")),
    prefix="body.",
    unused=("counter$",),
    shapes={"one.weight": (2, 3)},
)


def dense_model():
    layers = [keras.layers.Dense(4, name="first"), keras.layers.Dense(5, name="second")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="model")
    return model


def tensors(**others):
    sizes = {"body.one": 2, "body.two": 2}
    made = {f"{name}.weight": np.random.rand(size, 3) for name, size in sizes.items()}
    made |= {f"{name}.bias": np.random.rand(size) for name, size in sizes.items()}
    made |= {"last.weight": np.random.rand(5, 4), "last.bias": np.random.rand(5)}
    return {name: value.astype("float32") for name, value in (made | others).items()}


class ReadTest:
    def test_rows_of_outputs_become_columns_and_joined_ones_follow_each_other(self):
        model, given = dense_model(), tensors()
        read_weights(model, given, TABLE)
        kernel, bias = (weight.numpy() for weight in model.get_layer("first").weights)
        np.testing.assert_array_equal(kernel[:, :2], given["body.one.weight"].T)
        np.testing.assert_array_equal(kernel[:, 2:], given["body.two.weight"].T)
        np.testing.assert_array_equal(bias[2:], given["body.two.bias"])

    def test_kernels_that_lie_as_ours_are_joined_by_their_columns(self):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="first")])
        table = TABLE._replace(has_rows_of_outputs=False, shapes={})
        given = {key: value.T for key, value in tensors().items() if key.startswith("body")}
        read_weights(model, given, table)
        np.testing.assert_array_equal(model.weights[0][:, 2:], given["body.two.weight"])
        again = written_weights(model, table)
        assert {name: value.shape for name, value in again.items()} == {
            name: value.shape for name, value in given.items()
        }

    def test_a_model_without_a_head_may_lack_the_prefix(self):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="first")])
        given = {
            name.removeprefix("body."): value
            for name, value in tensors().items()
            if name.startswith("body.")
        }
        read_weights(model, given, TABLE)
        np.testing.assert_array_equal(model.weights[0][:, :2], given["one.weight"].T)

    def test_tensors_that_lack_and_that_are_left_over_are_named(self):
        given = tensors(**{"body.counter": np.zeros(()), "body.three.weight": np.zeros(2)})
        del given["last.bias"]
        with pytest.raises(ValueError, match=r"'last.bias'.*'body.three.weight'\] are left over"):
            read_weights(dense_model(), given, TABLE)

    @pytest.mark.parametrize("shape", [(4, 5), (5, 3), (20,)])
    def test_another_shape_is_refused(self, shape):
        with pytest.raises(
            ValueError, match="Expected last.weight to fit .*second/kernel of the shape"
        ):
            read_weights(dense_model(), tensors(**{"last.weight": np.zeros(shape)}), TABLE)


class WrittenTest:
    def test_what_was_read_is_written_bit_by_bit(self):
        model, given = dense_model(), tensors()
        read_weights(model, given, TABLE)
        again = written_weights(model, TABLE)
        assert again.keys() == given.keys()
        for name, value in given.items():
            np.testing.assert_array_equal(again[name], value)

    def test_patches_lie_as_a_convolution_of_torch_has_them(self):
        layer = PatchEmbedding(5, patch_size=(2, 3), name="patches")
        model = keras.Sequential([keras.Input((4, 6, 7)), layer])
        table = Names((("patches/dense", "conv"),), shapes={"conv.weight": (5, 7, 2, 3)})
        kernel = written_weights(model, table)["conv.weight"]
        assert kernel.shape == (5, 7, 2, 3)
        image = np.random.rand(1, 4, 6, 7).astype("float32")
        patch = image[0, 2:4, 3:6].transpose(2, 0, 1)
        expected = (kernel * patch).sum((1, 2, 3))
        np.testing.assert_allclose(model(image)[0, 3], expected, rtol=1e-5)


class CheckTest:
    def test_sizes_of_the_config_are_compared_before_a_model_is_made(self):
        check_shapes({"body.one.weight": (2, 3)}, TABLE)
        with pytest.raises(ValueError, match=r"'body.one.weight' to have the shape \(2, 3\), as"):
            check_shapes({"body.one.weight": (2, 4)}, TABLE)
        with pytest.raises(ValueError, match="a tensor named 'one.weight', received .'body.none"):
            check_shapes({"body.none.weight": (2, 3)}, TABLE)
