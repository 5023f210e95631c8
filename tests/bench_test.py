"""The benchmark: both sides do the work that they are timed for, and the program prints it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import benchmark

V = 23
SIZES = {
    "num_layers": 1,
    "hidden_dim": 12,
    "intermediate_dim": 17,
    "num_heads": 3,
    "vocabulary_size": V,
    "batch_size": 7,
    "source_length": 5,
    "target_length": 13,
}
TRAINING = benchmark.Work("train", **SIZES)
GREEDY = benchmark.Work("greedy", **SIZES, beam_size=1)
BEAM = benchmark.Work("beam", **SIZES, beam_size=3)


class TrainingTest:
    @pytest.mark.parametrize("make", [benchmark.training, benchmark.keras_hub_training])
    def test_both_sides_start_near_the_loss_of_chance_and_learn(self, make, monkeypatch):
        monkeypatch.setattr(benchmark, "LEARNING_RATE", 0.02)
        step = make(TRAINING, jit_compile=False, precision="float32")
        losses = [step() for _ in range(19)]
        assert losses[0] == pytest.approx(math.log(V), rel=0.4)
        assert losses[-1] < losses[0] - 0.5

    def test_both_models_have_the_same_weights_but_for_positions_and_final_norms(self):
        ours = benchmark.transformer(TRAINING, "float32").count_params()
        theirs = benchmark.keras_hub_transformer(TRAINING, "float32").count_params()
        positions = (SIZES["source_length"] + SIZES["target_length"]) * SIZES["hidden_dim"]
        assert ours - 2 * 2 * SIZES["hidden_dim"] == theirs - positions


class SearchTest:
    @pytest.mark.parametrize("make", [benchmark.search, benchmark.keras_hub_search])
    @pytest.mark.parametrize("work", [GREEDY, BEAM])
    def test_both_sides_give_as_many_tokens_as_are_counted(self, work, make):
        token_ids = make(work, jit_compile=False, precision="float32")()
        assert token_ids.shape == (7, 13)
        if make is benchmark.search:
            assert np.all(token_ids > 2)


class MeasureTest:
    @pytest.mark.parametrize("work", [TRAINING, GREEDY, BEAM])
    def test_a_record_a_side_and_the_ratio_come_out(self, work):
        ours, theirs, ratio = benchmark.measure(work, with_keras_hub=True)
        hub = "keras-hub xla" if work.beam_size else "keras-hub"
        assert [r["peer"] for r in (ours, theirs, ratio)] == [
            "kerasformer",
            hub,
            f"kerasformer / {hub}",
        ]
        assert ours["work"] == theirs["work"] == ratio["work"] == work.title
        assert ours["unit"] == theirs["unit"] == ("tok/s" if work.beam_size else "target tok/s")
        assert ratio["value"] == pytest.approx(ours["value"] / theirs["value"], abs=0.02)

    @pytest.mark.parametrize("work", [TRAINING, BEAM])
    def test_compiled_work_in_bfloat16_is_named_so(self, work):
        (record,) = benchmark.measure(work, jit_compile=True, precision="mixed_bfloat16")
        assert record["peer"] == "kerasformer xla mixed_bfloat16"
        assert record["value"] > 0

    def test_calls_take_turns_and_the_middle_time_counts(self):
        seen = []
        first, second = (lambda name=name: seen.append(name) for name in "AB")
        medians = benchmark.time_in_turn([first, second], warm_up=2, rounds=3)
        assert "".join(seen) == "AABB" + "ABABAB"
        assert len(medians) == 2 and all(0 <= median < 1 for median in medians)


def run_python(*arguments):
    root = Path(__file__).parents[1]
    return subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True)


class ProgramTest:
    def test_each_line_of_output_is_a_record(self):
        done = run_python(
            "-c",
            "import runpy, sys\n"
            "from pipelines import benchmark\n"
            f"benchmark.WORKS = {{'first': benchmark.{TRAINING}, 'second': benchmark.{GREEDY}}}\n"
            "sys.argv = ['bench', '--work=second,first']\n"
            "runpy.run_module('apps.bench', run_name='__main__')",
        )
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert [record["work"] for record in records] == ["greedy", "train"], done.stderr
        assert all(set(record) == {"work", "peer", "value", "unit"} for record in records)

    def test_unknown_work_is_one_clear_line(self):
        done = run_python("-m", "apps.bench", "--work=train_tiny,sleep")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines() == [
            "error: Expected work to be among ['train_tiny', 'train_base', 'decode_greedy', "
            "'decode_beam'], received work='sleep'."
        ]
