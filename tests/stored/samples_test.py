"""Files that earlier versions wrote, read with the code of the day: see `make.py`."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import tasks
from pipelines.runs import evaluation
from pipelines.runs.config import read_config
from pipelines.training import loop
from tests import programs
from tests.stored import make

VERSIONS = sorted(path.parent for path in Path(__file__).parent.glob("*/answers.json"))

each_version = pytest.mark.parametrize("stored", VERSIONS, ids=lambda path: path.name)


def last_losses(lines):
    """Returns what was logged last of each loss, by step."""
    records = [json.loads(line) for line in lines.splitlines()]
    return {
        name: [(record["step"], record[name]) for record in records if name in record][-1]
        for name in ("loss", "validation_loss")
    }


@pytest.mark.integration
@each_version
class StoredTest:
    @pytest.mark.parametrize("name", ["Seq2SeqTransformer", "VisionTransformer"])
    def test_a_model_computes_what_it_did(self, stored, name):
        model = keras.saving.load_model(stored / f"{name}.keras")
        inputs = dict(np.load(stored / f"{name}.npz"))
        expected = inputs.pop("outputs")
        outputs = model(inputs if len(inputs) > 1 else inputs["inputs"])
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)

    def test_a_model_with_an_argument_of_the_future_is_refused_in_one_sentence(
        self, stored, tmp_path
    ):
        changed = tmp_path / "future.keras"
        with zipfile.ZipFile(stored / "VisionTransformer.keras") as old:
            with zipfile.ZipFile(changed, "w") as new:
                for name in old.namelist():
                    text = old.read(name)
                    if name == "config.json":
                        text = text.replace(b'"config": {', b'"config": {"future": 7, ', 1)
                    new.writestr(name, text)
        with pytest.raises(ValueError, match="'future': 7") as caught:
            keras.saving.load_model(changed)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("name", "key"), [("translator", "text"), ("classifier", "image")])
    def test_an_export_answers_what_it_did(self, stored, tmp_path, name, key):
        shutil.unpack_archive(stored / f"{name}.tar.xz", tmp_path, filter="data")
        image = [(stored / "image.png").read_bytes()]
        given = tf.constant(make.SENTENCES if key == "text" else image)
        expected = json.loads((stored / "answers.json").read_text())[name]
        answers = make.answers(tmp_path / "1", key, given)
        assert answers.keys() == expected.keys()
        for part, value in expected.items():
            if isinstance(np.array(value).flat[0], str):
                assert answers[part] == value
            else:
                np.testing.assert_allclose(answers[part], value, rtol=1e-3, atol=1e-4)

    def test_a_run_is_evaluated_and_resumes_to_the_end_it_had(self, stored, tmp_path, monkeypatch):
        folder = shutil.copytree(stored, tmp_path / "stored")
        path = folder / "run" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "decode": {**config["decode"], "future": 7}}))
        with pytest.raises(ValueError, match="decode.future=7, a key that this version"):
            evaluation.evaluate_run(tasks.find, str(folder / "run"), None, "test")
        # A key that a later version added has its default.
        assert config["decode"].pop("max_extra") == 10
        path.write_text(json.dumps(config))
        (evaluated,) = programs.run(["evaluate", "--workdir=run"], folder=folder)
        assert evaluated.returncode == 0, evaluated.stderr
        scores = json.loads((folder / "run/evaluation-test.json").read_text())
        expected = json.loads((stored / "run/evaluation-test.json").read_text())
        assert scores["bleu"] == pytest.approx(expected["bleu"], abs=1e-6)
        assert scores["chrf"] == pytest.approx(expected["chrf"], abs=1e-6)
        monkeypatch.chdir(folder)
        shutil.copy(stored / "run" / "config.json", path)
        config = read_config("run")
        lacking = json.loads(path.read_text())
        assert lacking["tokenizer"].pop("lowercase") is False
        path.write_text(json.dumps(lacking))
        config.train.steps = make.LATER
        task = tasks.find(config.task)
        assert loop.train(task, config, "run", allow_changes=True)["steps"] == make.LATER
        found = last_losses((folder / "run" / "metrics.jsonl").read_text())
        for name, (step, loss) in last_losses((stored / "later.jsonl").read_text()).items():
            assert found[name] == (step, pytest.approx(loss, rel=1e-3))
