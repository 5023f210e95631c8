"""Runs that are killed end as if they were not: a few here, all cases in the slow test."""

import random
import runpy
import signal

import pytest

from pipelines.tasks import classification
from pipelines.training import loop
from tests.training import soak

pytestmark = pytest.mark.integration

MOMENTS = random.Random()  # Others at each time.


class KilledTest:
    def test_a_classifier(self, tmp_path):
        config = soak.write_config("classification", tmp_path, steps=60)
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        assert soak.kill_once(config, killed, "one", MOMENTS) != soak.AFTER
        soak.finish(config, killed, "one")
        config = runpy.run_path(str(config))["get_config"]()
        loop.train(classification, config, str(whole))
        assert soak.differences(killed, whole) == []

    @pytest.mark.slow
    def test_a_translator_in_two_processes_that_is_also_asked_to_end(self, tmp_path):
        config = soak.write_config("translation", tmp_path, steps=60)
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        program = soak.start(config, killed, "a worker")
        soak.wait(program, lambda: list(killed.glob("checkpoints/step-*")))
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 143
        assert "Asked to end: the run is saved at step" in killed.with_suffix(".log").read_text()
        assert soak.kill_once(config, killed, "a worker", MOMENTS) != soak.AFTER
        soak.finish(config, killed, "a worker")
        soak.finish(config, whole, "a worker")
        assert soak.differences(killed, whole) == []

    @pytest.mark.slow
    @pytest.mark.parametrize("strategy", soak.STRATEGIES)
    @pytest.mark.parametrize("task", soak.CONFIGS)
    def test_four_kills(self, tmp_path, task, strategy):
        struck, different = soak.soak(task, strategy, 4, tmp_path, MOMENTS)
        assert different == [], struck
