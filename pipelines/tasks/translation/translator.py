"""The translator that is exported: strings in, strings out, tokenizer and search in the graph.

Letters: `B` sentences, `S` source tokens, `T` target tokens, `n` hypotheses.
"""

import numpy as np
import tensorflow as tf

from kerasformer import explain
from kerasformer.interop.onnx_text import TextSearch
from kerasformer.tokenizers import SentencePieceTokenizer
from pipelines.tasks.translation import id_translator
from pipelines.tasks.translation.decode import search

TEXT = tf.TensorSpec((None,), tf.string, name="text")
TOKENS = tf.TensorSpec((None,), tf.int32, name="tokens")
STARTS = tf.TensorSpec((None,), tf.int64, name="starts")
SOURCE, TARGET = (tf.TensorSpec((None,), tf.string, name=name) for name in ("source", "target"))


class Translator(tf.Module):
    """Translates UTF-8 strings with a trained model, in signatures that a SavedModel keeps.

    An empty sentence (or one of spaces) has the empty translation. A sentence is cut off after
    `max_source_length` tokens, and a translation at its largest length; `truncated` tells both.

    Args:
        model: built `Seq2SeqTransformer`.
        tokenizer: `SentencePieceTokenizer` of both languages, or another one with its methods.
        decode: ConfigDict, the `decode` part of a translation config.
        target_tokenizer: the tokenizer of the target, if the source has another.
    """

    def __init__(self, model, tokenizer, decode, target_tokenizer=None):
        super().__init__(name="translator")
        self.model = model
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer or tokenizer
        self._decode = decode

    @tf.function(input_signature=[TEXT])
    def translate(self, text):
        """Translates each sentence.

        Args:
            text: string tensor `(B,)`.

        Returns:
            Dict of `translation` string `(B,)`, `score` float32 `(B,)` (log-probability over the
            length penalty) and `truncated` bool `(B,)`.
        """
        source, truncated = self._read(text)
        best = self._search(source, 1)
        return {
            "translation": self.target_tokenizer.detokenize(best.token_ids[:, 0]),
            "score": best.scores[:, 0],
            "truncated": truncated | self._is_cut(best),
        }

    @tf.function(input_signature=[TEXT])
    def translate_nbest(self, text):
        """Translates each sentence in several ways, best first.

        Args:
            text: string tensor `(B,)`.

        Returns:
            Dict of `translations` string `(B, n)`, `scores` float32 `(B, n)` (`-inf` where there
            are fewer than `n`) and `truncated` bool `(B,)`.
        """
        source, truncated = self._read(text)
        hypotheses = self._search(source)
        shape = tf.shape(hypotheses.scores)
        flat = tf.reshape(hypotheses.token_ids, (shape[0] * shape[1], -1))
        return {
            "translations": tf.reshape(self.target_tokenizer.detokenize(flat), shape),
            "scores": hypotheses.scores,
            "truncated": truncated | self._is_cut(hypotheses),
        }

    @tf.function(input_signature=[TEXT])
    def align(self, text):
        """Translates each sentence and shows where the decoder looked for each token.

        Args:
            text: string tensor `(B,)`.

        Returns:
            Dict of `translation` string `(B,)`, `source_tokens` string `(B, S)`, `target_tokens`
            string `(B, T)` (both with the end token, then empty strings) and `alignment` float32
            `(B, T, S)`, whose rows of real tokens sum to one.
        """
        source, _ = self._read(text)
        token_ids = self._search(source, 1).token_ids[:, 0]
        is_token = token_ids != self.model.pad_id
        lengths = tf.reduce_sum(tf.cast(is_token, tf.int32), axis=1)
        longest = tf.maximum(tf.reduce_max(lengths), 1)
        token_ids, is_token = token_ids[:, :longest], is_token[:, :longest]
        start = tf.fill((tf.shape(source)[0], 1), self.model.start_id)
        target = tf.concat([start, token_ids], axis=1)[:, :-1]
        context, context_mask = self.model.encode(source, training=False)
        _, scores = self.model.decode(
            target, context, context_mask, training=False, return_attention_scores=True
        )
        alignment = tf.cast(explain.alignment(scores), tf.float32)
        return {
            "translation": self.target_tokenizer.detokenize(token_ids),
            "source_tokens": self._spell(self.tokenizer, source),
            "target_tokens": self._spell(self.target_tokenizer, token_ids),
            "alignment": alignment * tf.cast(is_token, tf.float32)[:, :, None],
        }

    @tf.function(input_signature=[SOURCE, TARGET])
    def score(self, source, target):
        """Computes how probable given translations are.

        Args:
            source: string tensor `(B,)`.
            target: string tensor `(B,)`, a translation of each.

        Returns:
            Dict of `log_probability` float32 `(B,)`, in nats, of the tokens of the target and its
            end token; their number, `tokens` int32 `(B,)`; and `truncated` bool `(B,)`, whether
            the end of the source was not read.
        """
        source, truncated = self._read(source)
        labels = self._end(self.target_tokenizer.tokenize(target))
        start = tf.fill((tf.shape(labels)[0], 1), self.model.start_id)
        inputs = {"source": source, "target": tf.concat([start, labels], axis=1)[:, :-1]}
        logits = self.model(inputs, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        real = labels != self.model.pad_id
        return {
            "log_probability": -tf.reduce_sum(tf.where(real, losses, 0.0), axis=1),
            "tokens": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
            "truncated": truncated,
        }

    @tf.function(input_signature=[TOKENS, STARTS])
    def translate_tokens(self, tokens, starts):
        """Does what `translate` does between the tokenizers, for `interop.onnx_text.TextSearch`.

        Args:
            tokens: int32 tensor `(n,)`, the ids of all sentences.
            starts: int64 tensor `(B + 1,)`, where each sentence begins, and where the last ends.

        Returns:
            Dict of `token_ids` int32 `(B, T)`, `score` float32 `(B,)` and `truncated` bool `(B,)`.
        """
        starts = tf.cast(starts, tf.int32)
        lengths = starts[1:] - starts[:-1]
        limit = self._decode.max_source_length - 1
        real, truncated = tf.minimum(lengths, limit)[:, None], lengths > limit
        columns = tf.range(tf.maximum(tf.reduce_max(real), 0) + 1)
        rows = tf.minimum(starts[:-1, None] + columns, tf.size(tokens))
        end = self.model.end_id
        ids = tf.gather(tf.concat([tokens, [end]], axis=0), rows)
        source = tf.where(columns < real, ids, tf.where(columns == real, end, self.model.pad_id))
        best = self._search(source, 1)
        return {
            "token_ids": best.token_ids[:, 0],
            "score": best.scores[:, 0],
            "truncated": truncated | self._is_cut(best),
        }

    def signatures(self) -> dict:
        """Returns the functions to export under their names."""
        return {
            "serving_default": self.translate,
            "translate": self.translate,
            "translate_nbest": self.translate_nbest,
            "align": self.align,
            "score": self.score,
        }

    def runtime_functions(self, format: str) -> dict:
        """Returns the functions that other runtimes take.

        They are both halves of the model, see `id_translator`; and the whole translator, unless it
        draws tokens, because ONNX has no random numbers that are the same at each call, or has
        tokenizers of Marian.

        Args:
            format: str. The runtime.

        Returns:
            As `Task.serving` says.

        Raises:
            ValueError: when the runtime lacks operations that they need.
        """
        if format != "onnx":
            raise ValueError(
                f"A translator can be exported as saved_model or onnx, not as {format}."
            )
        halves = id_translator.functions(self.model)
        functions: dict[str, tuple] = {name: (*pair, {}) for name, pair in halves.items()}
        if not self._decode.temperature and isinstance(self.tokenizer, SentencePieceTokenizer):
            protos = self.tokenizer.proto, self.target_tokenizer.proto
            search = TextSearch(self.translate_tokens, *protos)
            functions["translator"] = (self.translate, self._samples(), {"search": search})
        return functions

    def _samples(self):
        """Makes sentences of the words of the source, two of them, one, and none."""
        pieces = [piece.strip("▁") for piece in self.tokenizer.vocabulary]
        words = [piece for piece in pieces if piece.isalpha()] or ["a"]
        words = np.random.default_rng(1).choice(words, 7).tolist()
        return [{"text": [" ".join(words[:2]), " ".join(words[2:]), ""]}, {"text": [words[0]]}]

    def _read(self, text):
        """Tokenizes `(B,)` strings to ids `(B, S)` with the end token, cut to the limit."""
        ids = self.tokenizer.tokenize(text)
        limit = self._decode.max_source_length - 1
        truncated = ids.row_lengths() > limit
        return self._end(ids[:, :limit]), truncated

    def _end(self, ids):
        """Puts the end token behind each row, and pads ids to a tensor."""
        end = tf.fill((ids.nrows(), 1), self.model.end_id)
        return tf.concat([ids, end], axis=1).to_tensor(self.model.pad_id)

    def _search(self, source, count=None):
        """Searches for translations, or draws `count` of them; see `decode.search`."""
        decode, pad_id = self._decode, self.model.pad_id
        lengths = tf.reduce_sum(tf.cast(source != pad_id, tf.int32), axis=1)
        limits = tf.cast(decode.max_ratio * tf.cast(lengths, tf.float32), tf.int32)
        limits = limits + decode.max_extra
        # A tensor, so that the search drops sentences that have ended; at least 1, because the
        # maximum of an empty batch is the smallest int32.
        max_length = tf.maximum(tf.reduce_max(limits), 1)
        start_ids = tf.fill((tf.shape(source)[0],), self.model.start_id)
        begin = (*self.model.start_decoding(source, max_length), start_ids, max_length)
        rules = {"length_limit": limits, **self.model.special_ids}
        if decode.prefix:
            prefix = self.target_tokenizer.tokenize(tf.constant([decode.prefix]))
            rules["prefix"] = tf.tile(prefix.to_tensor(), (tf.shape(source)[0], 1))
        hypotheses = search(decode, count, begin, rules)
        has_words = lengths > 1  # The end token is always there.
        token_ids = tf.where(has_words[:, None, None], hypotheses.token_ids, pad_id)
        scores = tf.where(has_words[:, None], hypotheses.scores, 0.0)
        return hypotheses._replace(token_ids=token_ids, scores=scores)

    def _spell(self, tokenizer, token_ids):
        return tf.where(token_ids == self.model.pad_id, "", tokenizer.pieces(token_ids))

    def _is_cut(self, hypotheses):
        """Returns whether each sentence's best hypothesis has words and no end token, `(B,)`."""
        best = hypotheses.token_ids[:, 0]
        has_words = tf.reduce_any(best != self.model.pad_id, axis=1)
        return has_words & ~tf.reduce_any(best == self.model.end_id, axis=1)
