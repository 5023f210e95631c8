"""Speed of translation: a training step and a search, here and with keras-hub.

Both sides get the same sizes, random token ids, dropout, optimizer and loss.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from kerasformer.decoding import beam_search, greedy_search
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer
from pipelines.benchmarks.turns import Side, Work

START_ID = 1
LEARNING_RATE = 1e-4
DROPOUT = 0.1


class Sizes(NamedTuple):
    """The sizes of a model and of its batch.

    Attributes:
        num_layers, hidden_dim, intermediate_dim, num_heads, vocabulary_size: ints, the model.
        batch_size: int. Number of sentences.
        source_length: int. Tokens of a source sentence.
        target_length: int. Tokens of a target sentence; a search makes exactly as many.
        beam_size: int. Beams of a search, 1 for a greedy one; 0 for a training step, in which the
            last quarter of both sentences is padding.
    """

    num_layers: int
    hidden_dim: int
    intermediate_dim: int
    num_heads: int
    vocabulary_size: int
    batch_size: int
    source_length: int
    target_length: int
    beam_size: int = 0


def make_work(title: str, sizes: Sizes) -> Work:
    """Makes a piece of work of its sizes.

    keras-hub's search is always compiled, because this is Keras's default and the fastest way.
    """
    if sizes.beam_size:
        items = sizes.batch_size * sizes.target_length
        ours: Callable = functools.partial(search, sizes)
        theirs: Callable = functools.partial(keras_hub_search, sizes)
    else:
        real = sizes.target_length - _padding(sizes.target_length)
        items = sizes.batch_size * real
        ours = functools.partial(training, sizes)
        theirs = functools.partial(keras_hub_training, sizes)
    compiled = True if sizes.beam_size else None
    return Work(
        title,
        "tok" if sizes.beam_size else "target tok",
        [Side("kerasformer", items, ours), Side("keras-hub", items, theirs, compiled)],
        *((1, 3) if sizes.beam_size else (2, 9)),
    )


def training(sizes: Sizes, jit_compile: bool, precision: str) -> Callable[[], float]:
    """Makes a training step of this project's model that returns its loss."""
    source, target = _training_batch(sizes)
    model = transformer(sizes, precision)
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


def transformer(sizes: Sizes, precision: str) -> keras.Model:
    """Builds the pre-norm model that is trained, with a table of tokens for each side."""
    model = Seq2SeqTransformer(
        **_model_sizes(sizes),
        dropout=DROPOUT,
        attention_dropout=DROPOUT,  # keras-hub has one rate for both.
        norm_first=True,
        share_embeddings=False,
        dtype=precision,
    )
    model.build()
    return model


def keras_hub_training(sizes: Sizes, jit_compile: bool, precision: str) -> Callable[[], float]:
    """Makes a training step of keras-hub's model that returns its loss."""
    source, target = _training_batch(sizes)
    model = keras_hub_transformer(sizes, precision)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
        jit_compile=jit_compile,
    )

    def step():
        with _lost_masks_allowed():
            return float(model.train_on_batch([source, target[:, :-1]], target[:, 1:]))

    return step


def keras_hub_transformer(sizes: Sizes, precision: str) -> keras.Model:
    """Builds the same model out of keras-hub's layers; it has trained positions."""
    block = {
        "intermediate_dim": sizes.intermediate_dim,
        "num_heads": sizes.num_heads,
        "dropout": DROPOUT,
        "normalize_first": True,
        "dtype": precision,
    }
    doors = [
        keras_nlp.layers.TokenAndPositionEmbedding(
            sizes.vocabulary_size, length, sizes.hidden_dim, mask_zero=True, dtype=precision
        )
        for length in (sizes.source_length, sizes.target_length)
    ]
    inputs = [keras.Input((None,), dtype="int32") for _ in doors]
    with _lost_masks_allowed():
        context, sequence = (door(ids) for door, ids in zip(doors, inputs, strict=True))
        for _ in range(sizes.num_layers):
            context = keras_nlp.layers.TransformerEncoder(**block)(context)
        for _ in range(sizes.num_layers):
            sequence = keras_nlp.layers.TransformerDecoder(**block)(sequence, context)
        logits = doors[1].token_embedding(sequence, reverse=True)
    return keras.Model(inputs, logits)


def search(sizes: Sizes, jit_compile: bool, precision: str) -> Callable[[], np.ndarray]:
    """Makes a cached search with random weights that returns token ids `(B, T)`."""
    source = _random_ids(sizes.vocabulary_size, (sizes.batch_size, sizes.source_length))
    model = Seq2SeqTransformer(**_model_sizes(sizes), dtype=precision)
    model.build()
    length = sizes.target_length

    @tf.function(jit_compile=jit_compile)
    def run(source):
        start_ids = tf.fill((sizes.batch_size,), START_ID)
        begin = (*model.start_decoding(source, length), start_ids, length)
        if sizes.beam_size == 1:
            return greedy_search(*begin, min_length=length).token_ids
        return beam_search(*begin, beam_size=sizes.beam_size, min_length=length).token_ids

    return lambda: run(tf.constant(source)).numpy()[:, 0]


def keras_hub_search(sizes: Sizes, jit_compile: bool, precision: str) -> Callable[[], np.ndarray]:
    """Makes the same search of keras-hub's BART, compiled by XLA whatever `jit_compile` says."""
    source = _random_ids(sizes.vocabulary_size, (sizes.batch_size, sizes.source_length))
    arguments = _model_sizes(sizes)
    prompt_length = 2  # BART begins with its end and its start token.
    length = prompt_length + sizes.target_length
    backbone = keras_nlp.models.BartBackbone(
        **arguments, max_sequence_length=max(sizes.source_length, length), dtype=precision
    )
    model = keras_nlp.models.BartSeq2SeqLM(backbone=backbone, preprocessor=None)
    sampler = "greedy" if sizes.beam_size == 1 else keras_nlp.samplers.BeamSampler(sizes.beam_size)
    model.compile(sampler=sampler, jit_compile=True)
    is_prompt = np.tile(np.arange(length) < prompt_length, (sizes.batch_size, 1))
    inputs = {
        "encoder_token_ids": source,
        "encoder_padding_mask": np.ones_like(source, "bool"),
        "decoder_token_ids": np.where(is_prompt, 2, 0).astype("int32"),
        "decoder_padding_mask": is_prompt,
    }

    def run():
        token_ids = model.generate(inputs, stop_token_ids=None)["decoder_token_ids"]
        return np.asarray(token_ids)[:, prompt_length:]

    return run


@contextlib.contextmanager
def _lost_masks_allowed():
    """Silences keras-hub's layers, which warn of masks that they pass on by hand."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*destroy the mask")
        yield


def _model_sizes(sizes):
    names = ("vocabulary_size", "num_layers", "hidden_dim", "num_heads", "intermediate_dim")
    return {name: getattr(sizes, name) for name in names}


def _random_ids(vocabulary_size, shape):
    return np.random.default_rng(0).integers(4, vocabulary_size, shape, dtype="int32")


def _training_batch(sizes):
    """Draws source `(B, S)` and target `(B, T + 1)`, the last quarter of both padding."""
    source, target = (
        _random_ids(sizes.vocabulary_size, (sizes.batch_size, length))
        for length in (sizes.source_length, sizes.target_length + 1)
    )
    source[:, -_padding(sizes.source_length) :] = 0
    target[:, -_padding(sizes.target_length) :] = 0
    return source, target


def _padding(length):
    return length // 4


BASE = Sizes(6, 512, 2048, 8, 32_000, 32, 32, 32)
DECODING = BASE._replace(source_length=20, target_length=24)
WORKS = {
    "train_tiny": make_work("translation train tiny", Sizes(4, 128, 256, 4, 10_000, 128, 32, 32)),
    "train_base": make_work("translation train base", BASE),
    "decode_greedy": make_work("decode base beam 1", DECODING._replace(beam_size=1)),
    "decode_beam": make_work("decode base beam 4", DECODING._replace(beam_size=4)),
}
