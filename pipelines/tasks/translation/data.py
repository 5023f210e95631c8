"""The sentence pairs of a translation run, and the batches made of them.

Letters: `B` sentences, `S` source tokens, `T` target tokens.
"""

import hashlib

import ml_collections
import tensorflow as tf

from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.tasks.translation.vocabulary import (
    have_tokenizers,
    load_tokenizers,
    make_tokenizers,
)
from pipelines.text.batches import TokenizedPairs, batches_per_epoch, dataset
from pipelines.text.cleaning import Pair, clean, count_leaks, mix
from pipelines.text.pairs import read_corpora, read_pairs
from pipelines.training.task import Data

SHOWN_PAIRS = 5  # of the first batch, by a dry run


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE_BATCH) -> Data:
    """Reads, cleans, tokenizes and batches the sentence pairs.

    Args:
        config: the resolved config.
        workdir: folder of the run; unless its tokenizers are there, they are made and written,
            and pairs of validation and test that are in train are counted.
        shard: part of each batch that is made here; the replicas divide its rows.

    Returns:
        The datasets, of dicts of int tensors `source` `(B, S)`, `target` `(B, T)` (behind the
        start token) and `labels` `(B, T)` (with the end token).
    """
    pairs, counts = training_pairs(config)
    validation_pairs = read_pairs(config.data, "validation")
    print("Training pairs: " + ", ".join(f"{n} {name}" for name, n in counts.items()), flush=True)
    others, is_new = {"validation": validation_pairs}, not have_tokenizers(workdir)
    try:
        others["test"] = read_pairs(config.data, "test")
    except (OSError, ValueError) as error:
        if is_new:
            print(f"The test pairs cannot be read yet: {error}", flush=True)
    if is_new:
        for split, of_split in others.items():
            print(_describe_leaks(split, pairs, of_split), flush=True)
        make_tokenizers(config, workdir, pairs)
    tokenizers = load_tokenizers(workdir)
    train = TokenizedPairs.from_texts(pairs, *tokenizers, config.train.max_length)
    validation = TokenizedPairs.from_texts(validation_pairs, *tokenizers)
    if train.dropped:
        print(f"Pairs over train.max_length={config.train.max_length}: {train.dropped} dropped.")
    batches = {"batch_tokens": config.train.batch_tokens, "num_replicas": shard.num_replicas}
    longest = int(max(validation.source_lengths.max(), validation.target_lengths.max()))
    return Data(
        train=lambda batch: dataset(
            train, seed=config.seed, start_batch=batch, shard=shard, **batches
        ),
        validation=dataset(
            validation,
            max(config.train.batch_tokens, longest + 1),
            seed=0,
            shuffle=False,
            repeat=False,
        ),
        batches_per_epoch=batches_per_epoch(train, **batches),
        items="tokens",
        fingerprint={
            "set of training pairs": _fingerprint(pairs),
            "set of validation pairs": _fingerprint(validation_pairs),
        },
        counts={
            "training pairs": len(pairs),
            **{f"{split} pairs": len(of_split) for split, of_split in others.items()},
        },
    )


def _fingerprint(pairs):
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update("\t".join((*pair, "")).encode())
    return digest.hexdigest()


def training_pairs(config: ml_collections.ConfigDict) -> tuple[list[Pair], dict[str, int]]:
    """Reads, cleans and mixes what a run trains on.

    Returns:
        The pairs of an epoch, and the counts of `text.cleaning.clean`; if an epoch has other pairs
        than those that are kept, also their number as `an_epoch`.
    """
    data = config.data
    corpora = read_corpora(data, "train")
    corpora, counts = clean(corpora, data.max_words, data.max_ratio, data.deduplicate)
    pairs = mix(corpora, data.get("corpus_weights"), data.get("corpus_temperature"))
    if len(pairs) != counts["kept"]:
        counts["an_epoch"] = len(pairs)
    return pairs, counts


def _describe_leaks(split, pairs, others):
    leaked, sources = count_leaks(pairs, others)
    return (
        f"{leaked:,} of {len(others):,} {split} pairs are in train too, and the sources of "
        f"{sources:,}."
    )


def leaks(config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> str:
    """Counts the pairs of the test set of `own` that are among the training pairs of `config`."""
    return _describe_leaks("test", read_pairs(config.data, "train"), read_pairs(own.data, "test"))


def show_batch(
    batches: tf.data.Dataset, config: ml_collections.ConfigDict, workdir: str, picture: str
) -> str:
    """Writes the first pairs of the first training batch as text again, as the model sees them."""
    tokenizers, batch = load_tokenizers(workdir), next(iter(batches))
    sides = (
        tokenizer.decode(batch[name].numpy())
        for tokenizer, name in zip(tokenizers, ("source", "labels"), strict=True)
    )
    pairs = [pair for pair in zip(*sides, strict=True) if any(pair)]  # Not rows of padding.
    return "\n".join(f"{source}\n  -> {target}" for source, target in pairs[:SHOWN_PAIRS])
