"""The benchmark of scaling: workers that are counted, what is made of it, and how it fails."""

import sys

import pytest

from pipelines.benchmarks import scaling

# Stands for a worker: writes seconds that are known.
WORKER = """
import json, os, sys
from pathlib import Path
job = json.loads(sys.argv[1])
cluster = json.loads(os.environ["TF_CONFIG"])
seconds = {"step": 0.5}
if len(cluster["cluster"]["worker"]) == 2:
    seconds = {"step": 0.8, "lone step": 0.6, "all-reduce": 0.1, "all-reduce, RING": 0.2}
if cluster["task"]["index"] == 0:
    Path(job["path"]).write_text(json.dumps({"seconds": seconds, "items": 70, "bytes": 3_000_000}))
"""


class MeasuredTest:
    def test_rates_efficiencies_and_shares_come_out(self):
        records = list(scaling.measured([sys.executable, "-c", WORKER]))
        found = {
            (r["peer"], r["unit"]): r["value"] for r in records if r["work"] == "scaling cct cifar"
        }
        assert found == pytest.approx(
            {
                ("1 worker", "img/s"): 140,
                ("2 workers", "img/s"): 175,
                ("2 workers without all-reduce", "img/s"): 233.3,
                ("2 workers / 2 x 1 worker", "efficiency"): 0.625,
                ("2 workers without all-reduce / 2 x 1 worker", "efficiency"): 0.8333,
                ("2 workers", "share, predicted"): 0.8333,  # 0.5 s of computing, 0.1 s of summing
                ("gradients", "MB/step"): 3,
                ("all-reduce", "share of the step"): 0.125,
                ("step - step without all-reduce", "share of the step"): 0.25,
                ("all-reduce", "ms/step"): 100,
                ("all-reduce, RING", "ms/step"): 200,
            }
        )
        assert {r["unit"] for r in records} >= {"img/s", "target tok/s"}

    def test_a_worker_that_fails_is_one_sentence(self):
        with pytest.raises(ChildProcessError, match="A worker .* ended with exit code 3"):
            next(scaling.measured([sys.executable, "-c", "raise SystemExit(3)"]))


@pytest.mark.slow
class WorkersTest:
    @pytest.mark.parametrize("work", scaling.SUBJECTS)
    def test_one_and_two_workers_train_and_are_timed(self, work, monkeypatch):
        monkeypatch.setattr(scaling, "SUBJECTS", {work: scaling.SUBJECTS[work]})
        command = [sys.executable, "-m", "apps.bench"]
        records = list(scaling.measured(command, rows=2, rounds=1))
        found = {(r["peer"], r["unit"]): r["value"] for r in records}
        # The models of the configs: CCT-4/3x3, and Transformer-Tiny.
        size = {"cct cifar": 2.058, "translation tiny": 8.374}[work]
        assert found.pop(("gradients", "MB/step")) == pytest.approx(size, rel=0.01)
        found.pop(("step - step without all-reduce", "share of the step"))  # Noise may make it < 0.
        assert all(value > 0 for value in found.values())
        for name in scaling.REDUCTION_OPTIONS:
            assert (name, "ms/step") in found
