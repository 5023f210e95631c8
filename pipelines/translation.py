"""The translation task: sentence pairs in, a model that turns strings into strings out.

Letters: `B` sentences, `S` source tokens, `T` target tokens, `n` hypotheses.
"""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import ml_collections
import tensorflow as tf
from keras import ops

from kerasformer import decoding
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer
from kerasformer.models.transformer import VARIANTS
from kerasformer.tokenizers import (
    KINDS,
    START_ID,
    SentencePieceTokenizer,
    train_sentencepiece,
)
from pipelines.data.shards import WHOLE, Shard
from pipelines.runs.config import check_choices, check_keys
from pipelines.runs.files import write_atomically
from pipelines.text.batches import TokenizedPairs, batches_per_epoch, dataset
from pipelines.text.pairs import KEYS, clean, read_pairs
from pipelines.text.scores import bleu, score, table
from pipelines.training import settings
from pipelines.training.task import Data
from pipelines.translator import Translator, search_arguments

METRICS = ("loss", "accuracy", "bleu")  # What a validation can report.
SHOWN = 5  # Pairs of a batch that a dry run shows.
DEFAULTS = {
    "task": "translation",
    "seed": 1,
    "weights": "average",  # What is evaluated: "average" of the kept checkpoints, "best" or "last".
    "data": {
        "format": "embedded",
        "is_tokenized": False,  # Whether the text holds words split off by spaces already.
        "max_words": 250,
        "max_ratio": 9.0,
        "deduplicate": True,
    },
    "tokenizer": {
        "kind": "unigram",
        "vocabulary_size": 8000,
        "lowercase": False,
        "normalization": "nmt_nfkc",
        "byte_fallback": True,
    },
    "model": {"variant": "base"},
    "train": {
        **settings.DEFAULTS,
        "batch_tokens": 4096,  # Of the longer side of a batch, padding counted.
        "max_length": 256,  # Tokens of either side; longer pairs are dropped and counted.
        "label_smoothing": 0.1,
    },
    "decode": {
        "beam_size": 4,
        "num_hypotheses": 4,
        "length_penalty": "wu",
        "alpha": 0.6,
        "max_source_length": 256,  # Tokens of a sentence that are read; the rest is cut off.
        "max_ratio": 1.5,  # A translation has at most max_ratio * source + extra tokens.
        "max_extra": 10,
        "batch_size": 32,
    },
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key that the task and the training loop read.

    A config file changes what it needs to. `model` holds a variant and any argument of
    `Seq2SeqTransformer`; `data` is what `parallel_text.read_pairs` reads.
    """
    config = ml_collections.ConfigDict(copy.deepcopy(DEFAULTS)).lock()
    for part in (config.data, config.model):
        part.unlock()  # These take more keys; elsewhere, one that nothing reads is a mistake.
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot be, before anything is read or trained.

    Raises:
        ValueError: naming the first value that cannot be.
    """
    check_choices(
        {
            "model.variant": (config.model.get("variant"), VARIANTS),
            "tokenizer.kind": (config.tokenizer.kind, KINDS),
        }
    )
    check_keys(config.data, KEYS)
    if config.train.max_length > config.train.batch_tokens:
        raise ValueError(
            "Expected the longest pair to fit into a batch, received "
            f"train.max_length={config.train.max_length} and "
            f"train.batch_tokens={config.train.batch_tokens}."
        )
    least = {"max_source_length": 2, "max_ratio": 0, "max_extra": 0, "batch_size": 1}
    for key, value in least.items():
        if config.decode[key] < value:
            raise ValueError(
                f"Expected decode.{key} to be at least {value}, "
                f"received decode.{key}={config.decode[key]}."
            )
    # The search knows best what it takes: one step of it, over seven tokens.
    decoding.beam_search(
        lambda ids, state, context: (ops.zeros((*ids.shape, 7)), state),
        (),
        (),
        [START_ID],
        max_length=1,
        **search_arguments(config.decode),
    )


def datasets(config: ml_collections.ConfigDict, workdir: str, shard: Shard = WHOLE) -> Data:
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


def show_batch(batch: dict, config: ml_collections.ConfigDict, workdir: str, picture: str) -> str:
    """Writes the first pairs of a training batch as text again, as the model sees them."""
    tokenizer = load_tokenizer(workdir)
    sides = (tokenizer.decode(batch[name].numpy()) for name in ("source", "labels"))
    pairs = [pair for pair in zip(*sides, strict=True) if any(pair)]  # Not rows of padding.
    return "\n".join(f"{source}\n  -> {target}" for source, target in pairs[:SHOWN])


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the model with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    arguments = config.model.to_dict()
    try:
        model = Seq2SeqTransformer.from_variant(
            arguments.pop("variant"),
            vocabulary_size=load_tokenizer(workdir).vocabulary_size,
            name="transformer",
            dtype=config.train.precision,
            **arguments,
        )
    except TypeError as error:
        raise ValueError(f"config.model={config.model.to_dict()} is wrong: {error}.") from error
    model.build()
    return model


def loss(model: keras.Model, batch: dict, config: ml_collections.ConfigDict):
    """Computes the smoothed cross-entropy of a training batch.

    Returns:
        Tuple of its sum over the real target tokens and their number, float32 scalars.
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=True)
    real = ops.cast(batch["labels"] != 0, "float32")
    losses = smoothed_cross_entropy(batch["labels"], logits, config.train.label_smoothing)
    return ops.sum(losses * real), ops.sum(real)


def metrics(model: keras.Model, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes what a validation reports, as (sum, count) over real target tokens.

    Returns:
        Dict with `loss` (nats a token, not smoothed) and `accuracy` (of the next token).
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=False)
    real = ops.cast(batch["labels"] != 0, "float32")
    right = ops.cast(ops.argmax(logits, axis=-1) == batch["labels"], "float32")
    losses = smoothed_cross_entropy(batch["labels"], logits)
    count = ops.sum(real)
    return {"loss": (ops.sum(losses * real), count), "accuracy": (ops.sum(right * real), count)}


def validation_scorer(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str
) -> Callable[[], dict[str, float]]:
    """Makes the function that scores what `metrics` cannot, by a whole search.

    Returns:
        Function that translates the validation set greedily with the weights that the model has
        by then, and returns its `bleu`.
    """
    greedy = config.copy_and_resolve_references()
    greedy.decode.beam_size = greedy.decode.num_hypotheses = 1
    sources, references = zip(*read_pairs(config.data, "validation"), strict=True)
    module = serving(model, greedy, workdir)

    def score_validation():
        found = translate(module, list(sources), greedy)
        return {"bleu": bleu(found, references, config.data.is_tokenized).score}

    return score_validation


def translate(module: tf.Module, sentences: list[str], config) -> list[str]:
    """Translates sentences through the `translate` signature, batched by length.

    Args:
        module: what `serving` returns.
        sentences: list of str.
        config: the resolved config, for `decode.batch_size`.

    Returns:
        List of the best translation of each sentence, in the order of the sentences.
    """
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    translations = [""] * len(sentences)
    for first in range(0, len(order), config.decode.batch_size):
        indices = order[first : first + config.decode.batch_size]
        batch = tf.constant([sentences[index] for index in indices])
        found = module.translate(batch)["translation"].numpy()
        for index, text in zip(indices, found, strict=True):
            translations[index] = text.decode("utf-8")
    return translations


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Translator:
    """Makes the `tf.Module` whose signatures are exported."""
    return Translator(model, load_tokenizer(workdir), config.decode)


def example(module: Translator, config: ml_collections.ConfigDict) -> str:
    """Works one example through the module, for the model card."""
    source, reference = read_pairs(config.data, "validation")[0]
    found = module.translate(tf.constant([source]))
    return (
        f"- input: {source}\n- output: {found['translation'][0].numpy().decode()}\n"
        f"- reference: {reference}\n"
    )


def evaluate(module: Translator, config: ml_collections.ConfigDict, split: str = "test"):
    """Translates a split and scores it.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        Tuple of the scores (a dict that JSON can hold), a table of worst and best sentences, and
        pictures by name: none.
    """
    pairs = read_pairs(config.data, split)
    sources, references = zip(*pairs, strict=True)
    hypotheses = translate(module, list(sources), config)
    scores = score(hypotheses, references, config.data.is_tokenized)
    return scores, table(sources, hypotheses, references), {}
