"""The training loop: what it writes, when it stops, and runs that are stopped and resume."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from kerasformer.schedules import InverseSquareRoot, WarmUpCosine
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.folder import locked
from pipelines.training import loop
from pipelines.training.dry_run import dry_run
from tests import programs
from tests.training import soak
from tests.training.token_task import (
    TokenTask,
    as_dataset,
    draw_batch,
    make_config,
    make_trainer,
    mean_loss,
    run,
    two_replicas,
)

pytestmark = pytest.mark.integration


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


class CrashingTask(TokenTask):
    def metrics(self, model, batch, config):
        raise Crash


class PreemptedTask(TokenTask):
    """Sends SIGTERM to its own process when a batch is read."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def datasets(self, config, workdir, shard):
        data = super().datasets(config, workdir, shard)

        def train(first):
            for number, batch in enumerate(data.train(first), first):
                if number == self.number:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        return data._replace(train=lambda first: as_dataset(train(first)))


class ResumeTest:
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
            run(tmp_path, CrashingTask(), validate_every=11)
        assert steps_of(tmp_path / "checkpoints") == [3, 6, 9]
        assert list(logged(tmp_path, "loss"))[-1] == 10
        run(tmp_path)
        assert_same_end(tmp_path, whole)
        steps = [record["step"] for record in records(tmp_path)]
        assert steps == sorted(set(steps)) and steps[-1] == 12

    @pytest.mark.parametrize("step", [4, 7])
    def test_a_run_that_is_asked_to_end_is_saved_and_ends_as_if_it_was_not(
        self, whole, tmp_path, step
    ):
        with pytest.raises(loop.Preempted, match="saved at step"):
            run(tmp_path, PreemptedTask(step))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        (saved,) = steps_of(tmp_path / "checkpoints" / "preempted")
        assert abs(saved - step) <= 2  # The steps of a call.
        run(tmp_path)
        assert_same_end(tmp_path, whole)
        assert steps_of(tmp_path / "checkpoints") == steps_of(whole / "checkpoints")
        assert logged(tmp_path, "loss") == logged(whole, "loss")

    def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(self, whole, stopped):
        os.truncate(stopped / "checkpoints" / "step-00000007" / "arrays.npz", 1009)
        run(stopped)
        assert_same_end(stopped, whole)
        assert 7 not in logged(stopped, "loss")

    def test_a_run_of_which_every_checkpoint_is_damaged_is_not_begun_anew(self, stopped):
        for path in stopped.glob("checkpoints/**/arrays.npz"):
            os.truncate(path, 1009)
        before = sorted(stopped.rglob("*"))
        with pytest.raises(ValueError, match="no whole checkpoint.*delete it to begin anew"):
            run(stopped)
        assert sorted(stopped.rglob("*")) == before

    def test_another_number_of_replicas_has_other_batches_and_is_refused(self, stopped):
        with pytest.raises(ValueError, match="another number of replicas.*--allow_changes"):
            run(stopped, strategy=two_replicas(), allow_changes=False, steps=7)

    def test_a_constant_rate_of_learning_may_be_changed(self, tmp_path):
        run(tmp_path, steps=3, schedule="constant", learning_rate=0.01)
        run(tmp_path, steps=6, schedule="constant", learning_rate=0.002)
        assert logged(tmp_path, "learning_rate")[6] == pytest.approx(0.002)

    def test_what_a_kill_left_half_done_is_tidied_up(self, whole, tmp_path):
        workdir = shutil.copytree(whole, tmp_path / "run")
        (workdir / "checkpoints" / ".tmp-step-00000015").mkdir()
        run(workdir, keep_checkpoints=2)
        assert steps_of(workdir / "checkpoints") == [9, 12]
        assert not list(workdir.rglob(".tmp*"))

    def test_two_programs_do_not_train_in_one_folder(self, whole, tmp_path):
        workdir = shutil.copytree(whole, tmp_path / "run")
        before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        with locked(workdir), pytest.raises(ValueError, match="Another process trains"):
            run(workdir, dropout=0.1)
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_a_refused_config_does_not_replace_that_of_the_run(self, stopped):
        (stopped / "tokenizer.model").write_bytes(b"another")
        before = (stopped / "config.json").read_bytes()
        with pytest.raises(ValueError, match="another tokenizer.model"):
            run(stopped, allow_changes=False, steps=7, log_every=5)
        assert (stopped / "config.json").read_bytes() == before

    def test_other_prepared_files_are_refused_by_name(self, stopped_once, tmp_path):
        workdir = shutil.copytree(stopped_once, tmp_path / "run")
        (workdir / "tokenizer.model").write_bytes(b"another")
        with pytest.raises(ValueError, match="another tokenizer.model.*--allow_changes"):
            run(workdir, allow_changes=False, steps=7)
        run(workdir)

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
        assert run(stopped, TokenTask(batches), steps=9)["steps"] == 9

    def test_another_model_is_refused_and_everything_stays(self, stopped):
        before = sorted(stopped.rglob("*"))
        with pytest.raises(ValueError, match="model.dropout=0.3, not 0.2"):
            run(stopped, dropout=0.2)
        assert sorted(stopped.rglob("*")) == before


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

    @pytest.mark.parametrize(
        ("name", "schedule"),
        [
            ("cosine", WarmUpCosine(0.01, 20, 2)),
            ("inverse_square_root", InverseSquareRoot(0.01, 2)),
        ],
        ids=["cosine", "inverse square root"],
    )
    def test_a_warm_up_longer_than_the_run_is_shortened_and_said(
        self, tmp_path, capsys, name, schedule
    ):
        run(tmp_path, steps=20, warmup_steps=4000, schedule=name, learning_rate=0.01)
        for step, rate in logged(tmp_path, "learning_rate").items():
            assert rate == pytest.approx(float(schedule(step)), rel=1e-6)
        expected = "The warm-up takes 2 steps, because train.warmup_steps=4000 is not below train.s"
        assert expected in capsys.readouterr().out

    def test_the_logged_loss_is_the_mean_over_the_tokens_since_the_last_record(self, tmp_path):
        run(tmp_path, steps=3, learning_rate=1e-30, dropout=0.0, label_smoothing=0.1)
        trainer = make_trainer(seed=1, label_smoothing=0.1)
        batches = [draw_batch(1, number) for number in range(3)]
        expected = {2: mean_loss(trainer, *batches[:2]), 3: mean_loss(trainer, batches[2])}
        assert logged(tmp_path, "loss") == pytest.approx(expected, rel=1e-5)
        for name, smoothing in (("smoothed_loss", 0.1), ("loss", 0.0)):
            trainer.config.train.label_smoothing = smoothing
            value = mean_loss(trainer, draw_batch(1, 10**6))
            found = logged(tmp_path, f"validation_{name}")
            assert found == pytest.approx({3: value}, rel=1e-5)

    def test_the_best_checkpoint_is_kept_and_no_progress_ends_the_run(self, tmp_path):
        task = TokenTask(scores=[5.0, 7.0, 7.0, 6.0, 99.0])
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
        # The same command has nothing to do; with more patience the run resumes.
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
        with pytest.raises(FloatingPointError, match=r"at step 9: .* dense.*/checkpoints are from"):
            run(stopped, learning_rate=1e38)
        assert {p: p.stat().st_mtime_ns for p in stopped.glob("checkpoints/**/*")} == before
        run(stopped)
        assert_same_end(stopped, whole)

    def test_weights_that_are_not_finite_are_not_saved(self, tmp_path):
        with pytest.raises(FloatingPointError, match="model/0.* are not finite after step 1"):
            run(tmp_path, learning_rate=1e39, schedule="constant", checkpoint_every=1)
        assert not steps_of(tmp_path / "checkpoints")

    def test_a_loss_that_diverges_ends_the_run_too(self, tmp_path):
        with pytest.raises(FloatingPointError, match="diverges: it began at .* at step "):
            run(tmp_path, learning_rate=1000.0, schedule="constant", log_every=1)
        assert list(logged(tmp_path, "loss")) == [1]

    def test_the_profiler_runs_between_two_steps(self, tmp_path):
        loop.train(TokenTask(), make_config(), str(tmp_path), profile=(3, 5))
        assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
        assert logged(tmp_path, "loss").keys() == {2, 3, 4, 5, 6, 8, 9, 10, 12} - {5}


BROKEN = {
    "def get_config(:": "line 1: invalid syntax",
    "config = {}": "there is no function get_config",
    "def get_config():\n    return 7 / 0": "line 2: division by zero",
    "def get_config():\n    return {}": "does not return a config with a task",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """The folder of programs that were refused; those of broken configs, and three others."""
    folder, train = tmp_path_factory.mktemp("refused"), ["train", "--workdir=run"]
    for number, text in enumerate(BROKEN):
        (folder / f"{number}.py").write_text(text)
    several = [*train, "--config=demo_digits", "--local_workers=2"]
    found = programs.run(
        *([*train, f"--config={number}.py"] for number in range(len(BROKEN))),
        [*train, "--config=multi30k"],
        [*several, "--strategy=mirrored:2"],
        [*several, "--dry_run"],
        folder=folder,
    )
    return folder, found[: len(BROKEN)], found[len(BROKEN) :]


class ProgramTest:
    """What the program says to flags that cannot be right."""

    def test_a_broken_file_is_one_sentence_with_its_line(self, refused):
        for number, (done, expected) in enumerate(zip(refused[1], BROKEN.values(), strict=True)):
            line = done.stderr.splitlines()[0]
            assert f"{number}.py" in line and expected in line and done.returncode == 2

    def test_an_unknown_name_is_answered_with_the_known_ones(self, refused):
        _, _, (unknown, *_) = refused
        line = unknown.stderr.splitlines()[0]
        assert "multi30k_en_de" in line and "not 'multi30k'" in line
        assert unknown.returncode == 2

    def test_several_processes_take_neither_other_devices_nor_a_dry_run(self, refused):
        _, _, (_, *several) = refused
        flags = ("--strategy=mirrored:2", "--dry_run")
        for done, flag in zip(several, flags, strict=True):
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"error: Expected --local_workers=2 without {flag}.\n"

    def test_nothing_is_begun(self, refused):
        assert not (refused[0] / "run").exists()


class TwoProcessesTest:
    """What a second process may do in the folder of a run that trains."""

    def test_it_may_not_train_and_a_tokenizer_it_replaces_is_noticed(self, tmp_path):
        config, run = soak.write_config("translation", tmp_path, 10**6), tmp_path / "run"
        config.write_text(config.read_text().replace("checkpoint_every=1)", "checkpoint_every=99)"))
        program = soak.start(config, run, "one")
        soak.wait(program, lambda: list(run.glob("checkpoints/step-*")))
        program.send_signal(
            signal.SIGSTOP
        )  # It holds its lock, and leaves the processor to others.
        names = ("config.json", "tokenizer.model")
        before = [(run / name).read_bytes() for name in names]
        train = ["train", f"--config={config}", f"--workdir={run}"]
        refused, evaluated = programs.run(
            [*train, "--config.tokenizer.vocabulary_size=24"],
            ["evaluate", f"--workdir={run}"],
        )
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == f"error: Another process trains in {run} already.\n"
        assert [(run / name).read_bytes() for name in names] == before
        assert evaluated.returncode == 0, evaluated.stderr
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        program.send_signal(signal.SIGCONT)
        assert program.wait() == 143
        assert "AutoGraph" not in run.with_suffix(".log").read_text()
        (run / "tokenizer.model").write_bytes(before[1] + b"another")
        for done in programs.run(["evaluate", f"--workdir={run}"], ["export", f"--workdir={run}"]):
            assert done.returncode == 1 and done.stderr.count("\n") == 1
            assert f"{run}/tokenizer.model was changed or replaced" in done.stderr
        assert not (run / "export").exists()


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
            {"warmup_steps": -1},
            {"best_metric": "rouge"},
            {"label_smoothing": 1.0},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_config_that_cannot_be_is_one_sentence(self, tmp_path, changes):
        key, value = list(changes.items())[-1]
        with pytest.raises(ValueError, match=f"{key}={value!r}") as caught:
            run(tmp_path / "run", TokenTask(scores=[5.0]), **{"steps": 2, **changes})
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_a_start_that_fails_leaves_everything_as_it_was(self, tmp_path, error):
        class WithoutData(TokenTask):
            def datasets(self, config, workdir, shard):
                (Path(workdir) / "tokenizer.model").write_text("of half the data")
                raise error("the rest is gone")

        for start in (loop.train, dry_run):
            with pytest.raises(error, match="the rest is gone"):
                start(WithoutData(), make_config(), str(tmp_path / "new" / "run"))
            assert not os.listdir(tmp_path)
        # A run without a checkpoint, and a folder of something else.
        other = make_config()
        other.seed += 1
        for config in (other.to_json(), '{"architectures": ["x"]}'):
            files = {"config.json": config, "tokenizer.model": "old"}
            for name, text in files.items():
                (tmp_path / name).write_text(text)
            with pytest.raises((error, ValueError), match="the rest is gone|config.json cannot be"):
                loop.train(WithoutData(), make_config(), str(tmp_path))
            assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files

    def test_a_compiled_step_on_several_replicas_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="train.jit_compile=True with 2"):
            run(tmp_path, strategy=two_replicas(), jit_compile=True)
