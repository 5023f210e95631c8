"""Speed of fixed pieces of work: a training step and a search, here and with keras-hub.

Both sides get the same sizes, random token ids, dropout, optimizer and loss, and one call of one
side is timed in turn with one call of the other: a machine gets faster and slower, and a ratio
from one run holds where two figures from two runs do not.
"""

import contextlib
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from kerasformer.decoding import beam_search, greedy_search
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer

START_ID = 1
LEARNING_RATE = 1e-4
DROPOUT = 0.1


class Work(NamedTuple):
    """A piece of work: the sizes of a model and of its batch.

    Attributes:
        title: what the work is called in a record.
        num_layers, hidden_dim, intermediate_dim, num_heads, vocabulary_size: ints, the model.
        batch_size: int. Number of sentences.
        source_length: int. Tokens of a source sentence.
        target_length: int. Tokens of a target sentence; a search makes exactly as many.
        beam_size: int. Beams of a search, 1 for a greedy one; 0 for a training step, in which the
            last quarter of both sentences is padding.
    """

    title: str
    num_layers: int
    hidden_dim: int
    intermediate_dim: int
    num_heads: int
    vocabulary_size: int
    batch_size: int
    source_length: int
    target_length: int
    beam_size: int = 0


WORKS = {
    "train_tiny": Work("translation train tiny", 4, 128, 256, 4, 10_000, 128, 32, 32),
    "train_base": Work("translation train base", 6, 512, 2048, 8, 32_000, 32, 32, 32),
    "decode_greedy": Work("decode base beam 1", 6, 512, 2048, 8, 32_000, 32, 20, 24, 1),
    "decode_beam": Work("decode base beam 4", 6, 512, 2048, 8, 32_000, 32, 20, 24, 4),
}


def find_works(names: Sequence[str]) -> list[Work]:
    """Looks up pieces of work.

    Raises:
        ValueError: for a name that is not in `WORKS`.
    """
    for name in names:
        if name not in WORKS:
            raise ValueError(f"Expected work to be among {list(WORKS)}, received work={name!r}.")
    return [WORKS[name] for name in names]


def measure(
    work: Work,
    jit_compile: bool = False,
    precision: str = "float32",
    with_keras_hub: bool = False,
) -> list[dict]:
    """Times a piece of work: medians, after calls that are not counted.

    Args:
        work: one of `WORKS`, or sizes of your own.
        jit_compile: whether XLA compiles the work. keras-hub's search always is compiled: that
            is how Keras runs it unless told otherwise, and how it is fastest.
        precision: `"float32"` or `"mixed_bfloat16"`.
        with_keras_hub: whether keras-hub does the same work in turn.

    Returns:
        Records with `work`, `peer`, `value` and `unit`: target tokens a second of each side and,
        for two sides, how many times as fast this project is.
    """
    ours, theirs = (search, keras_hub_search) if work.beam_size else (training, keras_hub_training)
    precision_label = "" if precision == "float32" else f" {precision}"
    label = ("kerasformer xla" if jit_compile else "kerasformer") + precision_label
    calls = {label: ours(work, jit_compile, precision)}
    if with_keras_hub:
        is_compiled = jit_compile or work.beam_size
        label = ("keras-hub xla" if is_compiled else "keras-hub") + precision_label
        calls[label] = theirs(work, jit_compile, precision)
    seconds = (
        time_in_turn(list(calls.values()), warm_up=1, rounds=3)
        if work.beam_size
        else time_in_turn(list(calls.values()), warm_up=2, rounds=9)
    )
    peers = list(calls)
    calls.clear()
    gc.collect()  # A model is part of circles, and the next work needs its memory.
    tokens = work.batch_size * (
        work.target_length if work.beam_size else work.target_length - _padding(work.target_length)
    )
    unit = "tok/s" if work.beam_size else "target tok/s"
    rates = [tokens / median for median in seconds]
    records = [
        {"work": work.title, "peer": peer, "value": round(rate), "unit": unit}
        for peer, rate in zip(peers, rates, strict=True)
    ]
    if with_keras_hub:
        ratio = {"value": round(rates[0] / rates[1], 2), "unit": "times as fast"}
        records.append({"work": work.title, "peer": " / ".join(peers), **ratio})
    return records


def time_in_turn(calls: Sequence[Callable], warm_up: int, rounds: int) -> list[float]:
    """Returns the median seconds of each call, all called once a round."""
    for call in calls:
        for _ in range(warm_up):
            call()
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, own_times in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            own_times.append(time.perf_counter() - start)
    return [statistics.median(own_times) for own_times in times]


def training(work: Work, jit_compile: bool, precision: str) -> Callable[[], float]:
    """Makes a training step of this project's model that returns its loss."""
    source, target = _training_batch(work)
    model = transformer(work, precision)
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(source, target):
        labels = target[:, 1:]
        real = tf.cast(labels != 0, tf.float32)
        with tf.GradientTape() as tape:
            logits = model({"source": source, "target": target[:, :-1]}, training=True)
            losses = smoothed_cross_entropy(labels, logits)
            loss = tf.reduce_sum(losses * real) / tf.reduce_sum(real)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: float(step(tf.constant(source), tf.constant(target)))


def transformer(work: Work, precision: str) -> keras.Model:
    """Builds the pre-norm model that is trained, with a table of tokens for each side."""
    model = Seq2SeqTransformer(
        **_model_sizes(work),
        dropout=DROPOUT,
        attention_dropout=DROPOUT,  # keras-hub has one rate for both.
        norm_first=True,
        share_embeddings=False,
        dtype=precision,
    )
    model.build()
    return model


def keras_hub_training(work: Work, jit_compile: bool, precision: str) -> Callable[[], float]:
    """Makes a training step of keras-hub's model that returns its loss."""
    source, target = _training_batch(work)
    model = keras_hub_transformer(work, precision)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
        jit_compile=jit_compile,
    )

    def step():
        with _lost_masks_allowed():
            return float(model.train_on_batch([source, target[:, :-1]], target[:, 1:]))

    return step


def keras_hub_transformer(work: Work, precision: str) -> keras.Model:
    """Builds the same model out of keras-hub's layers; it has trained positions."""
    block = {
        "intermediate_dim": work.intermediate_dim,
        "num_heads": work.num_heads,
        "dropout": DROPOUT,
        "normalize_first": True,
        "dtype": precision,
    }
    doors = [
        keras_nlp.layers.TokenAndPositionEmbedding(
            work.vocabulary_size, length, work.hidden_dim, mask_zero=True, dtype=precision
        )
        for length in (work.source_length, work.target_length)
    ]
    inputs = [keras.Input((None,), dtype="int32") for _ in doors]
    with _lost_masks_allowed():
        context, sequence = (door(ids) for door, ids in zip(doors, inputs, strict=True))
        for _ in range(work.num_layers):
            context = keras_nlp.layers.TransformerEncoder(**block)(context)
        for _ in range(work.num_layers):
            sequence = keras_nlp.layers.TransformerDecoder(**block)(sequence, context)
        logits = doors[1].token_embedding(sequence, reverse=True)
    return keras.Model(inputs, logits)


def search(work: Work, jit_compile: bool, precision: str) -> Callable[[], np.ndarray]:
    """Makes a cached search with random weights that returns token ids `(B, T)`."""
    source = _random_ids(work.vocabulary_size, (work.batch_size, work.source_length))
    model = Seq2SeqTransformer(**_model_sizes(work), dtype=precision)
    model.build()
    length = work.target_length

    @tf.function(jit_compile=jit_compile)
    def run(source):
        step, state = model.start_decoding(source, length)
        start_ids = tf.fill((work.batch_size,), START_ID)
        if work.beam_size == 1:
            return greedy_search(step, state, start_ids, length, min_length=length).token_ids
        return beam_search(
            step, state, start_ids, length, beam_size=work.beam_size, min_length=length
        ).token_ids

    return lambda: run(tf.constant(source)).numpy()[:, 0]


def keras_hub_search(work: Work, jit_compile: bool, precision: str) -> Callable[[], np.ndarray]:
    """Makes the same search of keras-hub's BART, compiled by XLA whatever `jit_compile` says."""
    source = _random_ids(work.vocabulary_size, (work.batch_size, work.source_length))
    sizes = _model_sizes(work)
    prompt_length = 2  # BART begins with its end and its start token.
    length = prompt_length + work.target_length
    backbone = keras_nlp.models.BartBackbone(
        **sizes, max_sequence_length=max(work.source_length, length), dtype=precision
    )
    model = keras_nlp.models.BartSeq2SeqLM(backbone=backbone, preprocessor=None)
    sampler = "greedy" if work.beam_size == 1 else keras_nlp.samplers.BeamSampler(work.beam_size)
    model.compile(sampler=sampler, jit_compile=True)
    is_prompt = np.tile(np.arange(length) < prompt_length, (work.batch_size, 1))
    inputs = {
        "encoder_token_ids": source,
        "encoder_padding_mask": np.ones_like(source, "bool"),
        "decoder_token_ids": np.where(is_prompt, 2, 0).astype("int32"),
        "decoder_padding_mask": is_prompt,
    }

    def run():
        found = model.generate(inputs, stop_token_ids=None)["decoder_token_ids"]
        return np.asarray(found)[:, prompt_length:]

    return run


@contextlib.contextmanager
def _lost_masks_allowed():
    """Silences keras-hub's layers, which warn of masks that they pass on by hand."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*destroy the mask")
        yield


def _model_sizes(work):
    names = ("vocabulary_size", "num_layers", "hidden_dim", "num_heads", "intermediate_dim")
    return {name: getattr(work, name) for name in names}


def _random_ids(vocabulary_size, shape):
    return np.random.default_rng(0).integers(4, vocabulary_size, shape, dtype="int32")


def _training_batch(work):
    """Draws source `(B, S)` and target `(B, T + 1)`, the last quarter of both padding."""
    source, target = (
        _random_ids(work.vocabulary_size, (work.batch_size, length))
        for length in (work.source_length, work.target_length + 1)
    )
    source[:, -_padding(work.source_length) :] = 0
    target[:, -_padding(work.target_length) :] = 0
    return source, target


def _padding(length):
    return length // 4
