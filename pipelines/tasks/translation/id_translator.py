"""The translator for runtimes without strings: ids in, logits out, a function for each half.

`encoder` reads `source` int32 `(B, S)` (with the end token, padded with the model's `pad_id`, which
is 0 unless its weights came from another library) and gives

- `context` float `(L, 2, B, G, S, K)`, keys and values of each block, and `context_mask` `(B, S)`;
- `cache` float `(L, 2, B, G, 0, K)`, what the first step is given.

`decoder_step` reads `token_ids` int32 `(R,)`, `cache` float `(L, 2, R, G, T, K)`, `context` and
`context_mask`, and gives `logits` float32 `(R, V)` of the next token and `new_cache`
`(L, 2, R, G, T + 1, K)`. As the cache grows with each token, its length is their position.

A recurrent model has the same axes: `context` `(1, 1, B, 1, S, K)` are its keys and annotations
side by side, and `cache` and `new_cache` `(1, 1, R, 1, 1, K)` its states, whatever came before.

Letters: `B` sentences, `S` source tokens, `L` blocks, `G` key and value heads, `K` size of a head,
`R` rows (sentences, or their beams one sentence after the other), `T` tokens before the new one,
`V` vocabulary.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def functions(model) -> dict[str, tuple[Callable, list[dict]]]:
    """Makes both functions, each with sample inputs.

    Args:
        model: built model of any family of `models.MODELS`.

    Returns:
        Dict of `encoder` and `decoder_step`: pairs of a `tf.function` and a list of samples.
    """
    encoder = _make_encoder(model)
    step = _make_decoder_step(model, encoder.get_concrete_function().structured_outputs)
    random, size = np.random.default_rng(1), model.vocabulary_size
    sources = [random.integers(1, size, shape).astype(np.int32) for shape in ((1, 1), (2, 11))]
    sources[1][0, 7:] = model.pad_id
    samples = []
    for source, beams in zip(sources, (1, 3), strict=True):
        encoded = {name: output.numpy() for name, output in encoder(source).items()}
        # In numpy, as a search does it: a sentence has one row at first, then one for each beam.
        token_ids = np.full(len(source), model.start_id, np.int32)
        first = {"token_ids": token_ids, **encoded}
        outputs = {name: output.numpy() for name, output in step(**first).items()}
        rows = np.repeat(np.arange(len(source)), beams)
        best = outputs["logits"].argmax(axis=-1).astype(np.int32)
        second = {**first, "token_ids": best[rows], "cache": outputs["new_cache"][:, :, rows]}
        samples += [first, second]
    return {
        "encoder": (encoder, [{"source": source} for source in sources]),
        "decoder_step": (step, samples),
    }


def _make_encoder(model):
    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32, name="source")])
    def encoder(source):
        # A tensor as the largest length, so that the cache is empty and grows.
        _, (cache, _), (context, mask) = model.start_decoding(source, tf.constant(1))
        return {"context": _stack(context), "context_mask": mask, "cache": _stack(cache)}

    return encoder


def _make_decoder_step(model, encoded):
    context, mask, cache = (encoded[name] for name in ("context", "context_mask", "cache"))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None,), tf.int32, name="token_ids"),
            tf.TensorSpec(cache.shape, cache.dtype, name="cache"),
            tf.TensorSpec(context.shape, context.dtype, name="context"),
            tf.TensorSpec(mask.shape, mask.dtype, name="context_mask"),
        ]
    )
    def decoder_step(token_ids, cache, context, context_mask):
        positions = tf.fill(tf.shape(token_ids), tf.shape(cache)[4])
        room = model.decoder.grow_cache(_unstack(cache))
        logits, new_cache = model.decode_step(
            token_ids, room, positions, _unstack(context), context_mask
        )
        return {"logits": logits, "new_cache": _stack(new_cache)}

    return decoder_step


def _stack(cache):
    return tf.stack([tf.stack(pair) for pair in cache])


def _unstack(cache):
    return [tuple(tf.unstack(pair)) for pair in tf.unstack(cache)]
