"""The tokenizers of OPUS-MT: two SentencePiece models, and ids for their pieces."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from kerasformer.interop.files import read_json

try:
    import sentencepiece
    import tensorflow_text as tf_text
except ImportError as error:
    raise ImportError(
        "kerasformer.interop.marian_tokenizer needs tensorflow-text and sentencepiece, which come "
        'with `pip install "kerasformer[pipelines]"`.'
    ) from error

VOCABULARY, MODELS = "vocab.json", ("source.spm", "target.spm")
END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"
SPACE = "▁"  # Begins the piece of a new word.
CODE = "(?s)^(>>.*?<<)"  # A language to translate into, such as `>>fra<<`, at the start of a text.


class MarianTokenizer(tf.Module):
    """Turns text into the ids of a Marian vocabulary and back, in Python and in a TensorFlow graph.

    A SentencePiece model splits text into pieces, and the vocabulary, which both languages share,
    gives them ids. It offers what a `SentencePieceTokenizer` does, and answers as the tokenizer of
    transformers: a piece without an id is unknown, unknown pieces are left out of texts, and a
    language in front, `>>fra<<`, is one piece. But `</s>` in a text is text.

    Args:
        proto: bytes. The serialized SentencePiece model of one language.
        vocabulary: mapping of pieces to ids 0, 1, 2, ..., with `</s>`, `<unk>` and `<pad>`, which
            also starts targets.
        name: str. Name of the module.

    Raises:
        ValueError: if these are no such model and vocabulary.

    Example:

    >>> from kerasformer.tokenizers import SentencePieceTokenizer, train_sentencepiece
    >>> proto = train_sentencepiece(["ein Hund", "der Hund"], 13, byte_fallback=False)
    >>> pieces = ["</s>", "<unk>", *SentencePieceTokenizer(proto).vocabulary[4:], "<pad>"]
    >>> tokenizer = MarianTokenizer(proto, {piece: i for i, piece in enumerate(pieces)})
    >>> tokenizer.decode(tokenizer.encode(["der Hund!"]))
    ['der Hund']

    References:
        - [Junczys-Dowmunt et al., 2018](https://arxiv.org/abs/1804.00344)
        - [Tiedemann and Thottingal, 2020](https://aclanthology.org/2020.eamt-1.61/)
    """

    def __init__(self, proto: bytes, vocabulary: Mapping[str, int], name: str = "tokenizer"):
        super().__init__(name=name)
        _check(proto, vocabulary)
        self.proto = proto
        self.vocabulary = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
        self.vocabulary_size = len(self.vocabulary)
        self.pad_id = self.start_id = vocabulary[PAD]
        self.end_id = vocabulary[END]
        special = (END, UNKNOWN, PAD)
        self._texts = tuple(
            "" if piece in special else piece.replace(SPACE, " ") for piece in self.vocabulary
        )
        ids = tf.range(self.vocabulary_size)
        self._ids = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(self.vocabulary), ids),
            vocabulary[UNKNOWN],
        )

    def encode(self, texts: Sequence[str | bytes]) -> list[list[int]]:
        """Splits texts into token ids, one list a text."""
        if isinstance(texts, (str, bytes)):
            raise ValueError(f"Expected a sequence of texts, received texts={texts!r:.80}.")
        return self.tokenize(tf.constant(list(texts), tf.string)).to_list()

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Joins token ids, `(B, T)` or lists of any length, to texts without the special tokens."""
        return ["".join(self._texts[int(i)] for i in row).strip() for row in ids]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits a string tensor `(B,)` into a ragged int32 tensor `(B, None)` of token ids."""
        has_code = tf.strings.regex_full_match(texts, f"{CODE}.*")
        codes = tf.strings.regex_replace(texts, f"{CODE}.*", r"\1")
        codes = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(codes, has_code), tf.cast(has_code, tf.int64)
        )
        # Made at each use, see `SentencePieceTokenizer`. Pieces that it does not know are spelled.
        tokenizer = tf_text.SentencepieceTokenizer(self.proto, out_type=tf.string)
        pieces = tokenizer.tokenize(tf.strings.regex_replace(texts, CODE, ""))
        pieces = tf.concat([codes, pieces], axis=1)
        return pieces.with_flat_values(self._ids.lookup(pieces.flat_values))

    def detokenize(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Joins int32 token ids `(B, T)` to a string tensor `(B,)`; special tokens give no text."""
        texts = tf.gather(tf.constant(self._texts), token_ids)
        return tf.strings.strip(tf.strings.reduce_join(texts, axis=-1))

    def pieces(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Spells each token id as its piece, such as `▁Hund`; any shape in, the same shape out."""
        return tf.gather(tf.constant(self.vocabulary), token_ids)


def load_marian_tokenizers(folder: str | os.PathLike) -> tuple[MarianTokenizer, MarianTokenizer]:
    """Loads the tokenizers of source and target from `source.spm`, `target.spm` and `vocab.json`.

    Raises:
        ValueError: for a file that is missing or cannot be read.
    """
    vocabulary = read_json(Path(folder, VOCABULARY))
    tokenizers = []
    for name in MODELS:
        path = Path(folder, name)
        try:
            tokenizers.append(MarianTokenizer(path.read_bytes(), vocabulary))
        except OSError as error:
            raise ValueError(f"Expected a file {str(path)!r}: {error.strerror}.") from error
        except ValueError as error:
            raise ValueError(f"Cannot read a tokenizer from {str(path)!r}: {error}") from error
    return tokenizers[0], tokenizers[1]


def _check(proto, vocabulary):
    """Refuses what is no SentencePiece model, and a vocabulary that leaves ids out."""
    try:
        sentencepiece.SentencePieceProcessor(model_proto=proto).get_piece_size()
    except (RuntimeError, TypeError):
        raise ValueError(
            f"Expected a serialized SentencePiece model, received proto={proto!r:.60}."
        ) from None
    for piece in (END, UNKNOWN, PAD):
        if piece not in vocabulary:
            raise ValueError(f"Expected a vocabulary with {piece}, received one without.")
    size = len(vocabulary)
    ids = set(vocabulary.values())
    if ids != set(range(size)):
        wrong = next(i for i in range(size) if i not in ids)
        raise ValueError(
            f"Expected a vocabulary of {size} pieces to have the ids 0 to {size - 1}, received one "
            f"without {wrong}."
        )
