"""The training loop: what it writes, when it stops, and runs that are stopped and go on."""

import itertools
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kerasformer.schedules import InverseSquareRoot
from pipelines import training, translation
from pipelines.checkpoints import Checkpoints
from tests.digits import Digits, draw_batch, make_trainer, mean_loss, run, two_replicas

ROOT = Path(__file__).parents[1]


def steps_of(folder):
    return [int(path.name.removeprefix("step-")) for path in Checkpoints(folder).paths()]


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def logged(workdir, name):
    return {record["step"]: record[name] for record in records(workdir) if name in record}


def assert_same_end(workdir, other):
    """Asserts that two runs hold the same weights, moments, averages and random states."""
    (arrays, state), (others, other_state) = (
        Checkpoints(folder / "checkpoints").load_newest() for folder in (workdir, other)
    )
    assert state["step"] == other_state["step"]
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, others[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing interrupted, with dropout and a moving average."""
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir)
    return workdir


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("stopped")
    run(workdir, steps=7)
    return workdir


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """The same run, stopped after 7 steps."""
    return shutil.copytree(stopped_once, tmp_path / "run")


class Crash(Exception):
    pass


class CrashingDigits(Digits):
    def metrics(self, model, batch, config):
        raise Crash


class GoingOnTest:
    def test_a_stopped_run_ends_as_one_that_was_not(self, whole, stopped):
        assert steps_of(stopped / "checkpoints") == [3, 6, 7]
        summary = run(stopped)
        assert summary["steps"] == 12
        assert_same_end(stopped, whole)
        for name in ("validation_loss", "learning_rate"):
            expected = logged(whole, name)
            assert expected.items() <= logged(stopped, name).items()

    def test_a_crashed_run_ends_as_one_that_did_not_and_logs_no_step_twice(self, whole, tmp_path):
        with pytest.raises(Crash):
            run(tmp_path, CrashingDigits(), validate_every=11)
        assert steps_of(tmp_path / "checkpoints") == [3, 6, 9]
        assert list(logged(tmp_path, "loss"))[-1] == 10
        run(tmp_path)
        assert_same_end(tmp_path, whole)
        steps = [record["step"] for record in records(tmp_path)]
        assert steps == sorted(set(steps)) and steps[-1] == 12

    def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(self, whole, stopped):
        os.truncate(stopped / "checkpoints" / "step-00000007" / "arrays.npz", 1009)
        run(stopped)
        assert_same_end(stopped, whole)
        assert 7 not in logged(stopped, "loss")

    def test_a_finished_run_has_nothing_left_to_do(self, whole, tmp_path):
        workdir = shutil.copytree(whole, tmp_path / "run")
        summary = run(workdir)
        losses = logged(whole, "validation_loss")
        assert summary["steps"] == 12
        assert summary["validation_loss"] == min(losses.values())
        assert losses[summary["best_step"]] == summary["validation_loss"]
        assert records(workdir) == records(whole)

    @pytest.mark.parametrize("batches", [2, 11])
    def test_the_batches_may_become_other_ones(self, stopped, batches):
        assert run(stopped, Digits(batches), steps=9)["steps"] == 9

    def test_another_model_is_refused_and_everything_stays(self, stopped):
        before = sorted(stopped.rglob("*"))
        with pytest.raises(ValueError, match="model.dropout=0.3, not 0.2"):
            run(stopped, dropout=0.2)
        assert sorted(stopped.rglob("*")) == before


# A translator of a few words, with dropout, that saves a checkpoint every third step.
SMALL_CONFIG = """
from pipelines import translation

def get_config():
    config = translation.default_config()
    config.data.update(format="tsv", folder=FOLDER, columns=(0, 1))
    config.data.update({split: "pairs.tsv" for split in ("train", "validation", "test")})
    config.tokenizer.update(vocabulary_size=23, byte_fallback=False)
    config.model.update(num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=11)
    config.train.update(steps=150, batch_tokens=101, max_length=53, warmup_steps=11, ema=0.9)
    config.train.update(steps_per_call=3, log_every=5, validate_every=50, checkpoint_every=3)
    return config
"""


class KilledTest:
    """The program itself, killed at a moment that nobody chose."""

    def kill_after_its_first_checkpoint(self, command, folder):
        program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        while program.poll() is None and not steps_of(folder):
            time.sleep(0.01)
        time.sleep(random.uniform(0.0, 0.3))
        program.kill()
        program.communicate()
        assert program.returncode == -signal.SIGKILL

    def test_the_same_command_goes_on_to_the_same_end(self, tmp_path):
        words = [("eins", "one"), ("zwei", "two"), ("drei", "three"), ("vier", "four")]
        lines = [
            "\t".join(map(" ".join, zip(*pair, strict=True)))
            for pair in itertools.product(words, repeat=3)
        ]
        (tmp_path / "pairs.tsv").write_text("\n".join(lines))
        path = tmp_path / "small.py"
        path.write_text(SMALL_CONFIG.replace("FOLDER", repr(str(tmp_path))))
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        command = [sys.executable, "-m", "apps.train", f"--config={path}", f"--workdir={killed}"]
        self.kill_after_its_first_checkpoint(command, killed / "checkpoints")
        reached = steps_of(killed / "checkpoints")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Going on from step {reached[-1]} " in done.stdout
        assert json.loads(done.stdout.splitlines()[-1])["steps"] == 150
        training.train(translation, runpy.run_path(str(path))["get_config"](), str(whole))
        assert_same_end(killed, whole)
        for name in ("loss", "validation_loss"):
            assert list(logged(killed, name).items())[-1] == list(logged(whole, name).items())[-1]
        steps = [record["step"] for record in records(killed)]
        assert steps == sorted(set(steps))
        assert not list(killed.rglob(".tmp*"))


class LoopTest:
    def test_checkpoints_and_validations_come_at_their_steps_and_at_the_end(self, whole):
        assert steps_of(whole / "checkpoints") == [3, 6, 9, 12]
        assert list(logged(whole, "validation_loss")) == [4, 8, 12]
        assert list(logged(whole, "validation_accuracy")) == [4, 8, 12]
        assert set(logged(whole, "loss")) == {2, 3, 4, 6, 8, 9, 10, 12}

    def test_the_folder_holds_config_log_curves_and_events(self, whole):
        names = {path.name for path in whole.iterdir()}
        assert {"config.json", "metrics.jsonl", "curves.png", "checkpoints"} < names
        assert any(name.startswith("events.") for name in names)
        assert not list(whole.rglob(".tmp*"))

    def test_the_learning_rate_follows_its_schedule(self, whole):
        schedule = InverseSquareRoot(0.03, 5)
        for step, rate in logged(whole, "learning_rate").items():
            assert rate == pytest.approx(float(schedule(step)), rel=1e-6)

    def test_the_logged_loss_is_the_mean_over_the_tokens_since_the_last_record(self, tmp_path):
        run(tmp_path, steps=3, learning_rate=1e-30, dropout=0.0, label_smoothing=0.0)
        trainer = make_trainer(seed=1, label_smoothing=0.0)
        batches = [draw_batch(1, number) for number in range(3)]
        expected = {2: mean_loss(trainer, *batches[:2]), 3: mean_loss(trainer, batches[2])}
        assert logged(tmp_path, "loss") == pytest.approx(expected, rel=1e-5)
        validation = mean_loss(trainer, draw_batch(1, 10**6))
        assert logged(tmp_path, "validation_loss") == pytest.approx({3: validation}, rel=1e-5)

    def test_the_best_checkpoint_is_kept_and_no_progress_ends_the_run(self, tmp_path):
        task = Digits(scores=[5.0, 7.0, 7.0, 6.0, 99.0])
        often = {"validate_every": 2, "checkpoint_every": 2, "best_metric": "bleu"}
        summary = run(tmp_path, task, patience=2, **often)
        assert (summary["steps"], summary["best_step"], summary["validation_bleu"]) == (8, 4, 7.0)
        assert list(logged(tmp_path, "validation_bleu").values()) == [5.0, 7.0, 7.0, 6.0]
        folder = tmp_path / "checkpoints"
        assert steps_of(folder / "best") == [4]
        best, same = (
            Checkpoints(path).load(path / "step-00000004")[0] for path in (folder / "best", folder)
        )
        assert all(np.array_equal(best[name], same[name]) for name in same)
        # The same command has nothing to do; with more patience the run goes on.
        assert run(tmp_path, task, patience=2, **often)["steps"] == 8
        summary = run(tmp_path, task, patience=3, **often, steps=10)
        assert (summary["steps"], summary["best_step"], summary["validation_bleu"]) == (
            10,
            10,
            99.0,
        )
        assert steps_of(folder / "best") == [10]

    def test_a_loss_that_is_not_finite_ends_the_run_and_costs_no_checkpoint(self, whole, stopped):
        before = {path: path.stat().st_mtime_ns for path in stopped.glob("checkpoints/**/*")}
        with pytest.raises(FloatingPointError, match="between steps 8 and 9.*checkpoints is from"):
            run(stopped, learning_rate=1e38)
        assert {p: p.stat().st_mtime_ns for p in stopped.glob("checkpoints/**/*")} == before
        run(stopped)
        assert_same_end(stopped, whole)


class ConfigFileTest:
    """What the program says to a config that it cannot load."""

    BROKEN = {
        "def get_config(:": "line 1: invalid syntax",
        "config = {}": "there is no function get_config",
        "def get_config():\n    return 7 / 0": "line 2: division by zero",
        "def get_config():\n    return {}": "does not return a config with a task",
    }
    # One process for all of them, since loading TensorFlow takes seconds.
    TRY_ALL = """
import sys
from apps.train import with_config_path
for path in sys.argv[1:]:
    try:
        with_config_path([f"--config={path}"])
    except ValueError as error:
        print(error)
"""

    def start(self, folder, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    def test_a_broken_file_is_one_sentence_with_its_line(self, tmp_path):
        paths = [str(tmp_path / f"{number}.py") for number in range(len(self.BROKEN))]
        for path, text in zip(paths, self.BROKEN, strict=True):
            Path(path).write_text(text)
        lines = self.start(tmp_path, "-c", self.TRY_ALL, *paths).stdout.splitlines()
        for line, path, expected in zip(lines, paths, self.BROKEN.values(), strict=True):
            assert path in line and expected in line

    def test_an_unknown_name_is_answered_with_the_known_ones(self, tmp_path):
        done = self.start(tmp_path, "-m", "apps.train", "--config=multi30k", "--workdir=run")
        line = done.stderr.splitlines()[0]
        assert "multi30k_en_de" in line and "not 'multi30k'" in line
        assert done.returncode == 2 and not (tmp_path / "run").exists()


class RefusalTest:
    @pytest.mark.parametrize(
        "changes",
        [
            {"schedule": "staircase"},
            {"precision": "float8"},
            {"steps": 0},
            {"steps_per_call": 0},
            {"log_every": 0},
            {"validate_every": 0},
            {"checkpoint_every": -1},
            {"keep_checkpoints": 0},
            {"schedule": "cosine", "warmup_steps": 12},
            {"best_metric": "rouge"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_config_that_cannot_be_is_one_sentence(self, tmp_path, changes):
        key, value = list(changes.items())[-1]
        with pytest.raises(ValueError, match=f"{key}={value!r}") as caught:
            run(tmp_path / "run", Digits(scores=[5.0]), **{"steps": 2, **changes})
        assert "\n" not in str(caught.value)

    def test_a_compiled_step_on_several_replicas_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="train.jit_compile=True with 2"):
            run(tmp_path, strategy=two_replicas(), jit_compile=True)
