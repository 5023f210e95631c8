"""Pictures of heads and of neighbours: which patches are marked, and what stands where."""

import numpy as np
import pytest

from pipelines.images.embedding_pictures import draw_attention, draw_neighbours, largest_share

MAPS = np.random.default_rng(0).random((2, 3, 4, 5)).astype("float32")
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 8, 10, 3)).astype(np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_as_few_patches_as_have_the_share_are_marked(share):
    for attention, marked in zip(
        MAPS.reshape(6, 20), largest_share(MAPS, share).reshape(6, 20), strict=True
    ):
        total = attention.sum(dtype=float)
        count = next(
            n
            for n in range(1, 21)
            if np.sort(attention)[-n:].sum(dtype=float) >= share * total - 1e-6
        )
        assert marked.sum() == count
        assert attention[marked].min() >= attention[~marked].max(initial=0)


def test_each_image_has_a_column_for_each_head_and_a_row_below():
    figure = draw_attention(PIXELS, MAPS, ["a.png", "$b$.png"])
    axes = np.array(figure.axes).reshape(4, 4)
    assert [ax.get_title() for ax in axes[0]] == ["a.png", "head 1", "head 2", "head 3"]
    np.testing.assert_array_equal(axes[2, 2].images[0].get_array(), MAPS[1, 1])
    hidden = axes[3, 2].images[1].get_array()[..., 3] > 0
    np.testing.assert_array_equal(hidden, ~largest_share(MAPS)[1, 1])
    figure.draw_without_rendering()


def test_gray_images_have_their_neighbours_beside_them():
    figure = draw_neighbours([PIXELS[..., :1], PIXELS[::-1, ..., :1]], [["a", "b"], ["c", "d"]])
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), PIXELS[1, ..., 0])
    figure.draw_without_rendering()
