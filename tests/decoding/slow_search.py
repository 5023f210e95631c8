"""A search in plain Python over a toy model, for what the fast searches must find."""

import numpy as np
from keras import ops

END = 2
EVERYTHING = 10**9


class Toy:
    """A random model whose logits depend on all tokens so far, so on the state and its order."""

    start_id = 1

    def __init__(self, batch=3, vocabulary=7, length=11, seed=0):
        self.batch, self.vocabulary = batch, vocabulary
        shape = (batch, length + 1, vocabulary, vocabulary)
        self.tables = np.random.default_rng(seed).normal(size=shape, scale=1.7).astype("float32")

    def begin(self):
        """Returns what a search is given first; a sentence is known by its context alone."""
        logits = np.zeros((self.batch, self.vocabulary), "float32")
        state = {"logits": logits, "place": [np.zeros(self.batch, "int32")]}
        start_ids = np.full(self.batch, self.start_id, "int32")
        return self.step, state, {"tables": (self.tables,)}, start_ids

    def step(self, token_ids, state, context):
        (tables,), place = context["tables"], state["place"][0]
        sentences, places, vocabulary = ops.shape(tables)[0], *tables.shape[1:3]
        rows = ops.arange(ops.shape(token_ids)[0])
        sentence = rows // (ops.shape(token_ids)[0] // sentences)
        index = (sentence * places + place) * vocabulary + token_ids
        logits = ops.take(ops.reshape(tables, (-1, vocabulary)), index, axis=0)
        logits = logits - 0.5 * state["logits"]
        return logits, {"logits": logits, "place": [place + 1]}

    def log_probs(self, sentence, tokens):
        logits = 0.0
        for place, token in enumerate((1, *tokens)):
            logits = self.tables[sentence, place, token].astype("float64") - 0.5 * logits
        return logits - np.log(np.sum(np.exp(logits)))


def penalty(length, kind, alpha):
    return {None: 1.0, "wu": (5 + length) / 6, "length": max(length, 1)}[kind] ** alpha


def ngrams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def allowed(tokens, vocabulary, min_length=0, prefix=(), no_repeat_ngram=0):
    """Lists what may follow, written as the rules are worded."""
    if len(tokens) < len(prefix) and prefix[len(tokens)]:
        return [prefix[len(tokens)]]
    result = range(END if len(tokens) >= min_length else END + 1, vocabulary)
    seen = ngrams(tokens, no_repeat_ngram) if no_repeat_ngram else []
    return [token for token in result if (*tokens, token)[-no_repeat_ngram:] not in seen]


def slow(toy, sentence, max_length, kind="wu", alpha=0.6, n=1, beam_size=EVERYTHING, **rules):
    """Searches as documented but never stops early; by default among all that exists.

    Returns the best `(score, tokens)`, those with an end token first.
    """
    finished, alive = [], [(0.0, ())]
    for _ in range(max_length):
        candidates = []
        for total, tokens in alive:
            log_probs = toy.log_probs(sentence, tokens)
            following = allowed(tokens, toy.vocabulary, **rules)
            candidates += [(total + log_probs[token], (*tokens, token)) for token in following]
        candidates.sort(reverse=True)
        finished += [c for c in candidates[:beam_size] if c[1][-1] == END]
        alive = [c for c in candidates if c[1][-1] != END][:beam_size]
    result = []
    for group in (finished, alive):
        scored = [(total / penalty(len(tokens), kind, alpha), tokens) for total, tokens in group]
        result += sorted(scored, reverse=True)
    return result[:n]
