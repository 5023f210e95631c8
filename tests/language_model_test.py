"""A `LanguageModel` learns to write, and what it writes is what it would have read.

A text repeats its first three letters again and again, and then ends.
"""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import beam_search, greedy_search, sample
from kerasformer.models import LanguageModel

pytestmark = pytest.mark.integration

END, FIRST, LETTERS, PERIOD, LENGTH = 2, 3, 7, 3, 11  # the letters begin at FIRST
VOCABULARY = FIRST + LETTERS


def write(count, seed):
    """Writes texts `(n, 12)`: eleven letters and END."""
    random = np.random.default_rng(seed)
    letters = random.integers(FIRST, VOCABULARY, (count, PERIOD)).astype("int32")
    texts = np.tile(letters, (1, LENGTH // PERIOD + 1))[:, :LENGTH]
    return np.pad(texts, ((0, 0), (0, 1)), constant_values=END)


def begin(model, prompts, max_length):
    """Reads prompts `(n, T)`, ready for a search."""
    return *model.start_decoding(prompts, max_length), max_length


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    model = LanguageModel(
        VOCABULARY, 2, 24, 2, 37, max_length=17, dropout=0.0, activation="relu", use_rotary=True
    )
    texts = write(1500, seed=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    # What comes first cannot be known: only what repeats is learned.
    weights = np.repeat([np.arange(LENGTH) >= PERIOD - 1], len(texts), axis=0)
    model.fit(texts[:, :-1], texts[:, 1:], 64, 6, verbose=0, sample_weight=weights.astype(float))
    return model


def log_probability(model, prompts, token_ids):
    """Scores continuations `(n, T)` of prompts without a cache, and ends behind END."""
    whole = np.concatenate([prompts, token_ids], axis=1)
    log_probs = ops.log_softmax(model(whole[:, :-1]))[:, prompts.shape[1] - 1 :]
    chosen = np.take_along_axis(np.array(log_probs), token_ids[..., np.newaxis], axis=-1)[..., 0]
    return np.sum(chosen * (token_ids != 0), axis=1)


class DecodingTest:
    texts = write(97, seed=2)
    prompts, expected = texts[:, :5], texts[:, 5:]

    def test_beams_end_the_texts_as_they_began(self, model):
        found = beam_search(*begin(model, self.prompts, 7), beam_size=3, length_penalty=None)
        token_ids = np.array(found.token_ids)[:, 0]
        assert np.mean(np.all(token_ids == self.expected, axis=1)) > 0.9
        scores = log_probability(model, self.prompts, token_ids)
        np.testing.assert_allclose(found.scores[:, 0], scores, rtol=1e-4, atol=1e-4)

    def test_samples_are_scored_as_without_a_cache(self, model):
        found = sample(*begin(model, self.prompts, 7), seed=3, num_samples=2, temperature=2.0)
        token_ids, scores = map(ops.convert_to_numpy, found[:2])
        for index in range(2):
            expected = log_probability(model, self.prompts, token_ids[:, index])
            np.testing.assert_allclose(scores[:, index], expected, rtol=1e-4, atol=1e-4)
        assert np.any(token_ids[:, 0] != self.expected)

    def test_the_cache_writes_what_reading_everything_again_writes(self, model):
        found = greedy_search(*begin(model, self.prompts, 7))
        whole = self.prompts
        for _ in range(7):
            logits = np.array(model(whole))[:, -1, END:]
            has_ended = np.any(whole == END, axis=1)
            token_ids = np.where(has_ended, 0, logits.argmax(axis=-1) + END)
            whole = np.concatenate([whole, token_ids[:, np.newaxis]], axis=1)
        np.testing.assert_array_equal(found.token_ids[:, 0], whole[:, 5:])

    def test_a_prompt_read_at_once_equals_one_read_token_by_token(self, model):
        start = np.full((97, 1), FIRST)
        whole = np.concatenate([start, self.prompts], axis=1)
        step, state, *_ = begin(model, start, 12)
        for token_ids in whole[:, :-1].T:
            _, state = step(ops.array(token_ids), state, ())
        _, at_once, *_ = begin(model, whole, 7)
        for x, y in zip(keras.tree.flatten(state), keras.tree.flatten(at_once), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
