"""Tests of how requests are brought together; `endpoint_test` has the batches themselves."""

from pipelines.serving.queue import Batching


class BatchingTest:
    def test_batches_are_filled_up_to_few_sizes(self):
        assert Batching(max_size=1).sizes() == [1]
        assert Batching(max_size=11).sizes() == [1, 2, 4, 8, 11]
        assert Batching(max_size=16).sizes() == [1, 2, 4, 8, 16]

    def test_sentences_wait_longer_unless_told_otherwise(self):
        assert Batching().seconds(is_text=True) > Batching().seconds(is_text=False) > 0
        assert Batching(wait=0.0).seconds(is_text=True) == 0
