"""Sheets of panels, and distances over depth, as pictures."""

import os

import matplotlib.image
import numpy as np
import pytest

from kerasformer import explain
from kerasformer.explain import Panel

GRAY = np.full((8, 8, 1), 128, "uint8")


def light_of(path):
    return matplotlib.image.imread(path)[..., :3].sum(axis=-1)


class DrawPanelsTest:
    def test_each_map_has_a_scale_of_its_own_over_its_image(self, tmp_path):
        heat = np.array([[0.0, 1.0]])
        path = tmp_path / "sheet.png"
        panels = [Panel(GRAY, "a", 1e-3 * heat, 1.0), Panel(GRAY, "b\nc", heat, 1.0)]
        explain.draw_panels([panels, [Panel(GRAY)]], path, "of the most, %", "three $\\x$")
        light = light_of(path)
        line = light[light.shape[0] // 3]
        # From dark to bright, twice; matplotlib's inferno ends in a pale yellow.
        dark, bright = np.flatnonzero(line < 0.1), np.flatnonzero(np.abs(line - 2.63) < 0.08)
        gap = np.argmax(np.diff(bright))
        assert dark[0] < bright[0] and np.any((dark > bright[gap]) & (dark < bright[gap + 1]))
        assert os.listdir(tmp_path) == [path.name]

    def test_images_of_any_shape_and_number_of_channels_fit(self, tmp_path):
        images = [np.zeros((5, 31, 3), "uint8"), np.zeros((40, 3, 4), "uint8"), GRAY]
        sheets = [[[Panel(image, "x" * 99)]] for image in images]
        sheets += [[[Panel(image, str(number)) for image in images] for number in range(2)]]
        for number, lines in enumerate(sheets):
            explain.draw_panels(lines, tmp_path / f"{number}.png")
            assert max(light_of(tmp_path / f"{number}.png").shape) < 1500

    @pytest.mark.parametrize(
        ("lines", "message"),
        [([[]], "received 0 panels"), ([[Panel(GRAY[..., 0])]], r"image.shape=\(8, 8\)")],
    )
    def test_what_cannot_be_drawn_is_named(self, tmp_path, lines, message):
        with pytest.raises(ValueError, match=message):
            explain.draw_panels(lines, tmp_path / "a.png")
        with pytest.raises(ValueError, match="'.png'"):
            explain.draw_panels([[Panel(GRAY)]], tmp_path / "a.doc")
        assert not os.listdir(tmp_path)


class DrawDistancesTest:
    def test_heads_that_look_further_stand_higher(self, tmp_path):
        path = tmp_path / "far.png"
        explain.draw_distances(np.array([[1.0], [3.0]]), path)
        image = matplotlib.image.imread(path)[..., :3]
        is_dot = (image[..., 2] - image[..., 0] > 0.3) & (image[..., 0] < 0.5)  # The first blue.
        rows, columns = np.nonzero(is_dot[:, : 2 * image.shape[1] // 3])
        middle = (columns.min() + columns.max()) / 2
        assert rows[columns < middle].mean() > rows[columns > middle].mean() + 50

    def test_other_shapes_are_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"distances.shape=\(3,\)"):
            explain.draw_distances(np.zeros(3), tmp_path / "a.png")
