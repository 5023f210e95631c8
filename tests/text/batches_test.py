"""Tests of the batches: every pair once, few shapes, little padding, and the same order again."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerasformer.tokenizers import END_ID, START_ID, SentencePieceTokenizer, train_sentencepiece
from pipelines.text.batches import (
    TokenizedPairs,
    batches_per_epoch,
    bucket_batches,
    bucket_shapes,
    dataset,
)

PAIRS = 2503
TOKENS = 1021


def natural_lengths(count=PAIRS, seed=7):
    """Draws lengths as sentences have them: skewed, with a tail, the two sides alike."""
    random = np.random.default_rng(seed)
    source = np.clip(random.lognormal(2.7, 0.45, count), 2, 97)
    target = np.clip(source * random.lognormal(0.05, 0.2, count), 2, 101)
    return source.astype(np.int32), target.astype(np.int32)


def pairs_of(source_lengths, target_lengths):
    """Makes pairs whose tokens are all different, so that a wrong token shows."""
    counter = itertools.count(5)
    return [
        ([next(counter) for _ in range(s - 1)], [next(counter) for _ in range(t - 1)])
        for s, t in zip(source_lengths, target_lengths, strict=True)
    ]


@pytest.fixture(scope="module")
def raw():
    return pairs_of(*natural_lengths())


@pytest.fixture(scope="module")
def pairs(raw):
    return TokenizedPairs(raw)


def as_pairs(batch):
    """Reads the pairs back from a batch, padding rows left out."""
    for source, *both in zip(batch["source"], batch["target"], batch["labels"], strict=True):
        if source.any():
            source, target, labels = (row[row != 0].tolist() for row in (source, *both))
            assert target[0] == START_ID and labels[-1] == source[-1] == END_ID
            assert target[1:] == labels[:-1]
            yield source[:-1], labels[:-1]


def take(stream, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in stream.take(count)]


def equal(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a
    )


class TokenizedPairsTest:
    def test_lengths_count_the_end_token(self):
        pairs = TokenizedPairs([([5, 7, 11], [13]), ([], [17, 19])])
        assert pairs.source_lengths.tolist() == [4, 1]
        assert pairs.target_lengths.tolist() == [2, 3]

    def test_longer_pairs_are_dropped_and_counted(self):
        raw = [([5] * n, [7] * m) for n, m in ((2, 4), (4, 2), (5, 2), (2, 5), (4, 4), (10007, 1))]
        pairs = TokenizedPairs(iter(raw), max_length=5)
        assert (len(pairs), pairs.dropped) == (3, 3)
        assert pairs.target_lengths.tolist() == [5, 3, 5]

    @pytest.mark.parametrize("raw", [[], [([5] * 7, [5])]])
    def test_nothing_left_is_an_error_with_the_counts(self, raw):
        with pytest.raises(ValueError, match=f"max_length=5 .* {len(raw)} longer"):
            TokenizedPairs(raw, max_length=5)

    def test_texts_are_tokenized_each_with_its_tokenizer(self):
        sentences = [f"{a} {b}" for a in ("der", "ein", "kein") for b in ("Hund", "Vogel", "Ball")]
        texts = [(s, s.upper()) for s in sentences] * 1999  # more than are tokenized at a time
        source = SentencePieceTokenizer(train_sentencepiece(sentences, 281, kind="bpe"))
        target = SentencePieceTokenizer(train_sentencepiece([t for _, t in texts[:9]], 283, "bpe"))
        pairs = TokenizedPairs.from_texts(iter(texts), source, target)
        sides = (source.encode([s for s, _ in texts]), target.encode([t for _, t in texts]))
        expected = TokenizedPairs(zip(*sides, strict=True))
        for name in ("source", "target", "source_offsets", "target_offsets"):
            assert np.array_equal(getattr(pairs, name), getattr(expected, name))

    def test_a_token_takes_four_bytes(self, pairs):
        arrays = [v for v in vars(pairs).values() if isinstance(v, np.ndarray)]
        tokens = pairs.source_lengths.sum() + pairs.target_lengths.sum()
        assert sum(array.nbytes for array in arrays) == 4 * tokens + 24 * len(pairs)


class ShapesTest:
    @pytest.mark.parametrize("num_replicas", [1, 2, 3, 8])
    @pytest.mark.parametrize("batch_tokens", [809, TOKENS, 10007])
    def test_shapes_are_few_and_keep_to_the_limits(self, batch_tokens, num_replicas):
        source, target = natural_lengths()
        buckets = bucket_shapes(source, target, batch_tokens, num_replicas)
        assert 1 <= len(set(buckets)) == len(buckets) <= 10
        for rows, source_length, target_length in buckets:
            assert rows > 0 and rows % num_replicas == 0
            assert rows * max(source_length, target_length) <= batch_tokens
            assert source_length % 2 == target_length % 2 == 0

    def test_up_to_eight_replicas_see_the_same_batches(self):
        lengths = natural_lengths()
        shapes = [bucket_shapes(*lengths, 1013, n) for n in (1, 2, 4, 8)]
        assert all(buckets == shapes[0] for buckets in shapes)

    def test_lengths_are_even(self):
        buckets = bucket_shapes(*natural_lengths(), TOKENS)
        assert {length % 2 for bucket in buckets for length in bucket[1:]} == {0}

    def test_a_longest_pair_that_does_not_fit_is_an_error_with_the_least_that_does(self):
        source, target = np.array([3, 5, 97]), np.array([7, 11, 2])
        for num_replicas, least in ((1, 98), (3, 294)):
            with pytest.raises(ValueError, match=f"least {least},.*batch_tokens={least - 1}"):
                bucket_shapes(source, target, least - 1, num_replicas)
            assert bucket_shapes(source, target, least, num_replicas)[-1].rows == num_replicas

    def test_one_pair_needs_one_shape(self):
        assert [b[1:] for b in bucket_shapes(np.array([5]), np.array([7]), TOKENS)] == [(6, 8)]

    @pytest.mark.parametrize("batch_tokens, most", [(TOKENS, 0.20), (4093, 0.25)])
    def test_padding_is_little(self, batch_tokens, most):
        source, target = natural_lengths(20011)
        batches = bucket_batches(
            source, target, bucket_shapes(source, target, batch_tokens), seed=3, epoch=0
        )
        padded = sum(batch.bucket.rows * batch.bucket.row_tokens for batch in batches)
        assert 1 - (source.sum() + target.sum()) / padded < most

    def test_a_corpus_smaller_than_a_batch_is_not_blown_up(self):
        source, target = natural_lengths(13)
        buckets = bucket_shapes(source, target, 100003)
        assert max(bucket.rows for bucket in buckets) <= 16


class BatchesTest:
    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("batch_tokens, replicas", [(809, 1), (TOKENS, 3), (100003, 8)])
    def test_an_epoch_has_every_pair_once(self, raw, pairs, batch_tokens, replicas, shuffle):
        stream = dataset(
            pairs, batch_tokens, 3, num_replicas=replicas, shuffle=shuffle, repeat=False
        )
        batches = take(stream, -1)
        found = [pair for batch in batches for pair in as_pairs(batch)]
        assert sorted(found) == sorted(raw)
        assert len(batches) == batches_per_epoch(pairs, batch_tokens, replicas)
        assert all(len(batch["source"]) % replicas == 0 for batch in batches)

    def test_batches_have_the_shapes_of_the_buckets_and_no_others(self, pairs):
        buckets = bucket_shapes(pairs.source_lengths, pairs.target_lengths, TOKENS)
        allowed = {(b.rows, b.source_length, b.target_length) for b in buckets}
        for batch in take(dataset(pairs, TOKENS, 3), 2 * batches_per_epoch(pairs, TOKENS)):
            assert batch["target"].shape == batch["labels"].shape
            assert (*batch["source"].shape, batch["target"].shape[1]) in allowed

    def test_every_epoch_has_as_many_batches(self, pairs):
        lengths = (pairs.source_lengths, pairs.target_lengths)
        buckets = bucket_shapes(*lengths, TOKENS)
        numbers = {len(bucket_batches(*lengths, buckets, 3, epoch)) for epoch in range(7)}
        assert numbers == {batches_per_epoch(pairs, TOKENS)}

    @pytest.mark.parametrize("batch_tokens", [809, TOKENS, 10007])
    def test_pairs_left_over_move_where_that_saves_padding(self, pairs, batch_tokens):
        lengths = (pairs.source_lengths, pairs.target_lengths)
        buckets = bucket_shapes(*lengths, batch_tokens)
        batches = bucket_batches(*lengths, buckets, 3, 0)
        members = {bucket: 0 for bucket in buckets}
        for source, target in zip(*lengths, strict=True):
            members[next(b for b in buckets if source <= b[1] and target <= b[2])] += 1
        unmoved = [b for b, count in members.items() for _ in range(-(-count // b.rows))]
        assert sum(b.rows * b.row_tokens for _, b in batches) < sum(
            b.rows * b.row_tokens for b in unmoved
        )

    def test_elements_have_an_open_shape_and_integer_type(self, pairs):
        spec = tf.TensorSpec((None, None), tf.int32)
        expected = {"source": spec, "target": spec, "labels": spec}
        assert dataset(pairs, TOKENS, 3).element_spec == expected

    def test_pairs_of_no_tokens_are_an_end_token_alone(self):
        pairs = TokenizedPairs([([], []), ([], [5])])
        (batch,) = take(dataset(pairs, 7, 3, repeat=False, shuffle=False), -1)
        assert batch["source"].tolist() == [[END_ID, 0], [END_ID, 0]]
        assert batch["target"].tolist() == [[START_ID, 0], [START_ID, 5]]
        assert batch["labels"].tolist() == [[END_ID, 0], [5, END_ID]]

    def test_rows_without_a_pair_are_all_pad(self):
        pairs = TokenizedPairs([([5, 7], [11])])
        (batch,) = take(dataset(pairs, TOKENS, 3, num_replicas=3, repeat=False), -1)
        assert len(batch["source"]) % 3 == 0
        assert not any(array[1:].any() for array in batch.values())


class OrderTest:
    def test_the_seed_and_the_epoch_decide_the_order(self, pairs):
        count = batches_per_epoch(pairs, TOKENS)
        first = take(dataset(pairs, TOKENS, 3), 2 * count)
        assert equal(first, take(dataset(pairs, TOKENS, 3), 2 * count))
        assert not equal(first[:count], first[count:])
        assert not equal(first[:count], take(dataset(pairs, TOKENS, 5), count))

    def test_shuffling_changes_which_pairs_meet(self, pairs):
        lengths = (pairs.source_lengths, pairs.target_lengths)
        buckets = bucket_shapes(*lengths, TOKENS)
        together = [
            {frozenset(batch.indices.tolist()) for batch in bucket_batches(*lengths, buckets, 3, e)}
            for e in (0, 1)
        ]
        assert not together[0] & together[1]

    def test_without_shuffling_every_epoch_is_the_same(self, pairs):
        count = batches_per_epoch(pairs, TOKENS)
        batches = take(dataset(pairs, TOKENS, 3, shuffle=False), 2 * count)
        assert equal(batches[:count], batches[count:])

    def test_a_resumed_stream_goes_on_as_the_first_would_have(self, pairs):
        count = batches_per_epoch(pairs, TOKENS)
        whole = take(dataset(pairs, TOKENS, 3), 3 * count + 2)
        for step in (0, 1, count - 1, count, count + 7, 2 * count + 3):
            resumed = dataset(pairs, TOKENS, 3, start_batch=step)
            assert equal(take(resumed, len(whole) - step), whole[step:])

    def test_a_late_epoch_is_reached_without_the_ones_before(self, pairs):
        late = 1_000_003 * batches_per_epoch(pairs, TOKENS)
        found = take(dataset(pairs, TOKENS, 3, start_batch=late), 5)
        assert equal(found[2:], take(dataset(pairs, TOKENS, 3, start_batch=late + 2), 3))

    def test_a_stream_that_does_not_repeat_ends_with_its_epoch(self, pairs):
        count = batches_per_epoch(pairs, TOKENS)
        rest = dataset(pairs, TOKENS, 3, start_batch=3 * count - 3, repeat=False)
        assert len(take(rest, -1)) == 3

    def test_a_place_that_does_not_exist_is_an_error(self, pairs):
        with pytest.raises(ValueError, match="start_batch=-1"):
            dataset(pairs, TOKENS, 3, start_batch=-1)
