"""The recurrent models: their formulas, causality, padding, steps, searches and arguments."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import beam_search
from kerasformer.models.recurrent import VARIANTS, Seq2SeqRNN
from tests.backend import gradients

VOCABULARY, HIDDEN, VECTOR = 17, 5, 7
SOURCE = np.array([[5, 7, 11, 4, 3, 2], [8, 5, 2, 0, 0, 0]])
TARGET = np.array([[1, 6, 9, 9, 4], [1, 12, 5, 0, 0]])
ONE_WAY = {"bidirectional": False, "cell": "lstm", "num_layers": 2}
OPTIONS = {
    "Bahdanau": {},
    "Luong": {**ONE_WAY, "attention": "general", "input_feeding": True, "reverse_source": True},
    "concat": {"attention": "concat", "cell": "lstm", "output_dim": 11, "tie_output": False},
    "without attention": {"attention": None, "num_layers": 2},
}


def make_model(vocabulary_size=VOCABULARY, **options):
    sizes = {"num_layers": 1, "hidden_dim": HIDDEN, "embedding_dim": VECTOR}
    model = Seq2SeqRNN(vocabulary_size, **sizes | options)
    model.build()
    random = np.random.default_rng(3)
    model.set_weights([0.6 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


@functools.cache
def shared(name):
    """A model that tests change nothing of."""
    return make_model(**OPTIONS[name])


def logits_of(model, source=SOURCE, target=TARGET):
    return ops.convert_to_numpy(model({"source": source, "target": target}))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(cell, x, state):
    """One step of Cho et al. 2014, whose gate `z` of Keras keeps the old state."""
    kernel, recurrent, bias = map(ops.convert_to_numpy, cell.weights)
    units = len(recurrent)
    gates = x @ kernel + bias
    z, r = np.split(sigmoid(gates[: 2 * units] + state @ recurrent[:, : 2 * units]), 2)
    return z * state + (1 - z) * np.tanh(gates[2 * units :] + (r * state) @ recurrent[:, -units:])


def lstm(cell, x, states):
    kernel, recurrent, bias = map(ops.convert_to_numpy, cell.weights)
    i, f, c, o = np.split(x @ kernel + states[0] @ recurrent + bias, 4)
    memory = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(c)
    return sigmoid(o) * np.tanh(memory), memory


def weighted(scores, annotations):
    weights = np.exp(scores) / np.exp(scores).sum()
    return weights @ annotations


class FormulaTest:
    def test_bahdanaus_logits_are_those_of_the_paper(self):
        model = shared("Bahdanau")
        encoder, decoder = model.encoder, model.decoder
        vectors = ops.convert_to_numpy(model.target_embedding.embeddings)
        scaled = vectors * VECTOR**0.5
        ways = []
        for cell, ids in (
            (encoder.forwards[0], SOURCE[0]),
            (encoder.backwards[0], SOURCE[0][::-1]),
        ):
            steps = itertools.accumulate(
                ids,
                lambda s, token, cell=cell: gru(cell, scaled[token], s),
                initial=np.zeros(HIDDEN),
            )
            ways.append(list(steps)[1:])
        annotations = np.concatenate([ways[0], ways[1][::-1]], axis=1)
        v, w, u = (
            ops.convert_to_numpy(x)
            for x in (
                decoder.attention_layer.vector,
                decoder.attention_layer.query_dense.kernel,
                decoder.attention_layer.key_dense.kernel,
            )
        )
        bridge, bias = map(ops.convert_to_numpy, decoder.bridge_denses[0].weights)
        maxout, maxout_bias = map(ops.convert_to_numpy, decoder.output_dense.weights)
        state, expected = np.tanh(ways[1][-1] @ bridge + bias), []
        for token in TARGET[0]:
            seen = weighted(np.tanh(state @ w + annotations @ u) @ v[:, 0], annotations)
            parts = np.concatenate([seen, state, scaled[token]]) @ maxout + maxout_bias
            expected.append(parts.reshape(-1, 2).max(axis=1) @ vectors.T)
            state = gru(decoder.cells[0], np.concatenate([scaled[token], seen]), state)
        np.testing.assert_allclose(perturbed("Bahdanau")[0][0, 0], expected, rtol=1e-4, atol=1e-4)

    def test_luongs_logits_are_those_of_the_paper(self):
        model = shared("Luong")
        decoder = model.decoder
        vectors = ops.convert_to_numpy(model.target_embedding.embeddings)
        scaled = vectors * VECTOR**0.5
        states, annotations = [(np.zeros(HIDDEN), np.zeros(HIDDEN))] * 2, []
        for token in SOURCE[0][::-1]:
            x = scaled[token]
            for layer, cell in enumerate(model.encoder.forwards):
                states[layer] = lstm(cell, x, states[layer])
                x = states[layer][0]
            annotations.insert(0, x)
        matrix = ops.convert_to_numpy(decoder.attention_layer.key_dense.kernel)
        dense, bias = map(ops.convert_to_numpy, decoder.output_dense.weights)
        fed, expected = np.zeros(VECTOR), []
        for token in TARGET[0]:
            x = np.concatenate([scaled[token], fed])
            for layer, cell in enumerate(decoder.cells):
                states[layer] = lstm(cell, x, states[layer])
                x = states[layer][0]
            seen = weighted((np.array(annotations) @ matrix) @ x, np.array(annotations))
            fed = np.tanh(np.concatenate([seen, x]) @ dense + bias)
            expected.append(fed @ vectors.T)
        np.testing.assert_allclose(perturbed("Luong")[0][0, 0], expected, rtol=1e-4, atol=1e-4)


@functools.cache
def perturbed(name):
    """Logits `(4, 2, T, V)` and scores of two sentences: as they are, with another target token,
    with another last source token, and with a source of padding alone.
    """
    sources, targets = np.stack([SOURCE] * 4), np.stack([TARGET] * 4)
    targets[1, :, 2] = 7
    sources[2, 1, 2] = 3
    sources[3] = 0
    model = shared(name)
    encoded = model.encode(sources.reshape(8, -1))
    logits, scores = model.decode(targets.reshape(8, -1), *encoded, return_attention_scores=True)
    logits, scores = map(ops.convert_to_numpy, (logits, *scores))
    return logits.reshape(4, 2, 5, -1), scores.reshape(4, 2, *scores.shape[1:])


@pytest.mark.parametrize("name", OPTIONS)
class PerturbationTest:
    def test_a_future_token_cannot_change_the_past(self, name):
        logits, _ = perturbed(name)
        differ = np.abs(logits[1] - logits[0]).max(axis=-1) > 1e-6
        np.testing.assert_array_equal(differ, [[False, False, True, True, True]] * 2)

    def test_the_last_real_source_token_moves_the_first_logits(self, name):
        logits, _ = perturbed(name)
        differ = np.abs(logits[2] - logits[0]).max(axis=-1) > 1e-6
        assert differ.tolist() == [[False] * 5, [True] * 5]

    def test_padding_on_either_side_changes_nothing(self, name):
        logits, _ = perturbed(name)
        left = np.array([np.roll(row, (row == 0).sum()) for row in SOURCE])
        sources = [np.pad(SOURCE, [(0, 0), (0, 3)]), np.pad(left, [(0, 0), (3, 0)])]
        targets = [np.pad(TARGET, [(0, 0), (0, 2)])] * 2
        padded = logits_of(shared(name), np.concatenate(sources), np.concatenate(targets))[:, :5]
        expected = np.concatenate([logits[0], logits[0]])
        np.testing.assert_allclose(padded, expected, rtol=1e-4, atol=1e-5)
        assert np.isfinite(logits[3]).all()

    def test_scores_are_those_of_one_block_with_one_head(self, name):
        _, scores = perturbed(name)
        assert scores.shape == (4, 2, 1, 5, 6)
        np.testing.assert_allclose(scores[:3].sum(axis=-1), 1, rtol=1e-5)
        assert not scores[:3, 1, ..., 3:].any() and not scores[3].any()
        assert (np.ptp(scores[0, 0]) < 1e-6) == (shared(name).attention is None)

    def test_cached_steps_equal_the_full_pass(self, name):
        model, (logits, _) = shared(name), perturbed(name)
        step, state, context = model.start_decoding(SOURCE, max_length=7)
        # Each sentence has two beams, one of which has another third token.
        expected = np.swapaxes(logits[:2], 0, 1).reshape(4, 5, -1)
        state = keras.tree.map_structure(lambda x: ops.repeat(x, 2, axis=0), state)
        for position in range(5):
            token_ids = np.repeat(TARGET[:, position], 2)
            token_ids[1::2] = 7 if position == 2 else token_ids[1::2]
            found, state = step(ops.array(token_ids, "int32"), state, context)
            np.testing.assert_allclose(found, expected[:, position], rtol=1e-4, atol=1e-5)


class SearchTest:
    def test_beam_search_finds_the_best_of_all_translations(self):
        words, length = [3, 4, 5], 3
        model, source = make_model(6), np.array([[4, 3, 2], [5, 2, 0]])
        rests = (itertools.product(words, repeat=count) for count in range(length))
        ids = [[*rest, 2, *[0] * (length - 1 - len(rest))] for some in rests for rest in some]
        ids = np.array(ids)
        inputs = {"source": np.repeat(source, len(ids), axis=0)}
        inputs["target"] = np.tile(np.insert(ids, 0, 1, axis=1)[:, :-1], (2, 1))
        log_probs = ops.convert_to_numpy(ops.log_softmax(model(inputs)))
        log_probs = log_probs.reshape(2, *ids.shape, -1)
        log_probs = np.take_along_axis(log_probs, ids[None, ..., None], axis=-1)[..., 0]
        totals = np.where(ids != 0, log_probs, 0).sum(axis=-1)
        begin = (*model.start_decoding(source, length), np.full(2, 1), length)
        found = beam_search(*begin, beam_size=9, num_hypotheses=5, length_penalty=None)
        for row in range(2):
            best = np.argsort(-totals[row])[:5]
            np.testing.assert_array_equal(found.token_ids[row], ids[best])
            np.testing.assert_allclose(found.scores[row], totals[row, best], rtol=1e-4)


class TrainingTest:
    def test_dropout_is_for_training_only_and_a_seed_decides(self):
        models = [make_model(dropout=0.5, seed=seed, **OPTIONS["Luong"]) for seed in (3, 3, 5)]
        inputs = {"source": SOURCE, "target": TARGET[:, :3]}
        expected = perturbed("Luong")[0][0, :, :3]
        np.testing.assert_allclose(models[0](inputs), expected, rtol=1e-4, atol=1e-5)
        first, same, other = (np.array(model(inputs, training=True)) for model in models)
        np.testing.assert_array_equal(first, same)
        assert np.any(first != other)

    @pytest.mark.parametrize("name", ["Bahdanau", "concat"])
    def test_gradients_reach_every_weight(self, name):
        model = shared(name)
        inputs = {"source": SOURCE[:, :3], "target": TARGET[:, :3]}
        weights = model.trainable_variables
        for weight, gradient in zip(
            weights, gradients(lambda: ops.sum(ops.sin(model(inputs))), weights), strict=True
        ):
            assert np.any(ops.convert_to_numpy(gradient)), weight.path


class VariantTest:
    def test_bahdanaus_counts_what_the_appendix_counts(self):
        n, m, half, words = 13, 11, 5, 17  # 1,000, 620, 500 and 30,000 in the paper
        sizes = {"hidden_dim": n, "embedding_dim": m, "output_dim": half}
        model = Seq2SeqRNN.from_variant("bahdanau", words, **sizes)
        model.build()
        gates = 3 * n * (1 + n + m)  # of one direction
        decoder = 3 * n * (1 + n + m + 2 * n)
        alignment, bridge = n + n * n + 2 * n * n, n * n + n
        maxout = 2 * half * (1 + n + m + 2 * n)
        embeddings = words * (2 * m + half)
        expected = 2 * gates + decoder + alignment + bridge + maxout + embeddings
        assert model.count_params() == expected
        published = {"hidden_dim": 1000, "embedding_dim": 620, "output_dim": 500}
        assert published.items() <= VARIANTS["bahdanau"].items()

    def test_the_published_sizes_and_ways_are_told_by_name(self):
        for name, attention, reads_backwards in (
            ("luong", "general", False),
            ("seq2seq", None, True),
        ):
            model = Seq2SeqRNN.from_variant(name, 11)
            found = (model.num_layers, model.hidden_dim, model.cell, model.bidirectional)
            assert found == (4, 1000, "lstm", False)
            assert (model.attention, model.reverse_source) == (attention, reads_backwards)


class ErrorTest:
    def test_what_contradicts_itself_is_named(self):
        with pytest.raises(ValueError, match=r"cell to be one of \['gru', 'lstm'\].*'rnn'"):
            make_model(cell="rnn")
        with pytest.raises(ValueError, match="attention to be one of .*attention='cosine'"):
            make_model(attention="cosine")
        with pytest.raises(ValueError, match="input_feeding=True and attention='additive'"):
            make_model(input_feeding=True)
        with pytest.raises(ValueError, match="bidirectional=False with attention='dot'"):
            make_model(attention="dot")
        with pytest.raises(ValueError, match="received output_dim=11 and embedding_dim=7"):
            make_model(output_dim=11)
        with pytest.raises(ValueError, match="num_layers=0"):
            make_model(num_layers=0)
        with pytest.raises(ValueError, match=r"variant to be one of \['bahdanau', .*'huge'"):
            Seq2SeqRNN.from_variant("huge", VOCABULARY)
