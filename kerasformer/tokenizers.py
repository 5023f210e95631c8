"""SentencePiece tokenizers: text to token ids and back, alike in Python and in a TensorFlow graph.

Training goes through the `sentencepiece` package and not through keras-nlp's
`compute_sentence_piece_proto`, which fixes the ids of the special pieces at pad 0, unknown 1,
start 2, end 3 and has no byte fallback, no normalization other than NFKC and no character coverage.
A tokenizer that was trained with keras-nlp is taken in by `SentencePieceTokenizer.from_keras_nlp`.
"""

import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

try:
    import sentencepiece
    import tensorflow as tf
    import tensorflow_text as tf_text
    from sentencepiece import sentencepiece_model_pb2
except ImportError as error:
    raise ImportError(
        "kerasformer.tokenizers needs tensorflow, tensorflow-text and sentencepiece, all of which "
        'come with `pip install "kerasformer[pipelines]"`.'
    ) from error

from kerasformer.text_files import read_lines as read_lines

PAD_ID, START_ID, END_ID, UNKNOWN_ID = 0, 1, 2, 3
KINDS = ("unigram", "bpe")
NORMALIZATIONS = ("nmt_nfkc", "nfkc", "identity")
RARE = "\ue000"  # Stands for a character without a piece while a model is trained.


class VocabularySizeError(ValueError):
    """Tells that sentences cannot fill a vocabulary, or do not fit into it.

    Args:
        message: str. The sentence.
        least: int or `None`. The smallest vocabulary that has room for every character.
        most: int or `None`. The largest one that the sentences can fill.

    Example:

    >>> try:
    ...     proto = train_sentencepiece(["der Hund schläft"], 5000)
    ... except VocabularySizeError as error:
    ...     proto = train_sentencepiece(["der Hund schläft"], error.most)
    """

    def __init__(self, message, least=None, most=None):
        super().__init__(message)
        self.least = least
        self.most = most


def train_sentencepiece(
    sentences: Iterable[str],
    vocabulary_size: int,
    kind: str = "unigram",
    lowercase: bool = False,
    normalization: str = "nmt_nfkc",
    byte_fallback: bool = True,
    character_coverage: float = 1.0,
    user_defined_symbols: Sequence[str] = (),
    max_characters: int | None = None,
) -> bytes:
    """Trains a SentencePiece model; the same sentences always give the same bytes.

    Args:
        sentences: iterable of str, read once; sentences of more than 64 KiB are left out.
        vocabulary_size: int. Number of ids, among them pad 0, start 1, end 2, unknown 3 and,
            with `byte_fallback`, the 256 bytes.
        kind: str. `"unigram"` or `"bpe"`.
        lowercase: bool. Folds case before anything else, also in every text tokenized later.
        normalization: str. `"nmt_nfkc"` (NFKC, and white space and control characters cleaned),
            `"nfkc"` or `"identity"`.
        byte_fallback: bool. Spells characters outside the vocabulary as their UTF-8 bytes, so
            that nothing is ever unknown.
        character_coverage: float from 0.98 to 1. Share of the characters read that get a piece of
            their own; below 1 for languages with thousands of characters, or noisy text.
        user_defined_symbols: sequence of str, such as `("<2de>",)`. Each is one piece wherever it
            stands in a text, and never a part of another.
        max_characters: int or `None`. The most characters that get a piece of their own, where
            the vocabulary is too small for the coverage; all sentences are in memory then.

    Returns:
        Bytes, the serialized model that `SentencePieceTokenizer` takes.

    Raises:
        VocabularySizeError: a `ValueError`, if the sentences cannot fill or cannot fit into
            `vocabulary_size`.
        ValueError: if the sentences hold no text, or if an argument is out of range.

    Example:

    >>> proto = train_sentencepiece(["der Hund schläft", "die Hunde schlafen"], 277)
    >>> tokenizer = SentencePieceTokenizer(proto)
    >>> tokenizer.decode(tokenizer.encode(["die Hunde"]))
    ['die Hunde']

    References:
        - [Kudo, 2018](https://arxiv.org/abs/1804.10959) (unigram)
        - [Sennrich et al., 2016](https://arxiv.org/abs/1508.07909) (BPE)
    """
    _check_options(vocabulary_size, kind, lowercase, normalization, character_coverage)
    _check_symbols(user_defined_symbols)
    model, problems, options = io.BytesIO(), [], {}
    if max_characters is not None:
        form = None if normalization == "identity" else "NFKC"
        sentences = _without_rare_characters(sentences, max_characters, form, lowercase)
        options["pretokenization_delimiter"] = RARE
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_watched(sentences, problems),
            model_writer=model,
            vocab_size=vocabulary_size,
            model_type=kind,
            normalization_rule_name=normalization + ("_cf" if lowercase else ""),
            byte_fallback=byte_fallback,
            character_coverage=character_coverage,
            user_defined_symbols=list(user_defined_symbols),
            pad_id=PAD_ID,
            bos_id=START_ID,
            eos_id=END_ID,
            unk_id=UNKNOWN_ID,
            max_sentence_length=1 << 16,
            num_threads=4,  # fixed, because sums over other threads could give another model
            minloglevel=2,
            **options,
        )
    except RuntimeError as error:
        if problems:  # raised by the iterable; the trainer passes on its message alone
            raise problems[0] from None
        raise _training_error(str(error), vocabulary_size) from None
    return _without_delimiter(model.getvalue()) if options else model.getvalue()


def train_sentencepiece_files(
    paths: Sequence[str | os.PathLike], vocabulary_size: int, **options
) -> bytes:
    r"""Trains a SentencePiece model on text files, one sentence a line.

    Args:
        paths: sequence of paths to UTF-8 text, plain or packed as `read_lines`
            reads it. Only `\n` ends a line.
        vocabulary_size: int. As in `train_sentencepiece`.
        **options: the other arguments of `train_sentencepiece`.

    Returns:
        Bytes, the serialized model.

    Raises:
        ValueError: as `train_sentencepiece`; also if a file is missing, or a line is not UTF-8.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise ValueError(f"Expected a list of paths, received paths={paths!r}.")
    lines = (line for path in paths for line in read_lines(path))
    return train_sentencepiece(lines, vocabulary_size, **options)


class SentencePieceTokenizer(tf.Module):
    """Turns text into token ids and back, the same in Python and in a TensorFlow graph.

    `encode` and `decode` are the Python side; `tokenize`, `detokenize` and `pieces` work on
    tensors, in eager mode, in a `tf.function` and in a SavedModel. A SavedModel holds the model
    itself and loads wherever `tensorflow` and `tensorflow_text` can be imported. No method adds
    the start or the end token; bytes that are not UTF-8 are read as U+FFFD by both sides.

    Args:
        proto: bytes. A serialized SentencePiece model whose ids are pad 0, start 1, end 2,
            unknown 3, as `train_sentencepiece` makes it.
        name: str. Name of the module.

    Raises:
        ValueError: if `proto` is no such model.

    Example:

    >>> words = ["ein Hund", "der Hund", "ein Ball", "der Ball", "ein roter Ball"]
    >>> tokenizer = SentencePieceTokenizer(train_sentencepiece(words, 275, kind="bpe"))
    >>> ids = tokenizer.tokenize(tf.constant(["ein Hund", "Ball"])).to_tensor()
    >>> [text.decode() for text in tokenizer.detokenize(ids).numpy()]
    ['ein Hund', 'Ball']

    Attributes:
        pad_id, start_id, end_id: int, ids that no text has.
        vocabulary: tuple of str, the piece of each id.
        vocabulary_size: int.

    References:
        - [Kudo and Richardson, 2018](https://arxiv.org/abs/1808.06226)
    """

    pad_id, start_id, end_id = PAD_ID, START_ID, END_ID

    def __init__(self, proto: bytes, name: str = "tokenizer"):
        super().__init__(name=name)
        self.proto = proto
        self.processor = _processor(proto)
        ids = _special_ids(self.processor)
        if ids != (PAD_ID, START_ID, END_ID, UNKNOWN_ID):
            raise ValueError(
                "Expected a SentencePiece model with the ids pad 0, start 1, end 2, unknown 3, "
                "received one with pad {}, start {}, end {}, unknown {}.".format(*ids)
            )
        self.vocabulary_size = self.processor.get_piece_size()
        self.vocabulary = tuple(map(self.processor.id_to_piece, range(self.vocabulary_size)))

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "SentencePieceTokenizer":
        """Reads a tokenizer from the file that holds its model."""
        try:
            with open(path, "rb") as file:
                return cls(file.read())
        except (OSError, ValueError) as error:
            raise ValueError(f"Cannot read a tokenizer from path={str(path)!r}: {error}") from None

    @classmethod
    def from_foreign(cls, proto: bytes) -> "SentencePieceTokenizer":
        """Takes over a SentencePiece model with other ids, such as one that another tool trained.

        Its pad, start, end and unknown piece move to the ids 0 to 3, and those of pad, start and
        end that it lacks are added there; the others follow in order.

        Raises:
            ValueError: if `proto` is no SentencePiece model.
        """
        return cls(_with_special_ids_first(proto))

    @classmethod
    def from_keras_nlp(cls, tokenizer) -> "SentencePieceTokenizer":
        """Takes over the model of a keras-nlp or keras-hub one, as `from_foreign` does.

        Raises:
            ValueError: if the tokenizer has no model.
        """
        proto = getattr(tokenizer, "proto", None)
        if not isinstance(proto, bytes):
            raise ValueError(
                "Expected a keras-nlp SentencePieceTokenizer that has a vocabulary, "
                f"received tokenizer={tokenizer!r}."
            )
        return cls.from_foreign(proto)

    def encode(self, texts: Sequence[str | bytes]) -> list[list[int]]:
        """Splits texts into token ids, one list a text."""
        if isinstance(texts, (str, bytes)):
            raise ValueError(f"Expected a sequence of texts, received texts={texts!r:.80}.")
        return self.processor.encode([_utf8(text) for text in texts], out_type=int)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Joins token ids, `(B, T)` or lists of any length, to texts without the special tokens."""
        dropped = (PAD_ID, START_ID, END_ID)
        rows = [[int(i) for i in row if i not in dropped] for row in ids]
        for unknown in (i for row in rows for i in row if not 0 <= i < self.vocabulary_size):
            raise ValueError(
                f"Expected ids from 0 to vocabulary_size - 1={self.vocabulary_size - 1}, "
                f"received id={unknown}."
            )
        return [self.processor.decode(row) if row else "" for row in rows]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits a string tensor `(B,)` into a ragged int32 tensor `(B, None)` of token ids."""
        return self._in_graph().tokenize(texts)

    def detokenize(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Joins int32 token ids `(B, T)`, padded with 0, to a string tensor `(B,)`.

        Pad, start and end tokens give no text, wherever they stand.
        """
        return self._in_graph().detokenize(token_ids)

    def pieces(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Spells each token id as its piece, such as `▁Hund`; any shape in, the same shape out."""
        # tf_text's own id_to_string ends the process on an id outside the vocabulary.
        return tf.gather(tf.constant(self.vocabulary), token_ids)

    def _in_graph(self) -> tf_text.SentencepieceTokenizer:
        # Made at each use, so that it belongs to the graph at hand. As an attribute it would be
        # lost with TensorFlow's caches, which setting the random seed clears. And of two in one
        # SavedModel, the second would use the model of the first
        # (https://github.com/tensorflow/text/issues/1304).
        return tf_text.SentencepieceTokenizer(self.proto, out_type=tf.int32)


def _check_options(vocabulary_size, kind, lowercase, normalization, character_coverage):
    if kind not in KINDS:
        raise ValueError(f"Expected one of {KINDS}, received {kind=}.")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"Expected one of {NORMALIZATIONS}, received {normalization=}.")
    if lowercase and normalization == "identity":
        raise ValueError(
            f"Expected another normalization with {lowercase=}, received {normalization=}."
        )
    if not 0.98 <= character_coverage <= 1:  # SentencePiece takes no other.
        raise ValueError(
            f"Expected character_coverage from 0.98 to 1, received {character_coverage=}."
        )
    if vocabulary_size <= UNKNOWN_ID:
        raise ValueError(f"Expected vocabulary_size above 3, received {vocabulary_size=}.")


def _without_rare_characters(sentences, count, form, lowercase) -> Iterator[str]:
    """Yields sentences, normalized, in which a mark that no piece crosses replaces characters."""
    texts = [sentence if isinstance(sentence, str) else sentence.decode() for sentence in sentences]
    if form:
        texts = [unicodedata.normalize(form, text) for text in texts]
    if lowercase:
        texts = [text.casefold() for text in texts]
    counts = Counter(character for text in texts for character in text if not character.isspace())
    rare = {ord(character): RARE for character, _ in counts.most_common()[count:]}
    yield from (text.translate(rare) for text in texts)


def _without_delimiter(proto: bytes) -> bytes:
    """Returns a model that does not know the mark, which only its training needed."""
    model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    model.trainer_spec.ClearField("pretokenization_delimiter")
    return model.SerializeToString()


def _watched(sentences: Iterable[str], problems: list[Exception]) -> Iterator[bytes]:
    """Yields sentences as UTF-8 and keeps the exception that stops them, if one does."""
    try:
        for sentence in sentences:
            yield _utf8(sentence)
    except Exception as error:
        problems.append(error)
        raise


def _utf8(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise ValueError(f"Expected texts of type str, received text={text!r:.80}.")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"Expected text without lone surrogates, received text={text!r:.80}."
        ) from None


def _check_symbols(symbols):
    special = {"<pad>", "<s>", "</s>", "<unk>", ""}
    if (
        isinstance(symbols, str)
        or not all(isinstance(symbol, str) for symbol in symbols)
        or len(special | set(symbols)) < len(special) + len(symbols)
    ):
        raise ValueError(
            "Expected user_defined_symbols that are different texts and none of <pad>, <s>, </s> "
            f"and <unk>, received user_defined_symbols={symbols!r}."
        )


def _training_error(message: str, vocabulary_size: int) -> ValueError:
    largest = re.search(r"too high.*<= (\d+)", message)
    if largest:
        sentence = f"to be at most {largest[1]}, all that the sentences can fill"
        sentence = f"Expected vocabulary_size {sentence}, received {vocabulary_size=}."
        return VocabularySizeError(sentence, most=int(largest[1]))
    smallest = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if smallest:
        sentence = f"to be at least {smallest[1]}, enough for every character of the sentences"
        sentence = f"Expected vocabulary_size {sentence}, received {vocabulary_size=}."
        return VocabularySizeError(sentence, least=int(smallest[1]))
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return ValueError("Expected sentences to train a vocabulary on, received no text at all.")
    return ValueError(f"Cannot train with vocabulary_size={vocabulary_size}: {message}")


def _processor(proto: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        if isinstance(proto, bytes) and proto:  # because no bytes at all would pass as a model
            return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError:
        pass
    raise ValueError(f"Expected a serialized SentencePiece model, received proto={proto!r:.60}")


def _special_ids(processor: sentencepiece.SentencePieceProcessor) -> tuple[int, int, int, int]:
    return processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id()


def _with_special_ids_first(proto: bytes) -> bytes:
    """Moves the pieces for pad, start, end and unknown to the ids 0, 1, 2 and 3."""
    first = list(_special_ids(_processor(proto)))
    if tuple(first) == (PAD_ID, START_ID, END_ID, UNKNOWN_ID):
        return proto
    model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    pieces = list(model.pieces)
    # One that is no such piece has the id -1. That of unknown is in every model.
    for number, text in enumerate(("<pad>", "<s>", "</s>")):
        if first[number] < 0:
            texts = [piece.piece for piece in pieces]
            if text not in texts:
                pieces.append(sentencepiece_model_pb2.ModelProto.SentencePiece(piece=text))
            first[number] = [*texts, text].index(text)
            pieces[first[number]].type = sentencepiece_model_pb2.ModelProto.SentencePiece.CONTROL
    order = [*first, *(i for i in range(len(pieces)) if i not in first)]
    # Protobuf cannot move elements of a repeated field; merging a message of ours appends copies.
    moved = sentencepiece_model_pb2.ModelProto(pieces=[pieces[i] for i in order])
    model.ClearField("pieces")
    model.MergeFrom(moved)
    spec = model.trainer_spec
    spec.pad_id, spec.bos_id, spec.eos_id, spec.unk_id = PAD_ID, START_ID, END_ID, UNKNOWN_ID
    spec.pad_piece, spec.bos_piece, spec.eos_piece = (pieces[i].piece for i in first[:3])
    return model.SerializeToString()
