"""The half of the page that shows a translator: its answers, and what each word looked at.

Everything is HTML and CSS. Each word carries what it got from every word of the other side
(`--s3: 0.25`), and one rule for each word lets the other side show that number as its shade while
the word is under the pointer or has the focus.
"""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasformer import explain
from pipelines.page.links import MAX_CHARACTERS, State, anchor, fault

LEAST_SHARE = 0.01  # below, a word keeps its background
NAMED = 3  # words that a label names


def answer(signatures: Mapping, state: State) -> str:
    """Translates the text of a state and writes what came out as HTML.

    Args:
        signatures: those of an exported translator; without `align`, no attention is shown.
        state: with `model` and `text`.

    Returns:
        HTML; one sentence for a text that is empty or too long.
    """
    # A lone half of a surrogate pair is no UTF-8.
    text = " ".join(state.text.encode("utf-8", "replace").decode().split())
    if not text:
        return fault("Please type a sentence to translate.")
    if len(text) > MAX_CHARACTERS:
        return fault(f"Expected at most {MAX_CHARACTERS} characters, received {len(text)}.")
    sentence = tf.constant([text])
    found = signatures["translate_nbest"](text=sentence)
    parts = [hypotheses(found["translations"][0].numpy(), found["scores"][0].numpy())]
    if found["truncated"][0]:
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
    for side, words, shares, others in (
        ("s", source, matrix.T, target),
        ("t", target, matrix, source),
    ):
        other = "s" if side == "t" else "t"
        verb = "looked at" if side == "t" else "was looked at by"
        spelled = [
            _word(f"{side}{i}", word, other, row, f"{word} {verb} {_label(row, others)}")
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
    """Names the words that have most of a row: `dog 84 %, a 9 %`."""
    best = np.argsort(-row, kind="stable")[:NAMED]
    named = [f"{words[i]} {100 * row[i]:.0f} %" for i in best if row[i] >= LEAST_SHARE]
    return ", ".join(named) or "no word"


def _rules(count, side, other):
    """Lets each word of the other side show what it shares with the chosen word of this side."""
    # A word under the pointer goes before one that has the focus.
    chosen = ".pair:has(.{0}:hover) .{1},.pair:not(:has(.word:hover)):has(.{0}:focus) .{1}"
    return "".join(
        f"{chosen.format(f'{side}{i}', other)}{{--share:var(--{side}{i},0)}}" for i in range(count)
    )
