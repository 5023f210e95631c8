"""Attention looked at: which words or parts of an image a model read, as arrays and pictures.

`alignment`, `rollout` and `grid_maps` are `keras.ops` alone and belong in a graph; the others
work on NumPy arrays. Letters: `B` batch, `N` heads, `T` (target) length, `S` source length.
"""

import math
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

SPECIAL = ("", "<pad>", "<s>", "</s>")
UNKNOWN = "<unk>"
PICTURES = (".png", ".pdf", ".svg")
BYTE = re.compile("<0x([0-9A-F]{2})>")

CELL = 0.34  # inches a row or column takes
PANEL = 2.5  # inches an image takes
LONGEST_LABEL = 32  # characters
MOST_LABELS = 96  # of a side; of more, every second, third ... is written


def alignment(scores: Sequence[Any], layer: int = -2) -> Any:
    """Averages the heads of one layer's cross-attention into a soft alignment.

    Args:
        scores: list of float tensors `(B, N, T, S)`, the attention probabilities of each block, as
            `Decoder` returns them.
        layer: int. Which of them. The last but one aligns words best in a trained translator; of
            a single layer, that one is taken.

    Returns:
        float32 tensor `(B, T, S)`.

    Raises:
        ValueError: when there is no such layer.

    Example:

    >>> from keras import ops
    >>> scores = [ops.full((1, 2, 3, 5), 0.2), ops.full((1, 2, 3, 5), 0.1)]
    >>> tuple(alignment(scores).shape)
    (1, 3, 5)

    References:
        - [Garg et al., 2019](https://arxiv.org/abs/1909.02074)
    """
    if len(scores) == 1 and layer == -2:
        layer = -1
    if not -len(scores) <= layer < len(scores):
        raise ValueError(
            f"Expected layer to be one of the {len(scores)} of scores, received layer={layer}."
        )
    return ops.mean(ops.cast(scores[layer], "float32"), axis=1)


def rollout(scores: Sequence[Any]) -> Any:
    """Follows the attention through all layers, down to the positions of the inputs.

    In each layer the heads are averaged, and half of the weight goes to the residual connection:
    `A = (mean over heads + identity) / row sums`. The result is `A_last ... A_2 A_1`.

    Args:
        scores: list of float tensors `(B, N, T, T)`, the attention probabilities of each block,
            first block first, as `Encoder` returns them.

    Returns:
        float32 tensor `(B, T, T)`: row `t` says what output `t` holds of each input, and sums to
        one. For words, `word_alignment` takes a matrix of it; for images, `grid_maps` takes it.

    Example:

    >>> from keras import ops
    >>> scores = [ops.array([[[[0.0, 1.0], [0.5, 0.5]]]])] * 2
    >>> rollout(scores).numpy().tolist()
    [[[0.375, 0.625], [0.3125, 0.6875]]]

    References:
        - [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928), equation 1
    """
    identity = ops.eye(ops.shape(scores[0])[-1], dtype="float32")
    joined = identity
    for block_scores in scores:
        x = ops.mean(ops.cast(block_scores, "float32"), axis=1) + identity
        joined = ops.matmul(x / ops.sum(x, axis=-1, keepdims=True), joined)
    return joined


def grid_maps(attention: Any, grid_size: Sequence[int], num_prefix_tokens: int = 0) -> Any:
    """Lays what was read from each patch of an image out as a picture.

    Args:
        attention: float tensor `(..., T, T)`, `T = num_prefix_tokens + rows * columns`: a rollout
            `(B, T, T)`, or `(B, 1, T)` times a pool's weights, or one block's `(B, N, T, T)`.
        grid_size: tuple of int. Rows and columns of the patches.
        num_prefix_tokens: int. Tokens before the patches. The first of them, the class token, is
            the reader; without any, all patches are, on average.

    Returns:
        float32 tensor `(..., rows, columns)`; what is missing to one, the prefix tokens were given.

    Raises:
        ValueError: when the attention is not that of such a grid.

    Example:

    >>> from keras import ops
    >>> tuple(grid_maps(ops.ones((2, 3, 16, 16)), grid_size=(3, 5), num_prefix_tokens=1).shape)
    (2, 3, 3, 5)
    """
    rows, columns = grid_size
    length = num_prefix_tokens + rows * columns
    if attention.shape[-1] not in (None, length):
        raise ValueError(
            f"Expected attention over {length} positions for grid_size={tuple(grid_size)} and "
            f"num_prefix_tokens={num_prefix_tokens}, received {attention.shape[-1]}."
        )
    attention = ops.cast(attention, "float32")
    read = attention[..., 0, :] if num_prefix_tokens else ops.mean(attention, axis=-2)
    return ops.reshape(read[..., num_prefix_tokens:], (*ops.shape(read)[:-1], rows, columns))


def draw_grid_maps(
    image: np.ndarray,
    maps: np.ndarray,
    path: str | os.PathLike,
    titles: Sequence[str] = (),
) -> None:
    """Draws an image, and beside it once more under each map, the brighter the more attention.

    Args:
        image: uint8 array `(height, width, channels)`, 1 or 3 channels, or floats from 0 to 1.
        maps: float array `(rows, columns)`, or some of them `(maps, rows, columns)`.
        path: str or path. Its ending says which kind of picture: `.png`, `.pdf`, `.svg`.
        titles: str for each map, or none at all.

    Raises:
        ValueError: for arrays of other shapes, and for an ending that is no kind of picture.
        ImportError: where matplotlib is missing.
    """
    image, maps = np.asarray(image), np.array(maps, "float32", ndmin=3)
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(
            "Expected image of shape (height, width, 1 or 3) and maps of shape (maps, rows, "
            f"columns), received image.shape={image.shape} and maps.shape={maps.shape}."
        )
    height, width = image.shape[:2]
    style = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "bilinear"}
    white = 255 if image.dtype == np.uint8 else 1
    columns = math.ceil(math.sqrt(1 + len(maps)))
    lines = math.ceil((1 + len(maps)) / columns)
    figure = _new_figure((PANEL * columns, PANEL * lines * height / width), path)
    for place in range(1 + len(maps)):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
        axes.set_axis_off()
        if place:
            axes.imshow(maps[place - 1], cmap="inferno", alpha=0.6, **style)
        if place and titles:
            axes.set_title(_readable(titles[place - 1], LONGEST_LABEL), parse_math=False)
    _save(figure, Path(path))


def merge_pieces(pieces: Sequence[str], marker: str = "▁") -> tuple[list[str], list[list[int]]]:
    """Joins the subword pieces of a sentence to words.

    Byte pieces such as `<0xE2>` become the characters that they spell, and an unknown piece
    becomes `⁇`. Start, end and padding (`<pad>` or an empty string) belong to no word.

    Args:
        pieces: sequence of str.
        marker: str. What a piece begins with that begins a word.

    Returns:
        Tuple of the words, and for each word the list of the indices of its pieces.

    Example:

    >>> merge_pieces(["▁Stra", "ße", "n", "▁<", "<0xE2>", "<0x82>", "<0xAC>", "</s>"])
    (['Straßen', '<€'], [[0, 1, 2], [3, 4, 5, 6]])
    """
    spelled, groups = [], []
    for index, piece in enumerate(pieces):
        if piece in SPECIAL:
            continue
        byte = BYTE.fullmatch(piece)
        text = "⁇" if piece == UNKNOWN else piece.replace(marker, " ")
        # A marker that stands alone goes with the word behind it.
        if not spelled or (piece.startswith(marker) and spelled[-1].strip()):
            spelled.append(b"")
            groups.append([])
        spelled[-1] += bytes.fromhex(byte[1]) if byte else text.encode("utf-8", "replace")
        groups[-1].append(index)
    if spelled and not spelled[-1].strip():
        last = groups.pop()
        spelled.pop()
        if groups:
            groups[-1] += last
    return [word.decode("utf-8", "replace").strip() for word in spelled], groups


def word_alignment(
    alignment: np.ndarray, source_pieces: Sequence[str], target_pieces: Sequence[str]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Turns the alignment of pieces into an alignment of words.

    A source word gets the sum over its pieces, a target word the mean over its pieces. What is no
    part of a word is left out: the start and end tokens and padding. Since a decoder rests much of
    its attention on the end token, each row is then scaled to sum to one again; a row that has
    nothing but the end token stays zero.

    Args:
        alignment: float array `(T, S)`.
        source_pieces: `S` str.
        target_pieces: `T` str.

    Returns:
        Tuple of a float32 array `(target words, source words)`, the source words and the target
        words.

    Raises:
        ValueError: when the pieces are not as many as rows and columns.

    Example:

    >>> matrix, source, target = word_alignment(
    ...     np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]), ["▁a", "▁b", "</s>"], ["▁c", "d"]
    ... )
    >>> print(matrix.round(2), source, target)
    [[0.6 0.4]] ['a', 'b'] ['cd']
    """
    alignment = np.asarray(alignment, "float32")
    expected = (len(target_pieces), len(source_pieces))
    if alignment.shape != expected:
        raise ValueError(
            "Expected alignment of shape (target pieces, source pieces)="
            f"{expected}, received alignment.shape={alignment.shape}."
        )
    source_words, source_groups = merge_pieces(source_pieces)
    target_words, target_groups = merge_pieces(target_pieces)
    columns = _membership(source_groups, len(source_pieces))
    rows = _membership(target_groups, len(target_pieces))
    matrix = rows @ alignment @ columns.T / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    total = matrix.sum(axis=1, keepdims=True)
    matrix = np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)
    return matrix, source_words, target_words


def draw_alignment(
    matrix: np.ndarray,
    source_words: Sequence[str],
    target_words: Sequence[str],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draws an alignment: targets down, sources across, the darker the more attention.

    The rows and columns may be words or anything else that has labels. The picture grows with
    them; the file appears when it is complete, and replaces one that was there.

    Args:
        matrix: float array `(targets, sources)` of numbers from 0 to 1.
        source_words: str for each column.
        target_words: str for each row.
        path: str or path. Its ending says which kind of picture: `.png`, `.pdf`, `.svg`.
        title: str or `None`. Text above the picture.

    Raises:
        ValueError: when the labels do not fit, the matrix is empty, or the ending is no picture's.
        ImportError: where matplotlib is missing.
    """
    matrix = np.asarray(matrix, "float32")
    expected = (len(target_words), len(source_words))
    if matrix.shape != expected or 0 in expected:
        raise ValueError(
            f"Expected matrix of shape (target words, source words)={expected}, neither of them 0, "
            f"received matrix.shape={matrix.shape}."
        )
    height, width = (CELL * min(max(side, 6), MOST_LABELS) for side in matrix.shape)
    figure = _new_figure((width, height), path)
    axes = figure.add_axes((0, 0, 1, 1))  # labels lie outside; the saved box grows around them
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.xaxis.tick_top()
    _label(axes.set_xticks, source_words, rotation=60, ha="left", rotation_mode="anchor")
    _label(axes.set_yticks, target_words)
    axes.tick_params(length=0)
    if max(expected) <= MOST_LABELS:
        axes.set_xticks(np.arange(1, expected[1]) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, expected[0]) - 0.5, minor=True)
        axes.grid(which="minor", color="0.92", linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color("0.7")
    if title:
        axes.set_title(_readable(title, 120), pad=12, parse_math=False)
    _save(figure, Path(path))


def _membership(groups, length):
    """Returns a 0/1 array `(len(groups), length)` of which index is in which group."""
    matrix = np.zeros((len(groups), length), "float32")
    for row, group in enumerate(groups):
        matrix[row, group] = 1
    return matrix


def _new_figure(size, path):
    """Makes an empty figure of a size in inches, when its file's name is one for pictures."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib, which comes with `pip install "kerasformer[pipelines]"`.'
        ) from error
    if Path(path).suffix.lower() not in PICTURES:
        raise ValueError(f"Expected path to end in one of {PICTURES}, received path={str(path)!r}.")
    return Figure(figsize=size)


def _readable(text, longest):
    """Drops what cannot be drawn (control characters, lone surrogates) and shortens the rest."""
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _label(set_ticks, labels, **style):
    places = range(0, len(labels), -(-len(labels) // MOST_LABELS))
    # Without parse_math=False a word of dollar signs would be read as a formula.
    set_ticks(
        places, [_readable(labels[i], LONGEST_LABEL) for i in places], parse_math=False, **style
    )


def _save(figure, path):
    """Writes the figure under another name and renames it, so that no half a picture is left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            kind = path.suffix[1:].lower()
            figure.savefig(temporary, format=kind, dpi=120, bbox_inches="tight", pad_inches=0.15)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
