"""Translates text with a folder for CTranslate2, by the search that was chosen at its export.

CTranslate2 searches like `decoding.beam_search`, but for three things, which are made up for here:
it knows no length penalty `"wu"` and leaves the end token out of the length, it has one limit for
a batch instead of one for each sentence, and it stops after a number of finished hypotheses. So it
is asked for sums of log-probabilities of more hypotheses than are needed, and they are ranked here.

Letters: `B` sentences, `n` hypotheses, `S` source tokens, `T` target tokens.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
from keras import ops

from kerasformer.decoding import length_penalty
from kerasformer.interop.agreement import one_sentence
from kerasformer.interop.ctranslate2 import import_ctranslate2

PAD, START, END = 0, 1, 2
SEARCH = "decode.json"  # The search, beside what CTranslate2 reads.
TOKENIZERS = ("tokenizer.model", "target_tokenizer.model")
PATIENCE = 5.0  # Times `beam_size`: as many hypotheses end before a sentence is done.
HYPOTHESES = 4  # that are returned where the search does not say how many


class Hypothesis(NamedTuple):
    """A translation as CTranslate2 found it.

    Attributes:
        total: float. Sum of the log-probabilities of its tokens.
        ids: list of int, with the end token if it has ended.
        attention: list of `T` lists of `S - 1` floats, without the end token of the source; or
            `None`.
    """

    total: float = 0.0
    ids: Sequence[int] = ()
    attention: Any = None

    @property
    def has_ended(self) -> bool:
        return END in self.ids


class CTranslate2Translator:
    """Translates text as the run does that a folder was exported from.

    Its methods are signatures of the SavedModel of that run: texts in, a dict of NumPy arrays of
    the same names out, in which strings are bytes.

    Args:
        folder: str or path of what `apps.export --format=ctranslate2` wrote.
        **options: what `ctranslate2.Translator` takes, such as `device` or `intra_threads`.

    Raises:
        ImportError: where CTranslate2 is missing.
        ValueError: when a file is missing or cannot be read.

    Example:

    >>> try:
    ...     CTranslate2Translator("absent")
    ... except ValueError as error:
    ...     print(str(error).partition(":")[0])
    Cannot read a translator for CTranslate2 from 'absent'

    References:
        - [Klein et al., 2020](https://aclanthology.org/2020.ngt-1.25/)
    """

    def __init__(self, folder, **options):
        ctranslate2 = import_ctranslate2()
        folder = Path(folder)
        with one_sentence(f"Cannot read a translator for CTranslate2 from {str(folder)!r}"):
            self.search = json.loads((folder / SEARCH).read_text("utf-8"))
            paths = [path for path in (folder / name for name in TOKENIZERS) if path.exists()]
            found = [sentencepiece.SentencePieceProcessor(model_file=str(path)) for path in paths]
            self.tokenizer, self.target_tokenizer = found[0], found[-1]
            self.translator = ctranslate2.Translator(str(folder), **options)
        self.tokens = _tokens(self.tokenizer)
        self.target_tokens = _tokens(self.target_tokenizer)
        self.ids = {token: number for number, token in enumerate(self.target_tokens)}

    def translate(self, text):
        """Translates each sentence.

        Args:
            text: sequence of `B` texts.

        Returns:
            Dict of `translation` `(B,)`, `score` float32 `(B,)` (log-probability over the length
            penalty) and `truncated` bool `(B,)`.
        """
        sources, truncated = self._read(text)
        found = self._search(sources, 1)
        best = [hypotheses[0] for hypotheses, _ in found]
        return {
            "translation": self._texts(best),
            "score": np.array([scores[0] for _, scores in found], "float32"),
            "truncated": truncated | _are_cut(best),
        }

    def translate_nbest(self, text):
        """Translates each sentence in several ways, best first.

        Args:
            text: sequence of `B` texts.

        Returns:
            Dict of `translations` `(B, n)`, `scores` float32 `(B, n)` (`-inf` where there are fewer
            than `n`) and `truncated` bool `(B,)`.
        """
        sources, truncated = self._read(text)
        found = self._search(sources, self.num_hypotheses)
        rows = [self._texts(hypotheses) for hypotheses, _ in found]
        shape = len(sources), self.num_hypotheses
        return {
            "translations": np.array(rows, object).reshape(shape),
            "scores": np.array([scores for _, scores in found], "float32").reshape(shape),
            "truncated": truncated | _are_cut([hypotheses[0] for hypotheses, _ in found]),
        }

    def score(self, source, target):
        """Computes how probable given translations are.

        Args:
            source: sequence of `B` texts.
            target: sequence of `B` texts, a translation of each.

        Returns:
            Dict of `log_probability` float32 `(B,)`, in nats, of the tokens of the target and its
            end token; their number, `tokens` int32 `(B,)`; and `truncated` bool `(B,)`, whether
            the end of the source was not read.
        """
        sources, truncated = self._read(source)
        targets = self.target_tokenizer.encode(_utf8(target))
        scores = [result.log_probs for result in self._scored(sources, targets)]
        return {
            "log_probability": np.array([sum(row) for row in scores], "float32"),
            "tokens": np.array([len(row) for row in scores], "int32"),
            "truncated": truncated,
        }

    def signatures(self) -> dict:
        """Returns the methods by name, as the SavedModel has them."""
        return {
            "translate": self.translate,
            "translate_nbest": self.translate_nbest,
            "score": self.score,
        }

    @property
    def num_hypotheses(self) -> int:
        """Returns how many translations `translate_nbest` gives."""
        return self.search["num_hypotheses"] or min(HYPOTHESES, self.search["beam_size"])

    def _read(self, texts):
        """Tokenizes texts to ids without the end token, cut to the limit."""
        ids = self.tokenizer.encode(_utf8(texts))
        limit = self.search["max_source_length"] - 1
        return [row[:limit] for row in ids], np.array([len(row) > limit for row in ids], bool)

    def _texts(self, hypotheses):
        """Joins the tokens of hypotheses to texts, an object array of bytes."""
        ids = [[i for i in hypothesis.ids if i != END] for hypothesis in hypotheses]
        texts = [self.target_tokenizer.decode(row) if row else "" for row in ids]
        return np.array([text.encode("utf-8") for text in texts], object)

    def _search(self, sources, count):
        """Finds the best `count` hypotheses of each sentence, and their scores."""
        lengths = np.array([len(source) + 1 for source in sources], "float32")
        limits = (np.float32(self.search["max_ratio"]) * lengths).astype(int)
        limits += self.search["max_extra"]
        rows = [row for row, source in enumerate(sources) if source and limits[row] > 0]
        found, largest = {}, max(limits[rows], default=0)
        if rows:
            found.update(zip(rows, self._run(sources, rows, largest), strict=True))
        # Where too few have ended within the own limit of a sentence, it is searched with that.
        short = [row for row in rows if _count(found[row], limits[row]) < count]
        for limit in {limits[row] for row in short} - {largest}:
            same = [row for row in short if limits[row] == limit]
            found.update(zip(same, self._run(sources, same, limit), strict=True))
        return [self._ranked(found.get(row), limits[row], count) for row in range(len(sources))]

    def _run(self, sources, rows, limit):
        """Lists the hypotheses of some sentences that CTranslate2 finds within one limit."""
        sources = [sources[row] for row in rows]
        beams = self.search["beam_size"]
        options = {"beam_size": beams, "patience": PATIENCE}
        prefix = self.target_tokenizer.encode(self.search["prefix"])
        offsets = [0.0] * len(rows)
        if prefix:
            # CTranslate2 does not count what it was told.
            scored = self._scored(sources, [prefix] * len(rows))
            offsets = [sum(result.log_probs[:-1]) for result in scored]
            options["target_prefix"] = [self._spell(prefix)] * len(rows)
        elif beams == 1:
            # A beam search and not a greedy one, which would stop at the first end token.
            options["prefix_bias_beta"] = 1e-6
        results = self.translator.translate_batch(
            [[self.tokens[i] for i in source] for source in sources],
            **options,
            num_hypotheses=round(beams * PATIENCE) if beams > 1 or not prefix else 1,
            length_penalty=0,
            return_scores=True,
            return_end_token=True,
            max_input_length=0,
            max_decoding_length=int(limit),
            min_decoding_length=0,
        )
        return [
            [
                Hypothesis(total + offset, [self.ids[token] for token in tokens])
                for total, tokens in zip(result.scores, result.hypotheses, strict=True)
            ]
            for result, offset in zip(results, offsets, strict=True)
        ]

    def _ranked(self, hypotheses, limit, count):
        """Takes the best `count` of some hypotheses, those that have not ended last."""
        if hypotheses is None:
            return [Hypothesis()] * count, [0.0] * count
        kept = [x for x in hypotheses if len(x.ids) <= limit and not {PAD, START} & set(x.ids)]
        lengths = np.array([len(hypothesis.ids) for hypothesis in kept])
        penalties = length_penalty(lengths, self.search["alpha"], self.search["length_penalty"])
        scores = np.array([x.total for x in kept], "float32") / ops.convert_to_numpy(penalties)
        order = sorted(range(len(kept)), key=lambda i: (not kept[i].has_ended, -scores[i]))[:count]
        missing = count - len(order)
        return (
            [kept[i] for i in order] + [Hypothesis()] * missing,
            [scores[i] for i in order] + [-np.inf] * missing,
        )

    def _scored(self, sources, targets):
        return self.translator.score_batch(
            [[self.tokens[i] for i in source] for source in sources],
            [self._spell(target) for target in targets],
            max_input_length=0,
        )

    def _spell(self, ids):
        return [self.target_tokens[i] for i in ids]


def _tokens(tokenizer):
    return [tokenizer.id_to_piece(i) for i in range(tokenizer.get_piece_size())]


def _utf8(texts):
    return [x if isinstance(x, str) else bytes(x).decode("utf-8", "replace") for x in texts]


def _count(hypotheses, limit):
    """Counts the hypotheses that have ended within a limit."""
    return sum(hypothesis.has_ended and len(hypothesis.ids) <= limit for hypothesis in hypotheses)


def _are_cut(hypotheses):
    """Tells of each hypothesis whether it has words and no end token."""
    return np.array([bool(x.ids) and not x.has_ended for x in hypotheses], bool)
