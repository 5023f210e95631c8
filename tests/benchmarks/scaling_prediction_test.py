"""The model of scaling: by hand, against a ring that really sums, and as monotone as it must be."""

import itertools

import numpy as np
import pytest

from pipelines.benchmarks import scaling_prediction
from pipelines.benchmarks.scaling_prediction import Link, predict, ring_seconds

FAST, SLOW = Link(7e9, 0.001), Link(3e9, 0.05)


def sum_in_a_ring(arrays, link):
    """Sums arrays as members of a ring do, and adds up the seconds that the messages take."""
    count, seconds = len(arrays), 0.0
    parts = [np.array_split(array.copy(), count) for array in arrays]
    for step in range(2 * (count - 1)):
        sent = {}
        for member in range(count):
            number = (
                (member - step) % count if step < count - 1 else (member + count - step) % count
            )
            sent[(member + 1) % count] = number, parts[member][number].copy()
        for member, (number, part) in sent.items():
            parts[member][number] = part + (parts[member][number] if step < count - 1 else 0)
        largest = max(part.nbytes for _, part in sent.values())
        seconds += largest / link.bandwidth + link.latency
    return [np.concatenate(own) for own in parts], seconds


class RingTest:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_a_ring_that_sums_takes_as_long(self, count):
        arrays = np.random.default_rng(0).integers(0, 99, (count, 2 * 3 * 5))
        link = Link(11.0, 13.0)
        sums, seconds = sum_in_a_ring(list(arrays), link)
        assert all(np.array_equal(found, arrays.sum(axis=0)) for found in sums)
        assert ring_seconds(count, arrays[0].nbytes, link) == pytest.approx(seconds)

    def test_many_members_take_twice_as_long_as_two(self):
        link = Link(2e9, 0.0)
        assert ring_seconds(2, 6e9, link) == pytest.approx(3.0)
        assert ring_seconds(10**6, 6e9, link) == pytest.approx(6.0, rel=1e-5)


class PredictTest:
    def test_one_gpu_has_nothing_to_sum(self):
        assert predict(0.1, 1e9, 1, SLOW) == 1.0

    def test_a_node_by_hand(self):
        # 3 GPUs send 4 parts of 7 GB in 1 s each, and each of them waits 0.001 s beside.
        share = predict(3.0, 21e9, 3, SLOW, inside=FAST, per_node=5)
        assert share == pytest.approx(3.0 / (3.0 + 4 * 1.001))

    def test_nodes_by_hand(self):
        # Inside, 2 parts of 3 GB; between 5 nodes, 8 parts of 1.2 GB.
        share = predict(2.0, 6e9, 10, SLOW, inside=FAST, per_node=2)
        seconds = 2 * (3 / 7 + 0.001) + 8 * (1.2 / 3 + 0.05)
        assert share == pytest.approx(2.0 / (2.0 + seconds))

    def test_overlapping_hides_what_fits_into_the_backward_pass(self):
        options = {"compute": 3.0, "size": 7e9, "gpus": 2, "network": SLOW, "inside": Link(7e9, 0)}
        assert predict(**options) == pytest.approx(3 / 4)  # A sum takes 1 s.
        assert predict(**options, overlap=0.25) == pytest.approx(3 / 3.5)  # 0.5 s of 2 s.
        assert predict(**options, overlap=0.5) == predict(**options, overlap=1.0) == 1.0

    def test_more_gpus_more_bytes_and_faster_gpus_lower_the_efficiency(self):
        def falls(shares):
            return all(before > after for before, after in itertools.pairwise(shares))

        assert falls(predict(0.1, 1e8, n, SLOW) for n in (1, 2, 3, 5, 8, 16, 64, 512))
        assert falls(predict(0.1, size, 16, SLOW) for size in (1e6, 1e8, 1e9))
        assert falls(predict(compute, 1e8, 16, SLOW) for compute in (1.0, 0.1, 0.01))

    @pytest.mark.parametrize("gpus", [0, -8, 9, 12])
    def test_half_a_node_is_one_sentence(self, gpus):
        with pytest.raises(ValueError, match=f"at most per_node=8 or a multiple.*gpus={gpus}"):
            predict(0.1, 1e9, gpus, SLOW)


class PredictedTest:
    def test_the_plans_have_the_published_models_and_fall_with_the_gpus(self):
        records = list(scaling_prediction.predicted())
        sizes = {r["work"].split(",")[0]: r["value"] for r in records if r["unit"] == "MB/step"}
        assert sizes["scaling ViT-B/16"] == pytest.approx(4 * 86.567656, rel=1e-3)
        assert sizes["scaling Transformer big"] == pytest.approx(4 * 213, rel=0.01)
        shares = [r["value"] for r in records if r["unit"] == "share, predicted"]
        assert len(shares) == 6 * 2 * 3
        for eight, sixty_four, most in zip(*[iter(shares)] * 3, strict=True):
            assert 1 > eight > sixty_four > most > 0
