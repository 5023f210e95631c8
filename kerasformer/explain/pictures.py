"""Pictures: alignments between words, maps over images, how far heads look."""

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasformer.explain.fonts import fonts_for, require_matplotlib
from kerasformer.explain.words import readable

PICTURES = (".png", ".pdf", ".svg")
CELL_SIZE = 0.34  # inches of a row or column, fewer where there are many
PANEL_SIZE = 2.5  # inches of an image, likewise
LARGEST = 14.5  # inches of all rows or columns
NARROWEST = 0.8  # inches, because a title stands above an image
TITLE_SIZE = 0.4  # inches above it
TITLE_LETTER = 0.085  # inches
SMALL_LETTER = 0.065  # inches of a letter above a panel of a sheet
SCALE_SIZE = 1.0  # inches beside the images for what their colours mean
TALLEST = 30.0  # inches of all lines of panels
MAX_LABEL_LENGTH = 32  # characters
MAX_LABELS = 96  # of a side; of more, every second or third or ... is written


def draw_grid_maps(
    image: np.ndarray,
    maps: np.ndarray,
    path: str | os.PathLike,
    titles: Sequence[str] = (),
) -> None:
    """Draws an image, and beside it the image under each map, brighter where attention is higher.

    A scale says which share of the attention a colour is, in per cent; all maps have the same.

    Args:
        image: uint8 array `(height, width, channels)`, or floats from 0 to 1; 1 channel, 3, or 4
            with transparency.
        maps: float array `(rows, columns)`, or several `(maps, rows, columns)`.
        path: str or path. It ends in `.png`, `.pdf` or `.svg`.
        titles: one str for each map, or none.

    Raises:
        ValueError: for arrays of other shapes, and for a path with another ending.
        ImportError: where matplotlib is missing.
    """
    image, maps = np.asarray(image), np.array(maps, "float32", ndmin=3)
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4) or maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(
            "Expected image of shape (height, width, 1, 3 or 4) and maps of shape (maps, rows, "
            f"columns), received image.shape={image.shape} and maps.shape={maps.shape}."
        )
    height, width = image.shape[:2]
    style = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "bilinear"}
    style |= {"cmap": "inferno", "alpha": 0.6}
    white = 255 if image.dtype == np.uint8 else 1
    count = 1 + len(maps)
    columns = min(math.ceil(math.sqrt(count * height / width)), count)
    lines = math.ceil(count / columns)
    title_size = TITLE_SIZE if titles else 0.0
    longest = max(height, width)
    panel = min(max(PANEL_SIZE * width / longest, NARROWEST), LARGEST / columns)
    row = min(PANEL_SIZE * height / longest, LARGEST / lines)
    size = panel * columns + SCALE_SIZE, max((row + title_size) * lines, PANEL_SIZE)
    figure = _new_figure(size, path)
    panels = figure.add_gridspec(lines, columns, right=1 - SCALE_SIZE / size[0])
    highest = 100 * max(maps.max(), 1e-9)
    for index in range(1 + len(maps)):
        axes = figure.add_subplot(panels[divmod(index, columns)])
        axes.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
        axes.set_axis_off()
        if index:
            drawn = axes.imshow(100 * maps[index - 1], vmin=0, vmax=highest, **style)
        if index and titles:
            title = readable(titles[index - 1], max(int(panel / TITLE_LETTER), 1))
            with fonts_for([title]):
                axes.set_title(title, fontsize=9, parse_math=False)
    bar = figure.add_axes((1 - SCALE_SIZE / size[0] + 0.3 / size[0], 0.15, 0.15 / size[0], 0.7))
    figure.colorbar(drawn, cax=bar).set_label("share of the attention, %")
    _save(figure, Path(path))


class Panel(NamedTuple):
    """An image of a sheet, under a map and a title if there are some.

    Attributes:
        image: uint8 array `(height, width, channels)` of 1, 3 or 4 channels.
        title: str.
        map: float array `(rows, columns)`, drawn from 0 to its largest number; or `None`.
        opacity: float. How much of the image the map covers, up to 1.
    """

    image: np.ndarray
    title: str = ""
    map: np.ndarray | None = None
    opacity: float = 0.6


def draw_panels(
    lines: Sequence[Sequence[Panel]], path: str | os.PathLike, label: str = "", title: str = ""
) -> None:
    """Draws a sheet of images in lines, each with a map of its own scale.

    Args:
        lines: list of `Panel` for each line; lines may differ in length.
        path: str or path. It ends in `.png`, `.pdf` or `.svg`. The file appears when it is
            complete, and replaces one of the same name.
        label: str. What the colours of maps mean, beside their scale from 0 to 100 %; in several
            lines, if it has line ends.
        title: str. Text above the sheet.

    Raises:
        ValueError: when there is no panel, for an image of another shape, and for a path with
            another ending.
        ImportError: where matplotlib is missing.
    """
    panels = [panel for line in lines for panel in line]
    shapes = [np.shape(panel.image) for panel in panels]
    wrong = [shape for shape in shapes if len(shape) != 3 or shape[-1] not in (1, 3, 4)]
    if not panels or wrong:
        raise ValueError(
            "Expected panels with images of shape (height, width, 1, 3 or 4), received "
            f"{len(panels)} panels{f' and image.shape={wrong[0]}' if wrong else ''}."
        )
    columns = max(map(len, lines))
    height, width = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    title_size = 0.1 + 0.14 * max(len(panel.title.splitlines()) for panel in panels)
    longest = max(height, width)
    side = min(PANEL_SIZE, LARGEST / columns * longest / width, TALLEST / len(lines))
    panel_width = max(side * width / longest, NARROWEST)
    line_height = side * height / longest + title_size
    has_scale = any(panel.map is not None for panel in panels)
    beside = SCALE_SIZE if has_scale else 0.1
    above = 0.25 if title else 0.0
    size = panel_width * columns + beside, max(line_height * len(lines), 2.4 * has_scale) + above
    figure = _new_figure(size, path)
    if title:
        with fonts_for([title]):
            figure.suptitle(readable(title, 120), fontsize=10, y=1, va="top", parse_math=False)
    grid = figure.add_gridspec(
        len(lines),
        columns,
        left=0,
        bottom=0,
        right=1 - beside / size[0],
        top=1 - (above + title_size) / size[1],
        wspace=0.1,
        hspace=title_size * 1.1 / (line_height - title_size),
    )
    drawn = None
    for row, line in enumerate(lines):
        for column, panel in enumerate(line):
            axes = figure.add_subplot(grid[row, column])
            drawn = _draw_panel(axes, panel, panel_width) or drawn
    if drawn is not None:
        bar = figure.add_axes((1 - (beside - 0.2) / size[0], 0.1, 0.15 / size[0], 0.75))
        figure.colorbar(drawn, cax=bar).set_label(label)
    _save(figure, Path(path))


def _draw_panel(axes, panel, width):
    """Draws one image, and returns what the colours of its map belong to."""
    image = np.asarray(panel.image)
    height, columns = image.shape[:2]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    if panel.title:
        text = "\n".join(
            readable(line, max(int(width / SMALL_LETTER), 1)) for line in panel.title.split("\n")
        )
        with fonts_for([text]):
            axes.set_title(text, fontsize=8, pad=3, parse_math=False)
    if panel.map is None:
        return None
    is_coarse = np.shape(panel.map) != image.shape[:2]
    return axes.imshow(
        100 * np.asarray(panel.map, "float32") / max(np.max(panel.map), 1e-9),
        extent=(-0.5, columns - 0.5, height - 0.5, -0.5),
        interpolation="bilinear" if is_coarse else "nearest",
        cmap="inferno",
        alpha=panel.opacity,
        vmin=0,
        vmax=100,
    )


def draw_distances(
    distances: np.ndarray, path: str | os.PathLike, uniform: float | None = None
) -> None:
    """Draws how far each head looks, over the depth of its block.

    Args:
        distances: float array `(layers, heads)`, in pixels, as `attention_distance` gives them.
        path: str or path. It ends in `.png`, `.pdf` or `.svg`.
        uniform: float or `None`. The distance of a head that attends to all patches alike, as a
            line.

    Raises:
        ValueError: for an array of another shape, and for a path with another ending.
        ImportError: where matplotlib is missing.

    References:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929), figure 11
    """
    distances = np.asarray(distances, "float32")
    if distances.ndim != 2 or 0 in distances.shape:
        raise ValueError(
            "Expected distances of shape (layers, heads), neither of them 0, received "
            f"distances.shape={distances.shape}."
        )
    layers, heads = distances.shape
    figure = _new_figure((min(3.2 + 0.3 * layers, LARGEST), 3.4), path)
    axes = figure.add_subplot()
    depths = np.arange(1, layers + 1)
    for head in range(heads):
        name = f"head {head + 1}" if heads <= 8 else None
        axes.plot(depths, distances[:, head], "o", markersize=5, alpha=0.8, label=name)
    if uniform is not None:
        axes.axhline(uniform, color="0.5", linestyle="--", linewidth=1, label="all patches alike")
    axes.set_xlabel("block")
    axes.set_ylabel("mean attention distance, pixels")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0.5, layers + 0.5)
    axes.set_ylim(0, 1.08 * max(distances.max(), uniform or 0, 1e-9))
    axes.grid(alpha=0.3)
    if heads <= 8 or uniform is not None:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _save(figure, Path(path))


def draw_alignment(
    matrix: np.ndarray,
    source_words: Sequence[str],
    target_words: Sequence[str],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draws an alignment: targets down, sources across, darker where attention is higher.

    Rows and columns may be words or anything else that has labels. The picture grows with their
    number. The file appears when it is complete, and replaces one of the same name.

    Args:
        matrix: float array `(targets, sources)` of numbers from 0 to 1.
        source_words: str for each column.
        target_words: str for each row.
        path: str or path. It ends in `.png`, `.pdf` or `.svg`.
        title: str or `None`. Text above the picture.

    Raises:
        ValueError: when labels and matrix differ in size, the matrix is empty, or the path has
            another ending.
        ImportError: where matplotlib is missing.
    """
    matrix = np.asarray(matrix, "float32")
    expected = (len(target_words), len(source_words))
    if matrix.shape != expected or 0 in expected:
        raise ValueError(
            f"Expected matrix of shape (target words, source words)={expected}, neither of them 0, "
            f"received matrix.shape={matrix.shape}."
        )
    height, width = (min(CELL_SIZE * max(side, 6), LARGEST) for side in matrix.shape)
    figure = _new_figure((width, height), path)
    axes = figure.add_axes((0, 0, 1, 1))  # labels lie outside; the saved box grows around them
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.xaxis.tick_top()
    _label(axes.set_xticks, source_words, rotation=60, ha="left", rotation_mode="anchor")
    _label(axes.set_yticks, target_words)
    axes.tick_params(length=0)
    if max(expected) <= MAX_LABELS:
        axes.set_xticks(np.arange(1, expected[1]) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, expected[0]) - 0.5, minor=True)
        axes.grid(which="minor", color="0.92", linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color("0.7")
    if title:
        with fonts_for([title]):
            axes.set_title(readable(title, 120), pad=12, parse_math=False)
    _save(figure, Path(path))


def _new_figure(size, path):
    """Makes an empty figure of a size in inches, unless its path is not that of a picture."""
    matplotlib = require_matplotlib()
    if Path(path).suffix.lower() not in PICTURES:
        raise ValueError(f"Expected path to end in one of {PICTURES}, received path={str(path)!r}.")
    return matplotlib.figure.Figure(figsize=size)


def _label(set_ticks, labels, **style):
    positions = range(0, len(labels), -(-len(labels) // MAX_LABELS))
    texts = [readable(labels[i], MAX_LABEL_LENGTH) for i in positions]
    style["fontsize"] = 10 if len(labels) * CELL_SIZE <= 2 * LARGEST else 8
    with fonts_for(texts):
        # Without parse_math=False a word of dollar signs would be read as a formula.
        set_ticks(positions, texts, parse_math=False, **style)


def save_figure(figure, path: str | os.PathLike, **options) -> None:
    """Writes a figure without a warning for each letter that is a box: `fonts_for` has said it.

    Args:
        figure: matplotlib's `Figure`.
        path: str or path.
        **options: those of its `savefig`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, **options)


def _save(figure, path):
    """Writes the figure under another name and renames it, so that no half-written file is left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        kind = path.suffix[1:].lower()
        style = {"dpi": 120, "bbox_inches": "tight", "pad_inches": 0.15}
        save_figure(figure, temporary, format=kind, **style)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
