"""What a run shows: plain lines in a log, a bar on a terminal, nothing but from the chief."""

import json
import os
import pty
import re
import sys
import termios
import time

import pytest
import tensorflow as tf

from pipelines.training.progress import Progress, peak_memory
from pipelines.training.state import State
from pipelines.training.task import Data
from tests.training.token_task import TokenTask, make_config, run

DATA = Data(train=None, validation=None, batches_per_epoch=5, items="tokens")
RECORD = {"loss": 1.5, "gradient_norm": 0.7, "learning_rate": 0.01, "tokens_per_second": 123.4}
SLEEP = 0.7  # seconds
VALIDATION = {"validation_loss": 1.25}


def make_state(step=6):
    """Makes the state of a run of 12 steps, six of which took 20 seconds."""
    clock = {"input": 2.0, "validation": 3.0, "checkpoint": 0.5}
    best = {"best_value": 1.25, "best_step": 4}
    return State("loss", {}, {}, step, 6, items=1010.0, seconds=20.0, clock=clock, **best)


def make(workdir, is_chief=True):
    return Progress(workdir, DATA, make_config().train, make_state().step, is_chief)


def read_events(workdir):
    """Reads `(step, name, value)` of each scalar that TensorBoard would show."""
    found = []
    for path in sorted(workdir.glob("events.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.append((event.step, value.tag, float(tf.make_ndarray(value.tensor))))
    return found


class LogTest:
    def test_a_plain_line_tells_all_that_one_wants_to_know(self, tmp_path, capsys):
        with make(tmp_path) as progress:
            progress.update(6)
            progress.report(make_state(), RECORD)
        memory = peak_memory() / 2**30
        out, err = capsys.readouterr()
        assert not err
        pattern = (
            r"step 6/12 epoch 1\.20 loss=1\.5 learning_rate=0\.01 tokens_per_second=123\.4 "
            r"memory=(\d+\.\d\d)GiB ETA 0:20\n"
        )
        assert float(re.fullmatch(pattern, out)[1]) == pytest.approx(memory, abs=0.02)

    def test_each_report_is_one_record_and_one_event_a_number(self, tmp_path):
        with make(tmp_path) as progress:
            progress.report(make_state(), RECORD)
            progress.report(make_state(8), RECORD | VALIDATION)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        first, second = map(json.loads, lines)
        assert first == {"step": 6, "seconds": 20.0, **RECORD}
        assert second == {"step": 8, "seconds": 20.0, **RECORD, **VALIDATION}
        expected = [(6, name, pytest.approx(value)) for name, value in RECORD.items()]
        later = RECORD | VALIDATION
        expected += [(8, name, pytest.approx(value)) for name, value in later.items()]
        assert read_events(tmp_path) == expected

    def test_curves_are_drawn_anew_at_each_validation(self, tmp_path):
        with make(tmp_path) as progress:
            progress.report(make_state(), RECORD)
            assert not (tmp_path / "curves.png").exists()
            for step in (8, 10):
                before = (tmp_path / "curves.png").read_bytes() if step == 10 else b""
                progress.report(make_state(step), RECORD | VALIDATION)
                assert (tmp_path / "curves.png").read_bytes() != before

    def test_only_the_chief_writes_and_speaks(self, tmp_path, capsys):
        with make(tmp_path, is_chief=False) as progress:
            progress.update(6)
            progress.report(make_state(), RECORD | VALIDATION)
        quiet = progress.summary(make_state())
        assert capsys.readouterr() == ("", "")
        assert not list(tmp_path.iterdir())
        assert quiet == make(tmp_path).summary(make_state())


def read_all(reader):
    """Reads what a terminal was sent until now."""
    found = b""
    while True:
        try:
            found += os.read(reader, 2**12)
        except OSError:  # Nothing is left, or nobody writes any more.
            return found.decode()


class TerminalTest:
    def test_one_line_shows_the_loss_the_rate_and_the_memory(self, tmp_path, monkeypatch, capsys):
        reader, writer = pty.openpty()
        termios.tcsetwinsize(writer, (24, 200))
        os.set_blocking(reader, False)
        with open(writer, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            with make(tmp_path) as progress:
                progress.report(make_state(), RECORD)
                assert capsys.readouterr().out == ""
                time.sleep(0.2)  # The bar is drawn ten times a second at the most.
                progress.update(3)
                shown = read_all(reader)
                progress.report(make_state(), RECORD | VALIDATION)
            after = read_all(reader)
        os.close(reader)
        last = shown.split("\r")[-1]
        assert re.search(r" 75%.* 9/12 \[\d\d:\d\d<\d\d:\d\d", last)
        assert re.search(r"loss=1\.5, tokens_per_second=123\.4, memory=\d+\.\d\dGiB\]", last)
        # A validation stays on a line of its own above the bar.
        assert "validation_loss=1.25" in capsys.readouterr().out
        assert "\n" not in shown and after.count("\n") == 1


class TimedDigits(TokenTask):
    """A task that notes when its batches are asked for and when its slow validation has ended."""

    def __init__(self):
        super().__init__()
        self.began, self.ended = [], []

    def datasets(self, config, workdir, shard):
        data = super().datasets(config, workdir, shard)

        def train(first):
            self.began.append(time.perf_counter())
            return data.train(first)

        return data._replace(train=train)

    def validation_scorer(self, model, config, workdir):
        def score():
            time.sleep(SLEEP)
            self.ended.append(time.perf_counter())
            return {"bleu": 3.0}

        return score


class SummaryTest:
    def test_the_shares_of_the_time_sum_to_one(self, tmp_path, capsys):
        summary = make(tmp_path).summary(make_state())
        shares = {name: value for name, value in summary.items() if name.startswith("share")}
        expected = {"input": 0.1, "validation": 0.15, "checkpoint": 0.025, "compute": 0.725}
        assert shares == pytest.approx({f"share_{name}": x for name, x in expected.items()})
        rest = {"steps": 6, "seconds": 20.0, "best_step": 4, "validation_loss": 1.25}
        rest |= {"tokens_per_second": 50.5}
        assert {name: value for name, value in summary.items() if name not in shares} == rest
        assert capsys.readouterr().err == (
            "6 steps in 20 s, 50.5 tokens a second; best validation_loss 1.25 at step 4; "
            "time: 10.0% input, 15.0% validation, 2.5% checkpoint, 72.5% compute.\n"
        )

    def test_the_last_validation_of_a_run_counts_too(self, tmp_path):
        task = TimedDigits()
        # The same command once more finds nothing to do, and says the same.
        for summary in [run(tmp_path, task, steps=2, best_metric="bleu") for _ in range(2)]:
            assert summary["seconds"] > task.ended[0] - task.began[0] - 0.3
            assert summary["share_validation"] * summary["seconds"] > SLEEP - 0.1
            shares = [value for name, value in summary.items() if name.startswith("share")]
            assert sum(shares) == pytest.approx(1.0, abs=1e-3)
