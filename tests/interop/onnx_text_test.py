"""A beam search between tokenizers is one ONNX file, of sentences in and out, in int8 too."""

import numpy as np
import onnx
import pytest
import tensorflow as tf

from kerasformer.decoding import beam_search
from kerasformer.interop.onnx import export_onnx, load_onnx
from kerasformer.interop.onnx_loops import bodies
from kerasformer.interop.onnx_text import TextSearch
from kerasformer.tokenizers import SentencePieceTokenizer, train_sentencepiece

SENTENCES = ["der Hund schläft", "die Hunde schlafen", "ein Hund sieht drei Katzen", "größer"]
TEXT = tf.TensorSpec((None,), tf.string, name="text")
TOKENS = tf.TensorSpec((None,), tf.int32, name="tokens")
STARTS = tf.TensorSpec((None,), tf.int64, name="starts")
WIDTH = 11


@pytest.fixture(scope="module")
def translator():
    """A search that begins with the first token of a sentence: as one function, and in parts."""
    tokenizer = SentencePieceTokenizer(train_sentencepiece(SENTENCES, 31, byte_fallback=False))
    random, size = np.random.default_rng(3), tokenizer.vocabulary_size
    embedding, weights = (
        tf.Variable(random.normal(size=x)) for x in ((size, WIDTH), (WIDTH, size))
    )
    embedding, weights = tf.cast(embedding, tf.float32), tf.Variable(tf.cast(weights, tf.float32))

    def step(token_ids, state, context):
        state = tf.tanh(state + tf.gather(embedding, token_ids))
        return tf.matmul(state, weights), state

    def search(first):
        state = tf.zeros((tf.shape(first)[0], WIDTH))
        limit = tf.maximum(tf.reduce_max(first), 0) * 0 + 13  # A tensor, so that the loop drops.
        best = beam_search(step, state, (), first, limit, beam_size=3)
        return {"token_ids": best.token_ids[:, 0], "score": best.scores[:, 0]}

    @tf.function(input_signature=[TOKENS, STARTS])
    def search_tokens(tokens, starts):
        first = tf.gather(tf.concat([tokens, [0]], axis=0), starts[:-1])
        return search(tf.where(starts[1:] > starts[:-1], first, 0))

    @tf.function(input_signature=[TEXT])
    def translate(text):
        found = search(tokenizer.tokenize(text).to_tensor(shape=(None, 1))[:, 0])
        token_ids = found.pop("token_ids")
        return {"translation": tokenizer.detokenize(token_ids), **found}

    return translate, TextSearch(search_tokens, tokenizer.proto, tokenizer.proto)


def nodes(graph):
    """Lists the nodes of a graph and of the bodies of its loops."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from nodes(body)


class TextTest:
    @pytest.mark.parametrize("quantization", ["float32", "int8"])
    def test_sentences_become_the_sentences_of_the_search(self, tmp_path, translator, quantization):
        translate, search = translator
        path = tmp_path / "model.onnx"
        samples = [{"text": ["ein Hund", ""]}, {"text": ["größer"]}]
        export_onnx(translate, path, samples, search=search, quantization=quantization)
        run, sentences = load_onnx(path), np.array([*SENTENCES, "", "Katzen\n x"], object)
        found = run({"text": sentences})
        expected = translate(tf.constant(sentences))
        tolerance = 1e-4 if quantization == "float32" else 0.1
        np.testing.assert_allclose(found["score"], expected["score"], rtol=tolerance)
        if quantization == "float32":
            texts = [text.decode() for text in expected["translation"].numpy()]
            assert found["translation"].tolist() == texts and len(set(texts)) > 2
        # The weights of the loop are found, because they stand outside of it.
        kinds = {node.op_type for node in nodes(onnx.load(path).graph)}
        assert ("MatMulInteger" in kinds) == (quantization == "int8")
        assert run({"text": np.array([], object)})["translation"].shape == (0,)
