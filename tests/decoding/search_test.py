"""Greedy, beam and sampled search, against a search in plain Python over a toy model."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer import decoding
from tests.backend import needs_tensorflow, tf
from tests.decoding.slow_search import END, EVERYTHING, Toy, ngrams, penalty, slow

PENALTIES = [("wu", 0.6), ("wu", -0.5), ("length", 1.0), ("length", -0.5), ("wu", 0.0), (None, 1.0)]


def run(search, toy, max_length, **options):
    return numpy_of(search(*toy.begin(), max_length, **options))


def numpy_of(found):
    return decoding.Hypotheses(*(ops.convert_to_numpy(field) for field in found))


greedy = functools.partial(run, decoding.greedy_search)
beam = functools.partial(run, decoding.beam_search)
sample = functools.partial(run, decoding.sample, seed=0)


def check(found, sentence, expected):
    """Compares one sentence of a result with `(score, tokens)` of the slow search."""
    for place, (score, tokens) in enumerate(expected):
        token_ids, found_score, length = (field[sentence, place] for field in found)
        assert tuple(token_ids[:length]) == tokens
        assert not token_ids[length:].any()
        np.testing.assert_allclose(found_score, score, rtol=2e-5, atol=1e-5)


def check_equal(found, expected):
    found, expected = decoding.Hypotheses(*found), decoding.Hypotheses(*expected)
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


def check_scores(toy, found, kind=None, alpha=1.0):
    """Scores the tokens again, from nothing but themselves."""
    for sentence, place in np.ndindex(found.scores.shape):
        tokens = found.token_ids[sentence, place, : found.lengths[sentence, place]]
        score = sum(toy.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens))
        score /= penalty(len(tokens), kind, alpha)
        np.testing.assert_allclose(found.scores[sentence, place], score, rtol=1e-5)


class BeamSearchTest:
    @pytest.mark.parametrize("kind, alpha", PENALTIES)
    def test_wide_beam_equals_exhaustive_search(self, kind, alpha):
        toy = Toy()
        options = {"beam_size": 331, "num_hypotheses": 13, "length_penalty": kind, "alpha": alpha}
        found = beam(toy, 4, **options)
        for sentence in range(toy.batch):
            check(found, sentence, slow(toy, sentence, 4, kind, alpha, 13))

    def test_every_hypothesis_that_exists_is_found_once(self):
        toy = Toy(vocabulary=5)
        found = beam(toy, 2, beam_size=17, num_hypotheses=11)
        expected = slow(toy, 0, 2, n=EVERYTHING)
        assert len(expected) == 1 + 2 + 4
        check(found, 0, expected)
        assert np.all(np.isneginf(found.scores[:, 7:]))
        assert not found.token_ids[:, 7:].any()

    @pytest.mark.parametrize("kind, alpha", PENALTIES)
    @pytest.mark.parametrize("beam_size, n", [(1, 1), (2, 2), (5, 1), (5, 3)])
    def test_early_stop_changes_nothing(self, kind, alpha, beam_size, n):
        toy = Toy(batch=7)
        toy.tables[::2, ..., END] += 3.0  # so that some end early and some late
        options = {"beam_size": beam_size, "num_hypotheses": n}
        found = beam(toy, 7, **options, length_penalty=kind, alpha=alpha)
        for sentence in range(toy.batch):
            check(found, sentence, slow(toy, sentence, 7, kind, alpha, n, beam_size))

    def test_search_stops_as_soon_as_nothing_better_can_come(self):
        steps = []

        def step(token_ids, state, context):
            steps.append(token_ids)
            return 9.0 * ops.one_hot(token_ids - 1, 7), state

        found = decoding.beam_search(step, (), (), np.array([4, 5]), 101, beam_size=3)
        assert numpy_of(found).token_ids[:, 0, :4].tolist() == [[3, 2, 0, 0], [4, 3, 2, 0]]
        assert len(steps) <= 3  # as many as run, in a loop that is not compiled

    @pytest.mark.parametrize("end_bias", [-1.0, 3.0])
    def test_batch_equals_its_sentences_one_by_one(self, end_bias):
        toy = Toy(batch=5, seed=1)
        toy.tables[..., END] += end_bias
        options = {"beam_size": 3, "num_hypotheses": 2}
        limits = np.array([11, 3, 7, 1, 5])
        together = beam(toy, 11, length_limit=limits, **options)
        for sentence in range(5):
            alone, own = Toy(batch=1), slice(sentence, sentence + 1)
            alone.tables = toy.tables[own]
            found = beam(alone, 11, length_limit=limits[own], **options)
            check_equal(found, [field[own] for field in together])

    @pytest.mark.parametrize("rules", [{}, {"no_repeat_ngram": 1, "prefix": (5, 0, 4)}])
    @pytest.mark.parametrize("beam_size, n, count", [(1, 1, 19), (3, 2, 23)])
    @needs_tensorflow
    def test_dropping_what_has_stopped_changes_nothing(self, beam_size, n, count, rules):
        toy, limits = Toy(batch=count, seed=4), np.arange(count) * 7 % 13
        toy.tables[::3, ..., END] -= 3.0  # so that some go on while others end
        options = {"beam_size": beam_size, "num_hypotheses": n, "length_limit": limits, **rules}
        if rules:
            options["prefix"] = np.array([rules["prefix"]] * count) * (limits[:, None] % 2)
        check_equal(beam(toy, tf.constant(11), **options), beam(toy, 11, **options))

    @needs_tensorflow
    def test_what_has_stopped_leaves_the_batch_and_the_context(self):
        rows = []

        def step(token_ids, state, last_tokens):
            rows.append((len(token_ids), len(last_tokens)))
            last_tokens = ops.repeat(last_tokens, 3, axis=0)
            ends = ops.where(token_ids >= last_tokens, END, token_ids + 1)
            return 99.0 * ops.one_hot(ends, 31), state

        begin = step, (), ops.array([5, 27, 8, 9]), ops.array([3, 3, 3, 3])
        found = numpy_of(decoding.beam_search(*begin, tf.constant(29), beam_size=3))
        assert found.lengths[:, 0].tolist() == [3, 25, 6, 7]
        assert rows[0] == (12, 4) and rows[-1] == (3, 1) and len(rows) < 29


class RulesTest:
    @pytest.mark.parametrize(
        "rules",
        [
            {"min_length": 3},
            {"no_repeat_ngram": 1},
            {"no_repeat_ngram": 2, "min_length": 2},
            {"no_repeat_ngram": 17},
            {"prefix": (0, 5)},
            {"prefix": (3, 3, 3), "no_repeat_ngram": 2, "min_length": 4},
            {"prefix": (5, END), "min_length": 4},
            {"prefix": (1, 4, 3, 6, 5, 4, 3)},
            {"prefix": ()},
        ],
    )
    def test_searches_obey_as_worded(self, rules):
        toy, options, own = Toy(seed=2), dict(rules), [rules] * 3
        if "prefix" in rules:  # of which the second sentence has none
            options["prefix"] = np.array([rules["prefix"]] * 3) * [[1], [0], [1]]
            own[1] = rules | {"prefix": ()}
        beams = beam(toy, 5, beam_size=3, num_hypotheses=2, **options)
        best = greedy(toy, 5, **options)
        for sentence in range(toy.batch):
            check(beams, sentence, slow(toy, sentence, 5, n=2, beam_size=3, **own[sentence]))
            check(best, sentence, slow(toy, sentence, 5, None, beam_size=1, **own[sentence]))

    def test_length_limit_is_a_max_length_of_each_sentence(self):
        toy, limits = Toy(seed=6), np.array([2, 7, 99])
        toy.tables[..., END] -= 2.0
        beams = beam(toy, 7, beam_size=3, num_hypotheses=3, length_limit=limits)
        best = greedy(toy, 7, length_limit=limits)
        for sentence, limit in enumerate((2, 7, 7)):
            check(beams, sentence, slow(toy, sentence, limit, n=3, beam_size=3))
            check(best, sentence, slow(toy, sentence, limit, None, beam_size=1))

    @pytest.mark.parametrize("search", [greedy, beam, sample])
    def test_hypothesis_at_its_limit_is_closed_without_an_end_token(self, search):
        toy = Toy()
        toy.tables[..., END] -= 99.0
        found = search(toy, 5, length_limit=np.array([3, 5, 0]))
        assert found.lengths[:, 0].tolist() == [3, 5, 0]
        assert END not in found.token_ids
        assert found.scores[2, 0] == 0.0

    @pytest.mark.parametrize("search", [greedy, beam, sample])
    def test_pad_and_start_are_never_generated(self, search):
        toy = Toy()
        toy.tables[..., :2] += 9.0
        found = search(toy, 11)
        assert 1 not in found.token_ids
        np.testing.assert_array_equal((found.token_ids != 0).sum(axis=-1), found.lengths)

    def test_impossible_option_is_named(self):
        for search, options in [
            (greedy, {"no_repeat_ngram": -1, "min_length": 12}),
            (beam, {"beam_size": 0, "num_hypotheses": 5, "length_penalty": "gnmt"}),
            (sample, {"num_samples": 0, "temperature": 0.0, "top_k": 0, "top_p": 1.1}),
        ]:
            for name, value in options.items():
                with pytest.raises(ValueError, match=f"received {name}={value!r}"):
                    search(Toy(), 11, **{name: value})


# Of the toy (pad 0, start 1, end 2): which of its tokens an id is when it is read and when it is
# predicted, and the ids of start, end and padding.
VOCABULARIES = {
    "permuted": ([3, 5, 2, 0, 6, 1, 4], [3, 5, 2, 0, 6, 1, 4], (5, 2, 3)),
    "start is padding, end is 0": ([2, 3, 4, 5, 6, 1], [2, 3, 4, 5, 6, 1], (5, 0, 5)),
    "start is padding, end is 1": ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], (0, 1, 0)),
    "start is end": ([6, 5, 1, 4, 3, 0], [6, 5, 2, 4, 3, 0], (2, 2, 5)),
    "one id for all three": ([3, 1, 4, 5, 6], [3, 2, 4, 5, 6], (1, 1, 1)),
    "padding outside the vocabulary": ([3, 4, 5, 6, 1, 2], [3, 4, 5, 6, 1, 2], (4, 5, -1)),
}


class SpecialIdsTest:
    @pytest.mark.parametrize("read, predicted, ids", VOCABULARIES.values(), ids=list(VOCABULARIES))
    @pytest.mark.parametrize(
        "rules",
        [{}, {"min_length": 3, "no_repeat_ngram": 1, "prefix": [[5, 0, 4], [0, 6, 0], [0, 0, 0]]}],
        ids=["free", "ruled"],
    )
    def test_what_the_special_tokens_are_called_does_not_matter(self, read, predicted, ids, rules):
        toy, renamed = Toy(seed=3), Toy(seed=3)
        toy.tables[..., :2] = -50.0  # so that leaving these out changes no probability
        renamed.tables = toy.tables[..., read, :][..., predicted]
        renamed.vocabulary, renamed.start_id, pad_id = len(read), ids[0], ids[2]
        new_ids = np.full(7, pad_id)
        new_ids[predicted] = np.arange(len(predicted))
        new_ids[0] = pad_id
        limits = np.array([7, 5, 2])
        options = {"length_limit": limits, **rules}
        new_rules = dict(zip(("start_id", "end_id", "pad_id"), ids, strict=True)) | options
        if rules:
            new_rules["prefix"] = new_ids[np.array(rules["prefix"])]
        for search, choice in [
            (greedy, {}),
            (beam, {"beam_size": 3, "num_hypotheses": 3}),
            (sample, {"num_samples": 5, "top_k": 7}),  # in the order of probability, not of ids
        ]:
            expected = search(toy, 7, **choice, **options)
            found = search(renamed, 7, **choice, **new_rules)
            check_equal(found, expected._replace(token_ids=new_ids[expected.token_ids]))
            assert np.all(expected.lengths >= 1)


class GreedySearchTest:
    def test_beam_of_one_equals_greedy(self):
        toy = Toy(batch=13, seed=8)
        check_equal(beam(toy, 11, beam_size=1, alpha=0.0), greedy(toy, 11))


def draws(weights, count, **options):
    """Counts which tokens are drawn first where tokens have given weights."""

    def step(token_ids, state, context):
        logits = np.log(weights).astype("float32")
        return ops.broadcast_to(logits, (ops.shape(token_ids)[0], len(weights))), state

    found = decoding.sample(step, (), (), np.array([1]), 1, num_samples=count, **options)
    return np.bincount(numpy_of(found).token_ids[0, :, 0], minlength=len(weights))


class SampleTest:
    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    def test_frequencies_follow_the_distribution(self, temperature):
        weights = np.array([5.0, 7.0, 1.0, 3.0, 2.0, 8.0, 0.5])
        counts = draws(weights, 7919, seed=3, temperature=temperature)
        assert counts[:2].tolist() == [0, 0]
        expected = weights[2:] ** (1 / temperature)
        expected *= 7919 / expected.sum()
        chi_square = np.sum((counts[2:] - expected) ** 2 / expected)
        assert chi_square < 18.47  # 4 degrees of freedom, one in a thousand

    def test_cuts_leave_the_most_probable(self):
        for options, kept in [
            ({"top_k": 2}, {3, 5}),
            ({"top_k": 17, "top_p": 1.0}, {2, 3, 4, 5}),
            ({"top_p": 0.69}, {3, 5}),
            ({"top_p": 0.71}, {3, 4, 5}),
            ({"top_k": 3, "top_p": 0.5}, {3, 5}),
        ]:
            counts = draws([1e-9, 1e-9, 0.1, 0.4, 0.2, 0.3], 211, seed=1, **options)
            assert set(np.flatnonzero(counts)) == kept

    @pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}])
    def test_sharpest_cut_equals_greedy(self, cut):
        toy = Toy(batch=5, seed=9)
        check_equal(sample(toy, 11, **cut), greedy(toy, 11))

    def test_seed_decides_the_samples(self):
        def samples(seed):
            return sample(Toy(), 7, seed=seed, num_samples=5).token_ids.tolist()

        assert samples(1) == samples(1)
        assert samples(1) != samples(2)
        generator = keras.random.SeedGenerator(1)
        assert samples(generator) != samples(generator)

    def test_samples_obey_rules_and_carry_their_own_scores(self):
        toy, rules = Toy(batch=2, seed=10), {"min_length": 2, "no_repeat_ngram": 2}
        rules |= {"length_limit": np.array([5, 11]), "prefix": np.array([[6], [0]])}
        found = sample(toy, 11, num_samples=13, **rules)
        check_scores(toy, found)
        assert np.all(np.diff(found.scores) <= 0)
        assert np.all(found.token_ids[0, :, 0] == 6)
        for sentence, place in np.ndindex(2, 13):
            length = found.lengths[sentence, place]
            tokens = found.token_ids[sentence, place, :length].tolist()
            assert length == (5, 11)[sentence] or tokens[-1] == END
            assert END not in tokens[:2]
            assert len(set(ngrams(tokens, 2))) == length - 1


@pytest.mark.integration
@needs_tensorflow
class GraphTest:
    """Searches inside `tf.function`, as an exported model runs them."""

    @pytest.mark.parametrize(
        "batch, compiled, dynamic", [(None, 0, 0), (None, 0, 1), (3, 0, 1), (3, 1, 0)]
    )
    def test_graph_equals_eager(self, batch, compiled, dynamic):
        toy = Toy()

        def search(begin, limits, prefix):
            begin = (toy.step, *begin, ops.max(limits) if dynamic else 5)
            rules = {"length_limit": limits, "prefix": prefix, "no_repeat_ngram": 2}
            beams = decoding.beam_search(*begin, num_hypotheses=2, min_length=1, **rules)
            cuts = {"top_k": 5, "top_p": 0.9}
            return beams, decoding.sample(*begin, seed=0, num_samples=2, **cuts, **rules)

        limits, prefix = np.array([5, 3, 4], "int32"), np.array([[5], [0], [4]])
        inputs = toy.begin()[1:], limits, prefix
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        signature = [tf.TensorSpec((batch, *x.shape[1:]), x.dtype) for x in tf.nest.flatten(inputs)]
        signature = tf.nest.pack_sequence_as(inputs, signature)
        graph = tf.function(search, signature, autograph=False, jit_compile=bool(compiled))
        shapes = [x.shape.as_list() for x in graph.get_concrete_function().structured_outputs[0]]
        assert shapes == [[batch, 2, None if dynamic else 5], [batch, 2], [batch, 2]]
        (beams, samples), expected = graph(*inputs), search(*inputs)
        check_equal(beams, expected[0])
        check_scores(toy, numpy_of(samples))
        if not compiled:  # XLA has random numbers of its own
            check_equal(samples, expected[1])
