"""The sentence pairs of a translation run, and the batches made of them.

Letters: `B` sentences, `S` source tokens, `T` target tokens.
"""

import hashlib
from pathlib import Path

import ml_collections
import tensorflow as tf

from kerasformer.tokenizers import SentencePieceTokenizer, train_sentencepiece
from pipelines.data.shards import WHOLE_BATCH, Shard
from pipelines.runs.files import write_atomically
from pipelines.text.batches import TokenizedPairs, batches_per_epoch, dataset
from pipelines.text.pairs import clean, read_pairs
from pipelines.training.task import Data

SHOWN_PAIRS = 5  # of the first batch, by a dry run


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE_BATCH) -> Data:
    """Reads, cleans, tokenizes and batches the sentence pairs.

    Args:
        config: the resolved config.
        workdir: folder of the run; unless `tokenizer.model` is there, it is trained and written.
        shard: part of each batch that is made here; the replicas divide its rows.

    Returns:
        The datasets, of dicts of int tensors `source` `(B, S)`, `target` `(B, T)` (behind the
        start token) and `labels` `(B, T)` (with the end token).
    """
    pairs, counts = clean(
        read_pairs(config.data, "train"),
        config.data.max_words,
        config.data.max_ratio,
        config.data.deduplicate,
    )
    validation_pairs = read_pairs(config.data, "validation")
    print("Training pairs: " + ", ".join(f"{n} {name}" for name, n in counts.items()), flush=True)
    if not (Path(workdir) / "tokenizer.model").exists():
        _train_tokenizer(config, workdir, pairs)
    tokenizer = load_tokenizer(workdir)
    train = TokenizedPairs.from_texts(pairs, tokenizer, tokenizer, config.train.max_length)
    validation = TokenizedPairs.from_texts(validation_pairs, tokenizer, tokenizer)
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
        counts={"training pairs": len(pairs), "validation pairs": len(validation_pairs)},
    )


def _fingerprint(pairs):
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update("\t".join((*pair, "")).encode())
    return digest.hexdigest()


def _train_tokenizer(config, workdir, pairs):
    proto = train_sentencepiece(
        (sentence for pair in pairs for sentence in pair), **config.tokenizer.to_dict()
    )
    write_atomically(Path(workdir) / "tokenizer.model", lambda name: Path(name).write_bytes(proto))


def load_tokenizer(workdir: str) -> SentencePieceTokenizer:
    """Loads the tokenizer of a run."""
    return SentencePieceTokenizer.from_file(Path(workdir) / "tokenizer.model")


def show_batch(
    batches: tf.data.Dataset, config: ml_collections.ConfigDict, workdir: str, picture: str
) -> str:
    """Writes the first pairs of the first training batch as text again, as the model sees them."""
    tokenizer, batch = load_tokenizer(workdir), next(iter(batches))
    sides = (tokenizer.decode(batch[name].numpy()) for name in ("source", "labels"))
    pairs = [pair for pair in zip(*sides, strict=True) if any(pair)]  # Not rows of padding.
    return "\n".join(f"{source}\n  -> {target}" for source, target in pairs[:SHOWN_PAIRS])
