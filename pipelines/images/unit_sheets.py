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
from pipelines.images.module import ImageModule
from pipelines.images.module_inputs import batches
from pipelines.runs.files import write_atomically

STRONGEST = 9  # answers of a unit
ACROSS = 4  # units in a line of the sheet
LEAST = 0.5  # share of the sides of an image that is shown around a place
BOX = ("top", "left", "bottom", "right")
NOISE = 2  # images of noise that find what a unit sees


class Units:
    """The units of one layer that are asked.

    Args:
        module: that of the model.
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
        module: ImageModule,
        layers: dict[str, tuple[int, int, int]],
        path: str = "",
        numbers: Sequence[int] | None = None,
    ):
        self._module = module
        # A Transformer of a single patch has an encoder, and no layer on a grid.
        self.path = path or ("encoder" if "encoder" in layers or not layers else [*layers][-1])
        self._layer = explain.find_layer(module.model, self.path)
        shape = (NOISE, *module.image_size, module.channels)
        noise = keras.random.normal(shape, seed=1)
        self._field = functools.cache(partial(explain.receptive_field, self.maps, noise))
        *grid, count = self.maps(noise).shape[1:]
        self.grid = tuple(grid)
        self.numbers = [*range(min(count, 2 * ACROSS))] if numbers is None else [*numbers]
        if not self.numbers or not all(0 <= number < count for number in self.numbers):
            raise ValueError(
                f"Expected units of --layer={self.path} from 0 to {count - 1}, received "
                f"--units={','.join(map(str, self.numbers))}."
            )

    def maps(self, images: Any) -> Any:
        """Computes the answers of all units of the layer, `(B, rows, columns, U)`."""
        return explain.unit_maps(self._module.model, self._layer, images)

    def score(self, number: int, images: Any) -> Any:
        """Computes the strongest answer of a unit to each image, `(B,)`."""
        return ops.max(self.maps(images)[..., number], axis=(1, 2))

    def box(self, place: tuple[int, int]) -> tuple[int, int, int, int]:
        """Returns the part of an image that the units see at a place of the grid.

        Where those in the middle see all of it, it is the part under the place.
        """
        middle = self.grid[0] // 2, self.grid[1] // 2
        if self._field(middle) == (0, 0, *self._module.image_size):
            return explain.cell(place, self.grid, self._module.image_size)
        return self._field(place)

    def draw(self, pixels: np.ndarray, names: Sequence[str], folder: Path) -> None:
        """Draws to what the units answer most, and writes a table of it.

        Args:
            pixels: uint8 images `(n, h, w, c)`.
            names: str for each.
            folder: where `units.png` and `units.tsv` go.
        """
        answers = (
            tf.gather(self.maps(images), self.numbers, axis=-1)
            for images in batches(self._module, pixels, "units")
        )
        found = explain.strongest(answers, STRONGEST)
        places = np.stack([found.rows, found.columns], axis=-1).tolist()
        boxes = np.array([[self.box(tuple(place)) for place in of_unit] for of_unit in places])
        count = f"{len(pixels):,} image{'s' * (len(pixels) > 1)}"
        title, path = f"{self.path}: most of {count}", folder / "units.png"
        explain.draw_panels(self._panels(pixels, found, boxes), path, title=title)
        table = partial(write_rows, rows=self._rows(names, found, boxes), key="image")
        write_atomically(path.with_suffix(".tsv"), table)
        print(f"{path}\t{title}", flush=True)

    def _panels(
        self, pixels: np.ndarray, found: explain.Strongest, boxes: np.ndarray
    ) -> list[list[Panel]]:
        """Lists a mosaic of each unit."""
        # Of one size, so that the parts fit together.
        least = LEAST * np.array(self._module.image_size)
        sides = np.maximum(boxes[..., 2:] - boxes[..., :2], np.ceil(least).astype(int))
        height, width = sides.max(axis=(0, 1)).tolist()
        panels = []
        for unit, number in enumerate(self.numbers):
            shown = [
                explain.cut_out(pixels[image], tuple(box), (height, width))
                for image, box in zip(found.images[unit], boxes[unit].tolist(), strict=True)
            ]
            values = found.values[unit]
            title = f"unit {number}\n{values[-1]:.3g} to {values[0]:.3g}"
            panels.append(Panel(explain.mosaic(shown), title))
        return [panels[start : start + ACROSS] for start in range(0, len(panels), ACROSS)]

    def _rows(
        self, names: Sequence[str], found: explain.Strongest, boxes: np.ndarray
    ) -> list[dict[str, Any]]:
        """Lists the strongest answers of each unit."""
        return [
            {
                "layer": self.path,
                "unit": number,
                "rank": rank + 1,
                "value": float(f"{found.values[unit, rank]:.6g}"),
                "image": names[found.images[unit, rank]],
                **dict(zip(BOX, boxes[unit, rank].tolist(), strict=True)),
            }
            for unit, number in enumerate(self.numbers)
            for rank in range(found.values.shape[1])
        ]
