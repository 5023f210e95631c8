"""The half of the page that shows a translator: its answers, and what each word looked at.

Everything is HTML and CSS. Each word carries its share of every word of the other side
(`--s3: 0.25`). One CSS rule for each word makes the other side show these numbers as shades while
the word is under the pointer or has the focus.
"""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasformer import explain
from pipelines.page.links import MAX_CHARACTERS, State, alert, anchor

LEAST_SHARE = 0.01  # below, a word keeps its background
LABEL_WORDS = 3  # words in a label


def answer(signatures: Mapping, state: State) -> str:
    """Translates the text of a state and writes the answer as HTML.

    Args:
        signatures: those of an exported translator; without `align`, no attention is shown.
        state: with `model` and `text`.

    Returns:
        HTML; one sentence for a text that is empty or too long.
    """
    # Half of a surrogate pair alone is not UTF-8.
    text = " ".join(state.text.encode("utf-8", "replace").decode().split())
    if not text:
        return alert("Please type a sentence to translate.")
    if len(text) > MAX_CHARACTERS:
        return alert(f"Expected at most {MAX_CHARACTERS} characters, received {len(text)}.")
    sentence = tf.constant([text])
    outputs = signatures["translate_nbest"](text=sentence)
    parts = [hypotheses(outputs["translations"][0].numpy(), outputs["scores"][0].numpy())]
    if outputs["truncated"][0]:
        parts.append(
            '<p class="hint">The text is longer than the model reads; its end was cut.</p>'
        )
    if "align" in signatures:
        aligned = signatures["align"](text=sentence)
        pieces = (aligned[key][0].numpy() for key in ("source_tokens", "target_tokens"))
        pieces = ([piece.decode("utf-8", "replace") for piece in side] for side in pieces)
        parts.append(pair(*explain.word_alignment(aligned["alignment"][0].numpy(), *pieces)))
    parts.append(f'<p class="hint">{anchor(state._replace(text=text), "Link to this")}</p>')
    return f'<div class="answer">{"".join(parts)}</div>'


def hypotheses(translations: Sequence[bytes], scores: Sequence[float]) -> str:
    """Writes the hypotheses, best first, with their scores."""
    rows = [
        f'<li><span dir="auto">{html.escape(text.decode("utf-8", "replace"))}</span> '
        f'<span class="number">{_signed(score)}</span></li>'
        for text, score in zip(translations, scores, strict=True)
        if score > -np.inf
    ]
    return (
        '<h3>Translations <span class="hint">score: log-probability, adjusted for length</span>'
        f'</h3><ol class="hypotheses">{"".join(rows)}</ol>'
    )


def pair(matrix: np.ndarray, source: Sequence[str], target: Sequence[str]) -> str:
    """Writes both sentences so that a word shows what it looked at, or who looked at it.

    Args:
        matrix: float array `(target words, source words)`, rows that sum to one.
        source: the source words.
        target: the target words.

    Returns:
        HTML; nothing where one of the sentences has no words.
    """
    if not matrix.size:
        return ""
    lines = []
    for side, words, shares, other_words in (
        ("s", source, matrix.T, target),
        ("t", target, matrix, source),
    ):
        other = "s" if side == "t" else "t"
        verb = "looked at" if side == "t" else "was looked at by"
        spelled = [
            _word(f"{side}{i}", word, other, row, f"{word} {verb} {_label(row, other_words)}")
            for i, (word, row) in enumerate(zip(words, shares, strict=True))
        ]
        name = "The sentence" if side == "s" else "Its translation"
        lines.append(
            f'<p class="side" dir="auto" role="group" aria-label="{name}">{" ".join(spelled)}</p>'
        )
    return (
        f"<style>{_rules(len(source), 's', 't')}{_rules(len(target), 't', 's')}</style>"
        '<h3>Attention <span class="hint">point at a word, tap it or move to it with Tab</span>'
        f'</h3><div class="pair">{"".join(lines)}</div>'
    )


def _signed(score):
    return f"{score:.2f}".replace("-", "\N{MINUS SIGN}")


def _word(name, word, other, row, label):
    shares = [f"--{other}{i}:{share:.2f}" for i, share in enumerate(row) if share >= LEAST_SHARE]
    return (
        f'<button type="button" class="word {name[0]} {name}" style="{";".join(shares)}" '
        f'aria-label="{html.escape(label)}">{html.escape(word)}</button>'
    )


def _label(row, words):
    """Lists the words with the largest shares of a row: `dog 84 %, a 9 %`."""
    best = np.argsort(-row, kind="stable")[:LABEL_WORDS]
    parts = [f"{words[i]} {100 * row[i]:.0f} %" for i in best if row[i] >= LEAST_SHARE]
    return ", ".join(parts) or "no word"


def _rules(count, side, other):
    """Writes the rules by which the other side shows its shares of a chosen word of this side."""
    # A word under the pointer takes precedence over one that has the focus.
    chosen = ".pair:has(.{0}:hover) .{1},.pair:not(:has(.word:hover)):has(.{0}:focus) .{1}"
    return "".join(
        f"{chosen.format(f'{side}{i}', other)}{{--share:var(--{side}{i},0)}}" for i in range(count)
    )
