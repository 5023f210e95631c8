"""Class attention: who is read, who stays as it is, and how much of each position is read."""

import numpy as np
import pytest
from keras import ops

from kerasformer.explain import grid_maps, rollout
from kerasformer.layers.class_attention import ClassAttentionBlock, ClassAttentionPooling
from kerasformer.layers.mixers.attention import MultiHeadAttention

BATCH, LENGTH, HIDDEN, HEADS, INNER = 2, 6, 12, 3, 13


def sequence(seed=0):
    shape = (BATCH, LENGTH, HIDDEN)
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def make(layer_class, **options):
    layer = layer_class(HIDDEN, HEADS, INNER, **options)
    layer.build((None, None, HIDDEN))
    random = np.random.default_rng(2)
    layer.set_weights([0.4 * random.standard_normal(weight.shape) for weight in layer.weights])
    return layer


class ClassAttentionBlockTest:
    def test_it_is_attention_of_all_of_which_the_first_row_is_kept(self):
        block = make(ClassAttentionBlock)
        outputs, scores = block(sequence(), return_attention_scores=True)
        residual = block.class_attention
        whole = MultiHeadAttention(HIDDEN, HEADS)
        whole.build((None, None, HIDDEN))
        parts = [residual.sublayer.query_dense, residual.sublayer.key_value_dense]
        fused = [np.concatenate([p.get_weights()[i] for p in parts], axis=-1) for i in range(2)]
        whole.query_key_value_dense.set_weights(fused)
        whole.output_dense.set_weights(residual.sublayer.output_dense.get_weights())
        x, all_scores = whole(residual.norm(sequence()), return_attention_scores=True)
        token = block.feed_forward((ops.array(sequence()) + residual.scale * x)[:, :1])
        np.testing.assert_allclose(outputs[:, :1], token, atol=1e-5)
        np.testing.assert_array_equal(outputs[:, 1:], sequence()[:, 1:])
        np.testing.assert_allclose(scores, all_scores[:, :, :1], atol=1e-6)

    def test_the_factors_start_as_told(self):
        block = ClassAttentionBlock(HIDDEN, HEADS, INNER, layer_scale=1e-6)
        block.build((None, None, HIDDEN))
        for residual in (block.class_attention, block.feed_forward):
            np.testing.assert_array_equal(residual.scale, np.float32([1e-6] * HIDDEN))
        paths = [w.path for w in make(ClassAttentionBlock, layer_scale=None).weights]
        assert not any("scale" in path.rsplit("/")[-1] for path in paths)

    @pytest.mark.parametrize("layer_class", [ClassAttentionBlock, ClassAttentionPooling])
    def test_another_width_is_one_sentence(self, layer_class):
        with pytest.raises(ValueError, match=r"width hidden_dim=12, received shape=\(2, \d, 7\)"):
            layer_class(HIDDEN, HEADS, INNER)(np.ones((BATCH, LENGTH, 7), "float32"))


class ClassAttentionPoolingTest:
    def test_it_has_a_block_at_least(self):
        with pytest.raises(ValueError, match="at least 1, received num_layers=0"):
            ClassAttentionPooling(HIDDEN, HEADS, INNER, num_layers=0)

    mask = np.arange(LENGTH) != [[2], [5]]

    def test_hidden_positions_change_nothing(self):
        layer = make(ClassAttentionPooling)
        changed = np.where(self.mask[..., None], sequence(), 7.0)
        before, after = (np.array(layer(x, mask=self.mask)) for x in (sequence(), changed))
        np.testing.assert_array_equal(after, before)
        assert np.abs(before - np.array(layer(sequence()))).max() > 1e-3
        assert not np.any(np.array(layer.weights_of(sequence(), self.mask))[~self.mask])
        with pytest.raises(ValueError, match=r"padding mask .* S=6, received shape=\(2, 5\)"):
            layer(sequence(), mask=self.mask[:, 1:])

    def test_the_shares_are_the_rollout_through_its_blocks(self):
        layer = make(ClassAttentionPooling, num_layers=3)
        matrices = []
        for scores in layer.scores_of(sequence()):
            matrix = np.tile(np.eye(1 + LENGTH, dtype="float32"), (BATCH, HEADS, 1, 1))
            matrix[:, :, :1] = scores
            np.testing.assert_allclose(matrix.sum(axis=-1), 1, rtol=1e-5)
            matrices.append(ops.array(matrix))
        shares = np.array(rollout(matrices))[:, 0, 1:]
        expected = shares / shares.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(layer.weights_of(sequence()), expected, rtol=1e-5)

    def test_the_scores_of_a_block_are_maps_of_an_image(self):
        scores = make(ClassAttentionPooling).scores_of(sequence())
        maps = grid_maps(scores[0], grid_size=(2, 3), num_prefix_tokens=1)
        np.testing.assert_array_equal(
            maps, np.array(scores[0])[:, :, 0, 1:].reshape(BATCH, HEADS, 2, 3)
        )
