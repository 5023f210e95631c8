"""What `apps.explain` draws of a run: where its model looks, what moves it, what its units answer.

The run may be of any task over images whose `serving` returns an `ImageModule`. With classes, its
`description` has `class_names`, and its model has `num_classes` and answers with logits.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from kerasformer import explain
from kerasformer.explain import Panel
from pipelines.data.row_files import one_line, write_rows
from pipelines.images.module import ImageModule
from pipelines.images.module_inputs import batches, evenly_spaced, read_files, read_split
from pipelines.images.saliency_sheets import (
    UNITS,
    Saliency,
    answer,
    check_target,
    class_names,
)
from pipelines.images.unit_sheets import Units
from pipelines.runs.files import write_atomically
from pipelines.runs.folder import locked, read_run
from pipelines.runs.weights import load_run

PICTURES = ("attention", "saliency", "distance", "units")
KINDS = (*PICTURES, "layers")
OF_ATTENTION = ("attention", "distance")
ACROSS = 4  # heads in a line, or more of one block
PICTURED = 4  # images of a split that get pictures of their own
# What the colours of a sheet mean.
OF_HEADS = "attention to a patch,\n% of the most in its map"
OF_GRADIENTS = "size of the gradient,\n% of the map's 99th percentile"


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        show: those of `KINDS` that are wanted; of none, all pictures that the model has.
        split: the images that are looked at where no files are given.
        images: int. How many of the split, evenly spaced in its order.
        target: what saliency is of, as `saliency_sheets.Saliency` takes it.
        layer, units: as `unit_sheets.Units` takes them.
    """

    show: Sequence[str] = ()
    split: str = "validation"
    images: int = 1000
    target: str = ""
    layer: str = ""
    units: Sequence[int] | None = None


def explain_run(
    find: Callable[[str], Any],
    workdir: str,
    weights: str | None,
    request: Request,
    output: str,
    files: Sequence[str] | None,
    report: Callable[[str], None],
) -> None:
    """Draws what there is to see inside of the model of a run, and prints what it has drawn.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        weights: as in `runs.weights.load_run`.
        request: what is wanted.
        output: folder for the pictures and tables, which is made if there is none.
        files: the images to look at, or `None` for those of the run's split.
        report: takes a sentence on each file that cannot be used.

    Raises:
        ValueError: when there is no run, the output cannot be written, the model does not have what
            is asked for, or no image can be used; nothing has been written then.
    """
    if wrong := [kind for kind in request.show if kind not in KINDS]:
        raise ValueError(f"Expected --show to be some of {KINDS}, received --show={wrong[0]}.")
    _, config = read_run(find, workdir)
    with contextlib.ExitStack() as stack:
        if set(request.show) != {"layers"}:
            # Before all work, so that a folder that cannot be written costs no time.
            stack.enter_context(locked(output, ".lock-explain", "draws into", make=True))
        module = load_run(find, workdir, weights)
        if not isinstance(module, ImageModule):
            raise ValueError(
                f"Expected a run whose model sees images, received one of {config.task}."
            )
        kinds = _kinds(module, request, workdir)
        check_target(module, request.target)
        if files is None:
            pixels, names = read_split(module, config.data, request.split, request.images)
            pictured = evenly_spaced(len(names), PICTURED)
        else:
            pixels, names = read_files(module, files, report)
            pictured = np.arange(len(names))
        if not names:
            raise ValueError("Expected an image that can be used, received none.")
        _show(module, kinds, request, pixels, names, pictured, Path(output))


def _show(
    module: ImageModule,
    kinds: Sequence[str],
    request: Request,
    pixels: np.ndarray,
    names: Sequence[str],
    pictured: np.ndarray,
    folder: Path,
) -> None:
    """Draws some kinds of pictures of images, of which the pictured ones get some of their own."""
    layers = explain.layers_on_grid(module.model, module.normalize(pixels[:1]))
    if "layers" in kinds:
        for layer, (rows, columns, count) in layers.items():
            print(f"{layer}\t{rows} x {columns}\t{count} units")
    of_units = "units" in kinds or request.target == UNITS
    units = Units(module, layers, request.layer, request.units) if of_units else None
    saliency = Saliency(module, request.target, units)
    for number, index in enumerate(pictured, start=1):
        image, name = pixels[index], names[index]
        if "attention" in kinds:
            path = folder / f"attention-{number}.png"
            _draw(module, image, name, path, _attention(module, image), OF_HEADS)
        if "saliency" in kinds:
            path = folder / f"saliency-{number}.png"
            _draw(module, image, name, path, saliency.lines(image), OF_GRADIENTS)
    if "distance" in kinds:
        draw_distance(module, pixels, folder)
    if "units" in kinds and units:
        units.draw(pixels, names, folder)


def _kinds(module: ImageModule, request: Request, workdir: str) -> list[str]:
    """Lists what is drawn."""
    if not request.show:
        return [kind for kind in PICTURES if module.has_attention or kind not in OF_ATTENTION]
    asked = [kind for kind in request.show if kind in OF_ATTENTION]
    if asked and not module.has_attention:
        raise ValueError(
            f"--workdir={workdir} holds a model without attention, so that there is nothing to "
            f"draw: leave out --show={asked[0]}."
        )
    return list(request.show)


def _draw(module: ImageModule, image: np.ndarray, name: str, path: Path, lines: list, label: str):
    """Draws a sheet of one image, with the answer of the model above it."""
    title = Path(name).name
    if names := class_names(module):
        number, share = answer(module, image)
        title += f": {names[number]} ({100 * share:.0f} %)"
    explain.draw_panels(lines, path, label, title)
    print(f"{path}\t{one_line(title)}", flush=True)


def _attention(module: ImageModule, image: np.ndarray) -> list[list[Panel]]:
    """Lists the panels of the rollout and of the heads, block by block."""
    rolled, heads = (
        x.numpy()[0] for x in explain.attention_maps(module.model, module.normalize(image[None]))
    )

    def panel(title, weights):
        return Panel(image, f"{title} {100 * weights.max():.2g} %", weights)

    panels = [
        panel(f"block {block}\nhead {head},", x)
        for block, maps in enumerate(heads, start=1)
        for head, x in enumerate(maps, start=1)
    ]
    across = len(heads[0]) * max(ACROSS // len(heads[0]), 1)  # A line holds whole blocks.
    lines = [panels[start : start + across] for start in range(0, len(panels), across)]
    return [[Panel(image, "image"), panel("rollout\nup to", rolled)], *lines]


def draw_distance(module: ImageModule, pixels: np.ndarray, folder: Path) -> None:
    """Draws how far the heads look, on average over images, and writes a table of it.

    Args:
        module: that of a model with attention.
        pixels: uint8 images `(n, h, w, c)`.
        folder: where `distance.png` and `distance.tsv` go.
    """
    model = module.model
    grid, tokens = model.grid_size(), model.num_prefix_tokens
    steps = [size / number for size, number in zip(module.image_size, grid, strict=True)]
    measure = partial(
        explain.attention_distance, grid_size=grid, num_prefix_tokens=tokens, patch_size=steps
    )
    sums = []
    for images in batches(module, pixels, "distances"):
        _, scores = model.encode(images, training=False, return_attention_scores=True)
        sums.append([measure(block).numpy().sum(axis=0) for block in scores])
    distances = np.sum(sums, axis=0) / len(pixels)
    length = tokens + grid[0] * grid[1]
    uniform = float(measure(ops.ones((1, length, length)))[0])
    path = folder / "distance.png"
    explain.draw_distances(distances, path, uniform)
    rows = [
        {"block": block, "head": head, "pixels": round(float(distance), 4)}
        for block, of_heads in enumerate(distances, start=1)
        for head, distance in enumerate(of_heads, start=1)
    ]
    write_atomically(path.with_suffix(".tsv"), partial(write_rows, rows=rows, key="pixels"))
    count = f"{len(pixels):,} image{'s' * (len(pixels) > 1)}"
    about = f"mean of {count}; all patches alike: {uniform:.1f} pixels"
    print(f"{path}\t{about}", flush=True)
