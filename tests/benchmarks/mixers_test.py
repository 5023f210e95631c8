"""Measurements of mixers against the length: what is measured, and what is made of it."""

import pytest

from pipelines.benchmarks import mixers


class MixersTest:
    def test_each_mixer_is_measured_at_each_length(self, monkeypatch):
        monkeypatch.setattr(mixers, "MIXERS", {k: mixers.MIXERS[k] for k in ("dense", "linear")})
        records = list(mixers.measured([16, 32], mixers.measure))
        kinds = [(record["work"], record["peer"], record["unit"]) for record in records]
        for name in ("dense", "linear"):
            for length in (16, 32):
                for unit in ("ms", "MiB"):
                    assert (f"mixer {length} tokens", name, unit) in kinds
            assert ("mixer time", name, "exponent") in kinds
        assert all(record["value"] > 0 for record in records if record["unit"] in ("ms", "MiB"))
        assert records[-1]["peer"] == "linear"

    def test_exponents_are_those_of_the_longest(self):
        lengths = [1, 2, 4, 8, 16, 32]
        values = [99, 50, *(3 * length**1.5 for length in lengths[2:])]
        assert mixers.exponent(lengths, values) == pytest.approx(1.5)

    def test_a_mixer_must_stay_faster(self):
        assert mixers.first_faster([2, 4, 8], [1, 3, 1], [2, 2, 2]) == 8
        assert mixers.first_faster([2, 4, 8], [1, 1, 3], [2, 2, 2]) == 0
        assert mixers.first_faster([2, 4, 8], [3, 1, 1], [2, 2, 2]) == 4

    @pytest.mark.parametrize("lengths", [[16], [32, 16], [0, 16]])
    def test_lengths_ascend(self, lengths):
        with pytest.raises(ValueError, match="ascending lengths, received lengths="):
            next(mixers.measured(lengths))
