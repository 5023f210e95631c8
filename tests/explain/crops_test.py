"""The part of an image that a unit sees, and how parts are shown."""

import keras
import numpy as np
import pytest

from kerasformer import explain
from kerasformer.models import ConvolutionalNetwork, VisionTransformer


def field_of(steps, place, size):
    """Computes a receptive field along one axis by the arithmetic of convolutions.

    Args:
        steps: pairs of the size and the stride of each layer, without padding.
        place: int.
        size: int. Length of the axis.
    """
    start = end = place
    for kernel, stride in reversed(steps):
        start, end = start * stride, end * stride + kernel - 1
    return max(start, 0), min(end + 1, size)


class ReceptiveFieldTest:
    SIZE = (28, 30)

    @pytest.mark.parametrize(
        ("name", "steps"),
        [
            ("convolution_0", [(5, 1)]),
            ("pool_0", [(5, 1), (2, 2)]),
            ("convolution_1", [(5, 1), (2, 2), (5, 1)]),
            ("pool_1", [(5, 1), (2, 2), (5, 1), (2, 2)]),
        ],
    )
    def test_it_is_that_of_the_arithmetic_of_convolutions(self, name, steps):
        model = ConvolutionalNetwork("LeNet-5", self.SIZE)
        images = keras.random.normal((1, *self.SIZE, 1), seed=3)
        model.build(images.shape)
        layer = explain.find_layer(model, name)

        def maps(images):
            return explain.unit_maps(model, layer, images)

        rows, columns = maps(images).shape[1:3]
        for place in ((0, 0), (rows - 1, columns - 1), (1, 3)):
            spans = (field_of(steps, x, size) for x, size in zip(place, self.SIZE, strict=True))
            (top, bottom), (left, right) = spans
            expected = (top, left, bottom, right)
            assert explain.receptive_field(maps, images, place) == expected

    def test_of_padded_convolutions_the_edge_cuts_it(self):
        layer = keras.layers.Conv2D(3, 3, 2, padding="same")
        images = keras.random.normal((1, 9, 7, 2), seed=3)
        assert explain.receptive_field(layer, images, (0, 3)) == (0, 5, 2, 7)
        assert explain.receptive_field(layer, images, (2, 1)) == (3, 1, 6, 4)

    def test_a_patch_sees_itself_and_through_attention_the_whole_image(self):
        model = VisionTransformer((6, 10), 1, 6, 3, 5, patch_size=2)
        images = keras.random.normal((1, 6, 10, 3), seed=3)

        def see(layer):
            return explain.receptive_field(
                lambda x: explain.unit_maps(model, layer, x), images, (1, 3)
            )

        model.build(images.shape)
        assert see(model.patch_embedding) == explain.cell((1, 3), (3, 5), (6, 10)) == (2, 6, 4, 8)
        assert see(model.encoder) == (0, 0, 6, 10)

    def test_units_that_feel_nothing_see_the_whole_image(self):
        images = np.ones((1, 4, 6, 1), "float32")
        assert explain.receptive_field(lambda x: 0 * x, images, (1, 1)) == (0, 0, 4, 6)


class CellTest:
    def test_the_cells_of_a_grid_cover_an_image_of_any_size(self):
        covered = np.zeros((7, 11), int)
        for row in range(3):
            for column in range(4):
                top, left, bottom, right = explain.cell((row, column), (3, 4), (7, 11))
                covered[top:bottom, left:right] += 1
        assert covered.min() == 1


class CutOutTest:
    IMAGE = np.random.default_rng(3).integers(0, 256, (9, 13, 4), np.uint8)

    def test_the_box_stays_as_it_is_and_what_is_around_it_is_paler(self):
        part = explain.cut_out(self.IMAGE, (3, 4, 5, 7), (6, 7))
        source = self.IMAGE[1:7, 2:9]
        np.testing.assert_array_equal(part[2:4, 2:5], source[2:4, 2:5])
        far = np.abs(source[..., :3].astype(int) - 128)
        near = np.abs(part[..., :3].astype(int) - 128)
        near[2:4, 2:5] = 0
        assert np.all(near <= 0.36 * far + 1)
        np.testing.assert_array_equal(part[..., 3], source[..., 3])

    @pytest.mark.parametrize(
        ("box", "start"), [((0, 0, 1, 1), (0, 0)), ((8, 12, 9, 13), (3, 6)), ((0, 6, 9, 7), (1, 3))]
    )
    def test_at_an_edge_it_moves_inside(self, box, start):
        part = explain.cut_out(self.IMAGE, box, (6, 7))
        top, left = start
        np.testing.assert_array_equal(part[..., 3], self.IMAGE[top : top + 6, left : left + 7, 3])

    def test_a_smaller_image_is_taken_whole(self):
        assert explain.cut_out(self.IMAGE, (0, 0, 9, 13), (20, 20)).shape == (9, 13, 4)


def test_a_mosaic_holds_each_image_in_its_place():
    images = [np.full((32, 3, 1), level, np.uint8) for level in (0, 50, 100, 150)]
    whole = explain.mosaic(images, columns=3)
    assert whole.shape == (66, 13, 1)
    assert whole[0, :, 0].tolist() == [0] * 3 + [255] * 2 + [50] * 3 + [255] * 2 + [100] * 3
    assert whole[65, :, 0].tolist() == [150] * 3 + [255] * 10
    assert set(whole[32:34].flat) == {255}
    small = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    np.testing.assert_array_equal(explain.mosaic([small])[::8, ::8], small)
    for others in ([], [small, small[:3]]):
        with pytest.raises(ValueError, match="Expected images of one shape, received"):
            explain.mosaic(others)
