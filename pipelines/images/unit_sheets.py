"""Sheets of the parts of images that the units of a layer answer to most."""

import functools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasformer import explain
from kerasformer.explain import Panel
from pipelines.data.row_files import write_rows
from pipelines.images.looker import Looker
from pipelines.runs.files import write_atomically

STRONGEST = 9  # answers of a unit
ACROSS = 4  # units in a line of the sheet
LEAST = 0.5  # share of the sides of an image that is shown around a place
BOX = ("top", "left", "bottom", "right")
NOISE = 2  # images of noise that find what a unit sees


class Units:
    """The units of one layer that are asked.

    Args:
        looker: the model.
        layers: what `explain.layers_on_grid` returned of it.
        path: path of the layer, as `explain.find_layer` takes it; nothing for the
            encoder, or the last of `layers` of a model without one.
        numbers: numbers of the units, from 0; `None` for the first eight.

    Raises:
        ValueError: for an unknown layer, one without units that have places on an image, or a unit
            that it does not have.
    """

    def __init__(
        self,
        looker: Looker,
        layers: dict[str, tuple[int, int, int]],
        path: str = "",
        numbers: Sequence[int] | None = None,
    ):
        self.looker = looker
        self.path = path or ("encoder" if "encoder" in layers else [*layers][-1])
        self._layer = explain.find_layer(looker.model, self.path)
        shape = (NOISE, *looker.size, looker.channels)
        self._noise = keras.random.normal(shape, seed=1)
        *grid, count = self.maps(self._noise).shape[1:]
        self.grid = tuple(grid)
        self.numbers = [*range(min(count, 2 * ACROSS))] if numbers is None else [*numbers]
        if not self.numbers or not all(0 <= number < count for number in self.numbers):
            raise ValueError(
                f"Expected units of --layer={self.path} from 0 to {count - 1}, received "
                f"--units={','.join(map(str, self.numbers))}."
            )

    def maps(self, images: Any) -> Any:
        """Computes the answers of all units of the layer, `(B, rows, columns, U)`."""
        return explain.unit_maps(self.looker.model, self._layer, images)

    def score(self, number: int, images: Any) -> Any:
        """Computes the strongest answer of a unit to each image, `(B,)`."""
        return ops.max(self.maps(images)[..., number], axis=(1, 2))

    @functools.cache  # noqa: B019 (of a few units, for the time of a program)
    def _field(self, place: tuple[int, int]) -> tuple[int, int, int, int]:
        return explain.receptive_field(self.maps, self._noise, place)

    def box(self, place: tuple[int, int]) -> tuple[int, int, int, int]:
        """Returns the part of an image that the units see at a place of the grid.

        Where those in the middle see all of it, it is the part under the place.
        """
        middle = self.grid[0] // 2, self.grid[1] // 2
        if self._field(middle) == (0, 0, *self.looker.size):
            return explain.cell(place, self.grid, self.looker.size)
        return self._field(place)

    def draw(self, pixels: np.ndarray, names: Sequence[str], folder: Path) -> None:
        """Draws to what the units answer most, and writes a table of it.

        Args:
            pixels: uint8 images `(n, h, w, c)`.
            names: str for each.
            folder: where `units.png` and `units.tsv` go.
        """
        batches = (
            tf.gather(self.maps(images), self.numbers, axis=-1)
            for images in self.looker.batches(pixels, "units")
        )
        found = explain.strongest(batches, STRONGEST)
        places = np.stack([found.rows, found.columns], axis=-1)
        boxes = np.array([[self.box((*map(int, x),)) for x in of_unit] for of_unit in places])
        # Of one size, so that they fit into a mosaic.
        sides = np.maximum(boxes[..., 2:] - boxes[..., :2], LEAST * np.array(self.looker.size))
        size = tuple(np.ceil(sides.max(axis=(0, 1))).astype(int))
        panels, rows = [], []
        for unit, number in enumerate(self.numbers):
            parts = zip(found.images[unit], boxes[unit], strict=True)
            shown = [explain.cut_out(pixels[image], box, size) for image, box in parts]
            values = found.values[unit]
            title = f"unit {number}\n{values[-1]:.3g} to {values[0]:.3g}"
            panels.append(Panel(explain.mosaic(shown), title))
            rows += [
                {
                    "layer": self.path,
                    "unit": number,
                    "rank": rank,
                    "value": float(f"{values[rank - 1]:.6g}"),
                    "image": names[found.images[unit, rank - 1]],
                    **dict(zip(BOX, boxes[unit, rank - 1].tolist(), strict=True)),
                }
                for rank in range(1, len(values) + 1)
            ]
        lines = [panels[start : start + ACROSS] for start in range(0, len(panels), ACROSS)]
        title = f"{self.path}: most of {len(pixels):,} images"
        path = folder / "units.png"
        explain.draw_panels(lines, path, title=title)
        table = partial(write_rows, rows=rows, key="image")
        write_atomically(path.with_suffix(".tsv"), table)
        print(f"{path}\t{title}", flush=True)
