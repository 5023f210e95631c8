"""A dry run shows what a run would be, for both tasks, and leaves nothing but a picture."""

import os
import re
import runpy

import pytest

from pipelines import classification, translation
from pipelines.dry_run import dry_run
from tests import soak


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def show(task, folder, capsys):
    """Runs it; returns what it prints and which files are new."""
    config = runpy.run_path(str(soak.write_config(task.__name__.split(".")[1], folder, 23)))
    before = set(os.listdir(folder))
    dry_run(task, config["get_config"](), str(folder / "first_batch.png"))
    return capsys.readouterr().out, set(os.listdir(folder)) - before


def number(pattern, text):
    return float(re.search(pattern, text)[1].replace(",", ""))


class DryRunTest:
    def test_a_translator_shows_its_first_pairs_as_text(self, folder, capsys):
        text, new = show(translation, folder, capsys)
        words = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four"}
        pairs = re.findall(r"^(.+)\n  -> (.+)$", text, re.MULTILINE)
        assert 0 < len(pairs) <= translation.SHOWN and not new
        for source, target in pairs:
            assert [words[word] for word in source.split()] == target.split()

    def test_a_classifier_draws_its_first_images(self, folder, capsys):
        text, new = show(classification, folder, capsys)
        assert new == {"first_batch.png"} and "The first 24 images are in" in text
        assert (folder / "first_batch.png").stat().st_size > 10_000

    def test_parameters_memory_and_time_are_told(self, folder, capsys):
        text, _ = show(translation, folder, capsys)
        rows = re.findall(r"^\S+ +([\d,]+) +\d+$", text, re.MULTILINE)
        trained = number(r"in all +([\d,]+)", text)
        assert trained == sum(int(row.replace(",", "")) for row in rows)
        state = number(r"state: ([\d.]+) MiB", text)
        # Weights, gradients, two moments and an average of four bytes each.
        assert state == pytest.approx(5 * 4 * trained / 2**20, abs=0.06)
        assert number(r"at the most: ([\d.]+) MiB", text) > 100
        assert number(r"([\d.]+) s a step", text) > 0 and "; 23 steps take 0:" in text
