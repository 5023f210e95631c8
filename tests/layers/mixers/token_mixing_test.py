"""Networks over positions: their values, what masks hide from them, and what they refuse."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers import EncoderBlock, FeedForwardMixing, SpatialGating, TokenMixing

B, T, HIDDEN = 2, 5, 6
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(B, T, HIDDEN)).astype("float32")


def build(layer):
    """Builds a mixer with weights of which none is 0 or 1."""
    layer.build(INPUTS.shape)
    layer.set_weights([0.5 * RANDOM.normal(size=w.shape) for w in layer.weights])
    return layer


def arrays(layer):
    return {w.path.split("/", 1)[1]: keras.ops.convert_to_numpy(w) for w in layer.weights}


def gelu(x):
    return ops.convert_to_numpy(keras.activations.gelu(x, approximate=False))


class ValueTest:
    def test_token_mixing_is_an_mlp_of_each_features_values(self):
        layer = build(TokenMixing(7))
        w = arrays(layer)
        inner = gelu(
            np.einsum("btd,ti->bid", INPUTS, w["network/inner_dense/kernel"])
            + w["network/inner_dense/bias"][:, None]
        )
        expected = np.einsum("bid,it->btd", inner, w["network/output_dense/kernel"])
        expected += w["network/output_dense/bias"][:, None]
        np.testing.assert_allclose(layer(INPUTS), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("ratio", "size"), [(4, 20), (0.5, 2), (0.01, 1)])
    def test_a_stack_of_feed_forward_layers_is_as_wide_as_there_are_positions(self, ratio, size):
        layer = build(FeedForwardMixing(ratio))
        assert layer.network.intermediate_dim == size

    def test_one_linear_layer_is_a_matrix_over_positions(self):
        layer = build(FeedForwardMixing(ratio=None))
        w = arrays(layer)
        expected = (
            np.einsum("bsd,st->btd", INPUTS, w["network/kernel"]) + w["network/bias"][:, None]
        )
        np.testing.assert_allclose(layer(INPUTS), expected, rtol=1e-4, atol=1e-5)

    def test_an_open_gate_lets_half_of_the_features_through_at_first(self):
        layer = SpatialGating(14)
        layer.build(INPUTS.shape)
        w = arrays(layer)
        kept = gelu(INPUTS @ w["inner_dense/kernel"] + w["inner_dense/bias"])[..., :7]
        expected = kept @ w["output_dense/kernel"] + w["output_dense/bias"]
        np.testing.assert_allclose(layer(INPUTS), expected, rtol=1e-4, atol=1e-4)


class MaskTest:
    def test_a_causal_gate_reads_nothing_that_comes_later(self):
        layer = build(SpatialGating(14))
        changed = INPUTS.copy()
        changed[:, 3] += 2.0
        before, after = (
            ops.convert_to_numpy(layer(x, use_causal_mask=True)) for x in (INPUTS, changed)
        )
        np.testing.assert_array_equal(before[:, :3], after[:, :3])
        assert (before[:, 3:] != after[:, 3:]).all()
        # What is left of the matrix is what reads backwards.
        kernel = [w for w in layer.weights if w.path.endswith(f"{layer.name}/kernel")][0]
        kernel.assign(np.triu(ops.convert_to_numpy(kernel)))
        np.testing.assert_allclose(layer(INPUTS), before, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("mixer", [TokenMixing(7), FeedForwardMixing()])
    def test_an_mlp_over_positions_cannot_be_causal(self, mixer):
        block = EncoderBlock(HIDDEN, mixer=mixer)
        with pytest.raises(ValueError, match=f"takes use_causal_mask, .*{type(mixer).__name__}"):
            block(INPUTS, use_causal_mask=True)

    @pytest.mark.parametrize("layer", [TokenMixing(7), FeedForwardMixing(), SpatialGating(14)])
    def test_a_mask_that_does_not_fit_is_refused_without_a_block_too(self, layer):
        for shape in ((1, T + 2), (B, 1), (1, T)):
            with pytest.raises(ValueError, match=f"B=2 and S=5, received shape=.{shape[0]}, "):
                layer(INPUTS, mask=np.ones(shape, "bool"))
        with pytest.raises(ValueError, match="float"):
            layer(INPUTS, mask=np.ones((B, T), "float32"))


class RefusalTest:
    @pytest.mark.parametrize("layer", [TokenMixing(7), FeedForwardMixing(), SpatialGating(14)])
    def test_the_length_is_known_and_does_not_change(self, layer):
        with pytest.raises(ValueError, match="Expected inputs of a known length, .*None, 6"):
            layer.build((None, None, HIDDEN))
        layer.build((None, T, HIDDEN))
        with pytest.raises(ValueError, match="Expected inputs of length 5, .*received shape=.2, 4"):
            layer(INPUTS[:, 1:])

    def test_sizes_that_cannot_be_are_one_sentence(self):
        with pytest.raises(ValueError, match="even number, received intermediate_dim=7"):
            SpatialGating(7)
        with pytest.raises(ValueError, match="an integer, received intermediate_dim='4'"):
            SpatialGating("4")
        with pytest.raises(ValueError, match="above 0, received ratio=-1"):
            FeedForwardMixing(-1)
        with pytest.raises(ValueError, match="intermediate_dim=0"):
            TokenMixing(0)
        with pytest.raises(ValueError, match="less than 1, received dropout=3"):
            FeedForwardMixing(None, dropout=3)
        with pytest.raises(ValueError, match="nonsense"):
            FeedForwardMixing(None, activation="nonsense")
