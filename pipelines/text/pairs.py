"""Sentence pairs from wherever they are kept: text files, one TSV, TFDS or the embedded corpus.

`read_pairs` gives every pair as it stands, so that a test set is never touched; `clean` removes,
from what a model trains on, the pairs that would teach it nothing, and counts them by reason.
"""

from collections.abc import Iterable, Iterator

from kerasformer.tokenizers import read_lines
from pipelines.data.sources import below_folder, read_tfds, required
from pipelines.demo_corpus import corpus

Pair = tuple[str, str]
# The keys of `config.data` that one format or another reads, or the cleaning.
KEYS = {"format", "is_tokenized", "max_words", "max_ratio", "deduplicate", "folder", "columns"}
KEYS |= {"name", "data_dir", "languages", "download", "train", "validation", "test"}


def read_pairs(data, split: str) -> list[Pair]:
    """Reads the (source, target) sentence pairs of one split.

    Args:
        data: ConfigDict. Its `format` says which other keys count:
            `"embedded"`: none, the corpus of `pipelines.demo_corpus`.
            `"files"`: `train`, `validation` and `test`, each a (source file, target file), plain
            or `.gz`, below `folder`; in a path `~` and environment variables are expanded.
            `"tsv"`: `train`, `validation` and `test`, each one file below `folder`, and
            `columns`, the (source, target) columns counted from 0.
            `"tfds"`: `name` (such as `"ted_hrlr_translate/pt_to_en"`), `data_dir`,
            `languages` (such as `("pt", "en")`), `download`, and in `train`, `validation` and
            `test` the splits of that dataset. Data prepared in `data_dir` is read offline.
        split: str. `"train"`, `"validation"` or `"test"`.

    Returns:
        List of (source, target) str pairs, in the order of the data.

    Raises:
        ValueError: if the data is missing, empty, or not what `data` says; the sentence names the
            file and, where there is one, the line.
    """
    readers = {"embedded": _embedded, "files": _files, "tsv": _tsv, "tfds": _tfds}
    name = required(data, "format")
    if name not in readers:
        raise ValueError(f"Expected data.format to be one of {tuple(readers)}, received {name!r}.")
    pairs = readers[name](data, split)
    if not pairs:
        raise ValueError(
            f"Expected sentence pairs for split={split!r}, received none from data.format={name!r}"
            f" with data.{split}={data.get(split)!r}."
        )
    return pairs


def clean(
    pairs: Iterable[Pair],
    max_words: int | None = 250,
    max_ratio: float | None = 9.0,
    deduplicate: bool = True,
) -> tuple[list[Pair], dict[str, int]]:
    """Removes the pairs that should not be trained on and counts them by the first reason.

    Args:
        pairs: iterable of (source, target) str pairs.
        max_words: int or None. Most words, split at white space, of either side.
        max_ratio: float or None. How many times the words of one side the other may have. None
            where one of the languages writes no spaces.
        deduplicate: bool. Keeps only the first of equal pairs.

    Returns:
        The kept pairs in order, and a dict of the counts `read`, `empty`, `too_long`, `ratio`,
        `duplicate` and `kept`.

    Raises:
        ValueError: if no pair is left.

    Example:

    >>> clean([("ein Hund", "a dog"), ("", "a cat"), ("ein Hund", "a dog")])[1]
    {'read': 3, 'empty': 1, 'too_long': 0, 'ratio': 0, 'duplicate': 1, 'kept': 1}
    """
    counts = dict.fromkeys(("read", "empty", "too_long", "ratio", "duplicate", "kept"), 0)
    kept, seen = [], set()
    for pair in pairs:
        counts["read"] += 1
        shorter, longer = sorted(len(text.split()) for text in pair)
        if shorter == 0:
            reason = "empty"
        elif max_words is not None and longer > max_words:
            reason = "too_long"
        elif max_ratio is not None and longer > max_ratio * shorter:
            reason = "ratio"
        elif deduplicate and pair in seen:
            reason = "duplicate"
        else:
            reason = "kept"
            kept.append(pair)
            if deduplicate:
                seen.add(pair)
        counts[reason] += 1
    if not kept:
        removed = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise ValueError(f"Expected sentence pairs to train on, no sentence pairs left: {removed}.")
    return kept, counts


def _embedded(data, split: str) -> list[Pair]:
    splits = corpus.splits()
    if split not in splits:
        raise ValueError(f"Expected split to be one of {tuple(splits)}, received split={split!r}.")
    return [(source, target) for source, target in splits[split]]


def _files(data, split: str) -> list[Pair]:
    names = required(data, split)
    if isinstance(names, str) or len(names) != 2:
        raise ValueError(
            f"Expected data.{split} to be a (source file, target file), received {names!r}."
        )
    paths = [below_folder(data, name) for name in names]
    sides = [list(read_lines(path)) for path in paths]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"Expected as many lines in both files, received {len(sides[0])} in {paths[0]} "
            f"and {len(sides[1])} in {paths[1]}."
        )
    return list(zip(*sides, strict=True))


def _tsv(data, split: str) -> list[Pair]:
    path = below_folder(data, required(data, split))
    source, target = _two(data, "columns")
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t")
        if not 0 <= min(source, target) <= max(source, target) < len(fields):
            raise ValueError(
                f"Expected columns={(source, target)} counted from 0, received {len(fields)} "
                f"column{'s'[: len(fields) > 1]} in {path} line {number}."
            )
        pairs.append((fields[source], fields[target]))
    return pairs


def _tfds(data, split: str) -> list[Pair]:
    languages = _two(data, "languages")

    def read(tfds, builder, tfds_split):
        features = tuple(builder.info.features)
        if not set(languages) <= set(features):
            raise ValueError(f"data.languages={languages} are not among its features {features}")
        dataset = builder.as_dataset(split=tfds_split, shuffle_files=False).batch(1024)
        return list(_decoded(tfds.as_numpy(dataset), languages))

    return read_tfds(data, split, read)


def _decoded(batches, languages: tuple[str, str]) -> Iterator[Pair]:
    number = 0
    for batch in batches:
        for pair in zip(*(batch[language] for language in languages), strict=True):
            number += 1
            try:
                yield pair[0].decode("utf-8"), pair[1].decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"example {number} is not UTF-8 text") from None


def _two(data, key: str) -> tuple:
    values = tuple(required(data, key))
    if len(values) != 2:
        raise ValueError(f"Expected data.{key} to be a (source, target), received {values}.")
    return values
