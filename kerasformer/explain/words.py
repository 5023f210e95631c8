"""Attention between the words of two sentences, made from that between their pieces."""

import re
from collections.abc import Sequence

import numpy as np

SPECIAL = ("", "<pad>", "<s>", "</s>")
UNKNOWN = "<unk>"
BYTE = re.compile("<0x([0-9A-F]{2})>")
# The letters of scripts that write no spaces between words; the last are Thai, Lao, Tibetan,
# Burmese with its two extensions, and Khmer.
HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
ABUGIDAS = "\u0e00-\u0fff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"
UNSPACED = re.compile(f"[{HAN}{KANA}{ABUGIDAS}]")


def merge_pieces(pieces: Sequence[str], marker: str = "▁") -> tuple[list[str], list[list[int]]]:
    """Joins the subword pieces of a sentence to words.

    Where a script writes no spaces, as in Chinese and Thai, each piece is a word.
    Byte pieces such as `<0xE2>` become the characters that they spell, and an unknown piece
    becomes `⁇`. Start, end and padding (`<pad>` or an empty string) are part of no word.

    Args:
        pieces: sequence of str.
        marker: str. The beginning of each piece that begins a word.

    Returns:
        Tuple of the words, and for each word the list of the indices of its pieces.

    Example:

    >>> merge_pieces(["▁Stra", "ße", "n", "▁<", "<0xE2>", "<0x82>", "<0xAC>", "</s>"])
    (['Straßen', '<€'], [[0, 1, 2], [3, 4, 5, 6]])
    >>> merge_pieces(["▁", "我", "喜欢", "茶", "。"])
    (['我', '喜欢', '茶。'], [[0, 1], [2], [3, 4]])
    """
    spelled, groups = [], []
    for index, piece in enumerate(pieces):
        if piece in SPECIAL:
            continue
        byte = BYTE.fullmatch(piece)
        text = "⁇" if piece == UNKNOWN else piece.replace(marker, " ")
        # A marker that stands alone belongs to the word after it.
        begins = piece.startswith(marker) or UNSPACED.match(text)
        if not spelled or (begins and spelled[-1].strip()):
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

    A source word gets the sum over its pieces, a target word the mean over its pieces. Start and
    end tokens and padding are left out. Each row is then scaled to sum to one again, because a
    decoder often attends mostly to the end token. A row that attends to nothing else stays zero.

    Args:
        alignment: float array `(T, S)`.
        source_pieces: `S` str.
        target_pieces: `T` str.

    Returns:
        Tuple of a float32 array `(target words, source words)`, the source words and the target
        words.

    Raises:
        ValueError: when the numbers of pieces are not those of rows and columns.

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


def _membership(groups, length):
    """Returns an array `(len(groups), length)`, 1 where an index is in a group and else 0."""
    matrix = np.zeros((len(groups), length), "float32")
    for row, group in enumerate(groups):
        matrix[row, group] = 1
    return matrix


def readable(text: str, max_length: int) -> str:
    """Drops what cannot be drawn (control characters, lone surrogates) and shortens the rest."""
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
