"""The benchmark: who is timed, in which order, what is made of it, and the program."""

import json
import time

import pytest

from pipelines.benchmarks import turns
from pipelines.benchmarks.turns import Side, Work
from tests import programs


def make_sleep(seconds, seen=None):
    def make(jit_compile, precision):
        if seen is not None:
            seen.append((jit_compile, precision))
        return lambda: time.sleep(seconds)

    return make


def work_of(*sides):
    return Work("sleep", "nap", sides, warm_up=1, rounds=3)


class MeasureTest:
    def test_items_a_second_of_each_side_and_the_ratios_come_out(self):
        sides = Side("we", 10, make_sleep(0.1)), Side("you", 2, make_sleep(0.1))
        we, you, ratio = turns.measure(work_of(*sides))
        assert we["work"] == you["work"] == ratio["work"] == "sleep"
        assert [r["peer"] for r in (we, you, ratio)] == ["we", "you", "we / you"]
        assert [r["unit"] for r in (we, you, ratio)] == ["nap/s", "nap/s", "times as fast"]
        assert we["value"] == pytest.approx(100, rel=0.2)
        assert you["value"] == pytest.approx(20, rel=0.2)
        assert ratio["value"] == pytest.approx(5, rel=0.2)

    def test_each_other_side_gets_a_ratio(self):
        sides = [Side(name, 1, make_sleep(0.01)) for name in "abc"]
        peers = [record["peer"] for record in turns.measure(work_of(*sides))]
        assert peers == ["a", "b", "c", "a / b", "a / c"]

    def test_a_side_is_made_as_asked_for_and_named_so(self):
        seen = []
        sides = (
            Side("a", 1, make_sleep(0, seen)),
            Side("always", 1, make_sleep(0), compiled=True),
            Side("never", 1, make_sleep(0), compiled=False),
        )
        records = turns.measure(work_of(*sides), jit_compile=False)
        assert [r["peer"] for r in records[:3]] == ["a", "always xla", "never"]
        records = turns.measure(work_of(*sides), True, "mixed_bfloat16")
        names = ["a xla", "always xla", "never"]
        assert [r["peer"] for r in records[:3]] == [f"{n} mixed_bfloat16" for n in names]
        assert seen == [(False, "float32"), (True, "mixed_bfloat16")]

    def test_calls_take_turns_and_the_middle_time_counts(self):
        seen = []
        first, second = (lambda name=name: seen.append(name) for name in "AB")
        medians = turns.time_in_turn([first, second], warm_up=2, rounds=3)
        assert "".join(seen) == "AABB" + "ABABAB"
        assert len(medians) == 2 and all(0 <= median < 1 for median in medians)


class ChooseSidesTest:
    WORKS = {
        name: work_of(*(Side(side, 1, make_sleep(0)) for side in ("ours", *peers)))
        for name, peers in {"alone": [], "hub": ["keras-hub"], "both": turns.PEERS}.items()
    }

    @pytest.mark.parametrize(
        ("peers", "expected"),
        [
            ([], [["ours"], ["ours"], ["ours"]]),
            (["timm"], [["ours", "timm"], ["ours"], ["ours"]]),
            (["timm", "keras-hub"], [["ours", *turns.PEERS], ["ours", "keras-hub"], ["ours"]]),
        ],
    )
    def test_peers_take_part_where_asked_for_and_known(self, peers, expected):
        works = turns.choose_sides(self.WORKS, ["both", "hub", "alone"], peers)
        assert [[side.name for side in work.sides] for work in works] == expected

    def test_an_unknown_name_is_one_sentence(self):
        with pytest.raises(ValueError, match="Expected work to be among .*received work='sleep'"):
            turns.choose_sides(self.WORKS, ["hub", "sleep"], [])
        with pytest.raises(ValueError, match="Expected peers to be among .*received peers='ours'"):
            turns.choose_sides(self.WORKS, ["hub"], ["ours"])


SHORT = """
from apps import bench, program
work = bench.WORKS["cifar_forward"]
bench.WORKS["cifar_forward"] = work._replace(warm_up=1, rounds=1)
program.run(bench.main)
"""


@pytest.mark.integration
class ProgramTest:
    def test_each_line_of_output_is_a_record(self, tmp_path):
        (tmp_path / "bench.py").write_text(SHORT)
        flags = ["--work=cifar_forward", "--peers=keras-hub"]
        (done,) = programs.run([tmp_path / "bench.py", *flags])
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert [r["peer"] for r in records] == [
            "kerasformer",
            "keras-hub",
            "kerasformer / keras-hub",
        ], done.stderr
        assert all(set(record) == {"work", "peer", "value", "unit"} for record in records)
        assert all(record["work"] == "vit cifar forward" for record in records)

    def test_unknown_work_is_one_clear_line(self):
        (done,) = programs.run(["bench", "--work=train_tiny,sleep"])
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: Expected work to be among ['train_tiny', ")
        assert line.endswith("received work='sleep'.")
