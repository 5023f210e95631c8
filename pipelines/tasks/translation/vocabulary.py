"""The tokenizers of a translation run: trained, taken from a file, or from what it begins with.

`tokenizer.model` is of both languages, or of the source alone where `target_tokenizer.model` lies
beside it. In their place, a run with `start.weights` has `vocab.json`, `source.spm` and
`target.spm`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections

from kerasformer.interop.marian_tokenizer import MarianTokenizer, load_marian_tokenizers
from kerasformer.tokenizers import (
    UNKNOWN_ID,
    SentencePieceTokenizer,
    VocabularySizeError,
    train_sentencepiece,
)
from pipelines.data.sources import expanded
from pipelines.runs.files import write_bytes
from pipelines.tasks.translation import foreign
from pipelines.text.cleaning import Pair

TRAINED = ("tokenizer.model", "target_tokenizer.model")
FILES = (*TRAINED, *foreign.FILES)
# Of each kind the file that is written last.
LAST = (TRAINED[0], foreign.FILES[0])
NUM_BYTES = 256  # Pieces that `byte_fallback` takes.


class Tokenizers(NamedTuple):
    """The tokenizers of the source and of the target; the same one twice if they are shared."""

    source: SentencePieceTokenizer | MarianTokenizer
    target: SentencePieceTokenizer | MarianTokenizer

    @property
    def are_shared(self) -> bool:
        """Returns whether both languages have one vocabulary."""
        return self.source is self.target or isinstance(self.source, MarianTokenizer)


def load_tokenizers(workdir: str) -> Tokenizers:
    """Loads the tokenizers of a run."""
    if Path(workdir, foreign.VOCABULARY).exists():
        return Tokenizers(*load_marian_tokenizers(workdir))
    source, target = (Path(workdir, name) for name in TRAINED)
    first = SentencePieceTokenizer.from_file(source)
    return Tokenizers(first, SentencePieceTokenizer.from_file(target) if target.exists() else first)


def have_tokenizers(workdir: str) -> bool:
    """Tests whether the folder of a run holds its tokenizers already."""
    return any(Path(workdir, name).exists() for name in LAST)


def make_tokenizers(config: ml_collections.ConfigDict, workdir: str, pairs: Sequence[Pair]) -> None:
    """Writes the tokenizers of a new run.

    Args:
        config: the resolved config.
        workdir: folder of the run.
        pairs: what they are trained on, if they are not taken from elsewhere.

    Raises:
        ValueError: if they cannot be trained or read.
    """
    if config.start.workdir:
        folder = Path(expanded(config.start.workdir))
        load_tokenizers(str(folder))  # It refuses what cannot be read.
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    elif config.start.weights:
        files = foreign.read_tokenizers(config)
    elif config.tokenizer.path:
        files = dict(zip(TRAINED, read_foreign(config.tokenizer), strict=False))
    else:
        files = dict(zip(TRAINED, train_tokenizers(config.tokenizer, pairs), strict=False))
    for name in sorted(files, key=lambda name: name in LAST):
        write_bytes(Path(workdir) / name, files[name])


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses a `tokenizer` part that contradicts itself.

    Raises:
        ValueError: naming what cannot be.
    """
    if config.tokenizer.path:
        paths(config.tokenizer)
    else:
        sizes(config.tokenizer)


def train_tokenizers(
    options: ml_collections.ConfigDict, pairs: Sequence[Pair], say: Callable[[str], object] = print
) -> list[bytes]:
    """Trains one model on both sides of the pairs, or one for each of them.

    Args:
        options: the `tokenizer` part of a config.
        pairs: the training pairs.
        say: function that is told, in a sentence, if some characters get no piece.

    Returns:
        List of serialized models, one or two.

    Raises:
        VocabularySizeError: for too large a vocabulary, or too small a one without byte fallback.
        ValueError: for other options that cannot be.
    """
    sides = [[text for pair in pairs for text in pair]]
    if not options.shared:
        sides = [list(side) for side in zip(*pairs, strict=True)]
    protos = []
    for side, size in zip(sides, sizes(options), strict=True):
        try:
            protos.append(_train(side, size, options, say))
        except VocabularySizeError as error:
            if options.shared:
                raise
            whose = f"Tokenizer of the {'target' if protos else 'source'}"
            raise VocabularySizeError(f"{whose}: {error}", error.least, error.most) from None
    return protos


def _train(sentences: list[str], size: int, options, say) -> bytes:
    """Trains a model; characters for which it has no room are left to the bytes, which is said."""
    arguments = options.to_dict()
    for key in ("path", "shared", "vocabulary_size", "target_vocabulary_size"):
        del arguments[key]
    arguments["user_defined_symbols"] = texts(options, "user_defined_symbols")
    is_free = arguments["character_coverage"] is None
    if is_free:
        arguments["character_coverage"] = 1.0
    try:
        return train_sentencepiece(sentences, size, **arguments)
    except VocabularySizeError as error:
        least = error.least
        if not (least and is_free and options.byte_fallback):
            raise
    # Without the special pieces, the bytes and the space.
    room = size - UNKNOWN_ID - 2 - NUM_BYTES - len(arguments["user_defined_symbols"])
    # Half of it, to leave the other for pieces of several characters, if there are that many.
    kept = max(room // 2, 1)
    try:
        proto = train_sentencepiece(sentences, size, max_characters=kept, **arguments)
    except VocabularySizeError as error:
        if error.most is None:
            raise
        kept = room
        proto = train_sentencepiece(sentences, size, max_characters=kept, **arguments)
    say(
        f"tokenizer.vocabulary_size={size} has no room for every character, which would take "
        f"{least}: the {kept} most frequent get pieces of their own, and the others are spelled as "
        "bytes."
    )
    return proto


def sizes(options) -> tuple[int, ...]:
    """Returns the size of the one vocabulary, or of source and target.

    Raises:
        ValueError: for a target's of its own with a shared vocabulary.
    """
    size, target_size = options.vocabulary_size, options.target_vocabulary_size
    if options.shared:
        if target_size is not None:
            raise ValueError(
                "Expected tokenizer.shared=False for two vocabularies, received "
                f"tokenizer.target_vocabulary_size={target_size} with tokenizer.shared=True."
            )
        return (size,)
    return size, target_size if target_size is not None else size


def paths(options) -> tuple[str, ...]:
    """Reads `tokenizer.path`: one model for both languages, or a (source, target) of them.

    Raises:
        ValueError: if it does not name as many models as there are vocabularies.
    """
    found, count = texts(options, "path"), 1 if options.shared else 2
    if len(found) != count:
        raise ValueError(
            f"Expected tokenizer.path to name {count} SentencePiece model{'s' * (count > 1)}, as "
            f"tokenizer.shared={options.shared}, received tokenizer.path={options.path!r}."
        )
    return found


def texts(options, key: str) -> tuple[str, ...]:
    """Reads a key of the `tokenizer` part that holds texts: a sequence of them, or `"a,b"`.

    Raises:
        ValueError: for other values.
    """
    value = options[key]
    found = value.split(",") if value and isinstance(value, str) else value or ()
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise ValueError(
            f"Expected tokenizer.{key} to be texts, received tokenizer.{key}={value!r}."
        )
    return tuple(found)


def read_foreign(options) -> list[bytes]:
    """Reads the SentencePiece models of `tokenizer.path`, of whatever ids, and gives them ours.

    Raises:
        ValueError: naming the file that is no model.
    """
    protos = []
    for path in paths(options):
        try:
            content = Path(expanded(path)).read_bytes()
            protos.append(SentencePieceTokenizer.from_foreign(content).proto)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"Cannot read tokenizer.path={path!r}: {reason}.") from None
    return protos
