"""Units of a model: which layer is meant, what they answer, and to which image most."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer import explain
from kerasformer.models import CaiT, ConvolutionalNetwork, GCViT, VisionTransformer

SIZE = (6, 10)
IMAGES = np.random.default_rng(5).normal(size=(2, *SIZE, 3)).astype("float32")


def make_vit(**options):
    return VisionTransformer(SIZE, 2, 6, 3, 5, 7, patch_size=2, **options)


def array(tensor):
    return ops.convert_to_numpy(tensor)


class FindLayerTest:
    def test_a_path_may_begin_where_no_other_has_its_end(self):
        model = make_vit()
        block = model.encoder.blocks[1]
        assert explain.find_layer(model, "encoder/block_1") is block
        assert explain.find_layer(model, "block_1") is block
        # The whole path of one is the end of another's.
        assert explain.find_layer(model, "block_1/feed_forward") is block.feed_forward

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("inner_dense", "encoder/block_1/feed_forward.* 'inner_dense', which 2 of them have"),
            ("block_9", r"such as patch_embedding.* and \d+ more, received 'block_9', which none"),
        ],
    )
    def test_none_or_several_are_named(self, path, message):
        with pytest.raises(ValueError, match=message):
            explain.find_layer(make_vit(), path)


class UnitMapsTest:
    def test_channels_of_a_convolution_are_what_the_layer_returns(self):
        model = ConvolutionalNetwork("LeNet-5", (20, 22), 3)
        images = np.random.default_rng(3).normal(size=(2, 20, 22, 1)).astype("float32")
        model.build(images.shape)
        layer = explain.find_layer(model, "convolution_1")
        part = keras.Model(model.trunk.inputs, layer.output)
        found = array(explain.unit_maps(model, layer, images))
        np.testing.assert_allclose(found, array(part([images])), rtol=1e-5, atol=1e-6)
        dense = explain.find_layer(model, "dense_1")
        assert explain.unit_maps(model, dense, images).shape == (2, 1, 1, 84)
        assert list(explain.layers_on_grid(model, images))[-1] == "trunk/pool_1"

    @pytest.mark.parametrize("options", [{}, {"num_prefix_tokens": 3}, {"pool": "mean"}])
    def test_places_of_a_sequence_are_its_patches(self, options):
        model = make_vit(**options)
        sequence = array(model.encode(IMAGES))[:, -15:].reshape(2, 3, 5, 6)
        found = array(explain.unit_maps(model, model.encoder, IMAGES))
        np.testing.assert_allclose(found, sequence, rtol=1e-5, atol=1e-6)
        embedding = array(explain.unit_maps(model, model.patch_embedding, IMAGES))
        np.testing.assert_allclose(
            embedding.reshape(2, 15, 6), array(model.patch_embedding(IMAGES)), rtol=1e-5, atol=1e-6
        )

    def test_units_of_attention_are_its_heads(self):
        model = make_vit()
        layer = explain.find_layer(model, "block_1/self_attention/attention")
        found = array(explain.unit_maps(model, layer, IMAGES))
        heads = array(explain.attention_maps(model, IMAGES)[1])
        np.testing.assert_array_equal(np.moveaxis(found, -1, 1), heads[:, 1])
        layers = explain.layers_on_grid(model, IMAGES)
        assert layers["encoder/block_1/self_attention/attention"] == (3, 5, 3)
        assert layers["encoder/block_1/feed_forward/feed_forward/inner_dense"] == (3, 5, 5)
        assert "head" not in layers and "pooling" not in layers

    def test_attention_scores_have_no_places(self):
        options = {"num_layers": 1, "hidden_dim": 6, "num_heads": 3, "patch_size": 2}
        model = CaiT.from_variant("Lite-4/4", SIZE, **options)
        layers = explain.layers_on_grid(model, IMAGES)
        assert {shape[:2] for shape in layers.values()} == {(3, 5)}

    def test_the_grids_of_a_pyramid_are_told_apart(self):
        model = GCViT(8, (1, 1), 6, 3, window_size=(2, 2), stem_strides=(2, 1))
        layers = explain.layers_on_grid(model, ops.ones((1, 8, 8, 3)))
        assert (layers["stage_0"], layers["stage_1"]) == ((4, 4, 6), (2, 2, 12))

    def test_a_layer_without_places_is_named(self):
        model = make_vit()
        dropout = explain.find_layer(model, "block_0/self_attention/attention").dropout_layer
        for layer, message in (
            (keras.layers.Dense(3, name="other"), "that the model calls, received layer=other"),
            (dropout, "that the model calls"),
        ):
            with pytest.raises(ValueError, match=message):
                explain.unit_maps(model, layer, IMAGES)
        with pytest.raises(ValueError, match=r"prefix_tokens with outputs of shape \(2, 19, 6\)"):
            model.num_prefix_tokens = 3
            explain.unit_maps(model, model.prefix_tokens, np.ones((2, 6, 12, 3)))


class RecordedTest:
    def test_layers_are_as_before_whatever_happens(self):
        model = make_vit()
        before = array(model(IMAGES))
        with (
            pytest.raises(KeyError),
            explain.recorded([model.encoder, model.encoder, model.head]) as outputs,
        ):
            model(IMAGES)
            assert [*outputs] == [id(model.encoder), id(model.head)]
            raise KeyError
        outputs.clear()
        np.testing.assert_array_equal(array(model(IMAGES)), before)
        assert not outputs and "call" not in {*vars(model.encoder), *vars(model.head)}


class StrongestTest:
    MAPS = np.random.default_rng(7).normal(size=(13, 3, 5, 2)).astype("float32")

    def brute_force(self, unit, count):
        rows = [
            (-self.MAPS[index, ..., unit].max(), index, self.MAPS[index, ..., unit].argmax())
            for index in range(len(self.MAPS))
        ]
        return sorted(rows)[:count]

    @pytest.mark.parametrize("sizes", [[13], [5, 5, 3]])
    def test_it_is_what_sorting_all_of_them_gives(self, sizes):
        batches = np.split(self.MAPS, np.cumsum(sizes)[:-1])
        found = explain.strongest(batches, count=4)
        for unit in range(2):
            for rank, (value, image, place) in enumerate(self.brute_force(unit, 4)):
                assert found.values[unit, rank] == -value
                assert found.images[unit, rank] == image
                assert (found.rows[unit, rank], found.columns[unit, rank]) == divmod(place, 5)

    def test_of_equal_answers_the_earlier_come_first_and_there_may_be_few(self):
        found = explain.strongest([np.zeros((2, 3, 5, 1))], count=9)
        assert found.images.tolist() == [[0, 1]] and not found.rows.any()

    @pytest.mark.parametrize(("batches", "count"), [([], 9), ([MAPS], 0), ([MAPS[:0]], 9)])
    def test_nothing_is_named(self, batches, count):
        with pytest.raises(
            ValueError, match=rf"received {len(batches)} batches .* and count={count}"
        ):
            explain.strongest(batches, count)
