"""A dry run shows what a run would be, for both tasks, and leaves nothing but a picture."""

import contextlib
import io
import os
import re
import runpy

import pytest

from pipelines.tasks import translation
from pipelines.tasks.translation import data
from pipelines.training.dry_run import dry_run
from tests import programs
from tests.training import soak

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def shown(folder):
    """What a dry run of a translator prints, and which files are new."""
    config = runpy.run_path(str(soak.write_config("translation", folder, 23)))
    before, out = set(os.listdir(folder)), io.StringIO()
    with contextlib.redirect_stdout(out):
        dry_run(translation, config["get_config"](), str(folder))
    return out.getvalue(), set(os.listdir(folder)) - before


def number(pattern, text):
    return float(re.search(pattern, text)[1].replace(",", ""))


class DryRunTest:
    def test_a_translator_shows_its_first_pairs_as_text(self, shown):
        text, new = shown
        words = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four"}
        pairs = re.findall(r"^(.+)\n  -> (.+)$", text, re.MULTILINE)
        assert 0 < len(pairs) <= data.SHOWN_PAIRS and not new
        for source, target in pairs:
            assert [words[word] for word in source.split()] == target.split()

    def test_the_program_draws_the_first_images_of_a_classifier(self, tmp_path):
        config, run = soak.write_config("classification", tmp_path, 23), tmp_path / "run"
        flags = [f"--config={config}", f"--workdir={run}", "--dry_run"]
        (done,) = programs.run(["train", *flags])
        assert done.returncode == 0, done.stderr
        assert "AutoGraph" not in done.stderr and "WARNING" not in done.stderr
        assert "The first images of the first 8 batches, one a row, are in" in done.stdout
        assert os.listdir(run) == ["first_batch.png"]
        assert (run / "first_batch.png").stat().st_size > 10_000

    def test_parameters_memory_and_time_are_told(self, shown):
        text, _ = shown
        rows = re.findall(r"^\S+ +([\d,]+) +\d+$", text, re.MULTILINE)
        trained = number(r"in all +([\d,]+)", text)
        assert trained == sum(int(row.replace(",", "")) for row in rows)
        state = number(r"state: ([\d.]+) MiB", text)
        # Weights, gradients, two moments and an average of four bytes each.
        assert state == pytest.approx(5 * 4 * trained / 2**20, abs=0.06)
        assert number(r"at most: ([\d.]+) MiB", text) > 100
        assert number(r"([\d.]+) s a step", text) > 0 and "; 23 steps take 0:" in text
