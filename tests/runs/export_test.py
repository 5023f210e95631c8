"""Exports: which weights, which version, what lies in the folder, and who can load it."""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import types

import keras
import ml_collections
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure

from pipelines.runs import evaluation, export, formats
from pipelines.runs.checkpoints import WEIGHTS, Checkpoints
from pipelines.runs.config import read_config
from pipelines.runs.weights import load_model
from pipelines.tasks import translation
from pipelines.tasks.translation.evaluation import translate
from pipelines.training import loop
from pipelines.training.task import Evaluation
from tests import ROOT, programs

STEPS = (2, 3, 5)
BEST = 3
TRAINED = (0, 1, 4, 5)  # of the scoring model's six weights
ROWS = np.array([[2.0, 3.0, 5.0], [7.0, 11.0, 13.0]], np.float32)


class Scorer(tf.Module):
    """Scores rows of three numbers, in one signature."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="rows")])
    def score(self, rows):
        return {"scores": self.model(rows)}

    def signatures(self):
        return {"serving_default": self.score}


class Scoring:
    """A task as small as an export lets it be; its model has weights that no training moves."""

    def build(self, config, workdir):
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
        )

    def serving(self, model, config, workdir):
        return Scorer(model)

    def card(self, config, workdir):
        return {"Input": "Rows of three numbers."}

    def exported(self, functions, config, workdir):
        score = functions["serving_default"]()
        return types.SimpleNamespace(score=lambda rows: score({"rows": rows}))

    def example(self, module, config):
        return f"- output: {module.score(ROWS)['scores'].shape}\n"

    def evaluate(self, module, config, split):
        scores = {"mean": float(tf.reduce_mean(module.score(ROWS)["scores"]))}
        predictions = [{"row": 7, "prediction": "a\nb"}, {"row": 11, "prediction": 'c\t"d"'}]
        return Evaluation(scores, f"Table of {split}.\n", {"empty": Figure()}, predictions)


class FailingScoring(Scoring):
    def example(self, module, config):
        raise ValueError("the test set is gone")


def make_config(ema=0.0):
    return ml_collections.ConfigDict(
        {
            "task": "scoring",
            "data": {"format": "rows"},
            "train": {"ema": ema, "keep_checkpoints": 5, "precision": "float32"},
        }
    )


def weights_of(step):
    """Makes what a checkpoint of the scoring model holds, with positive variances."""
    random = np.random.default_rng(step)
    shapes = [(3,), (3,), (3,), (3,), (3, 1), (1,)]  # gamma, beta, mean, variance, kernel, bias
    model = [random.uniform(0.5, 2.0, shape).astype(np.float32) for shape in shapes]
    averages = [model[index] + 100 for index in TRAINED]
    return model, averages


@pytest.fixture
def workdir(tmp_path):
    """The folder of a run with three checkpoints and a best one, of a moving average too."""
    for folder, steps in (("checkpoints", STEPS), ("checkpoints/best", (BEST,))):
        for step in steps:
            model, averages = weights_of(step)
            arrays = {f"model/{i:04d}": array for i, array in enumerate(model)}
            arrays |= {f"ema/model/{i:04d}": x for i, x in zip(TRAINED, averages, strict=True)}
            Checkpoints(tmp_path / folder).save(step, arrays, {})
    return tmp_path


class WeightsTest:
    @pytest.mark.parametrize(
        ("weights", "steps"), [("last", STEPS[-1:]), ("best", (BEST,)), ("average", STEPS)]
    )
    @pytest.mark.parametrize("ema", [0.0, 0.9])
    def test_the_model_has_the_weights_that_were_asked_for(self, workdir, weights, steps, ema):
        model = load_model(Scoring().build, make_config(ema), str(workdir), weights)
        found = [variable.numpy() for variable in model.variables]
        for index, array in enumerate(found):
            expected = np.mean([weights_of(step)[0][index] for step in steps], axis=0)
            # The moving average has the trained weights alone.
            if ema and index not in (2, 3):
                expected = expected + 100
            np.testing.assert_allclose(array, expected, rtol=1e-6)

    def test_other_weights_are_one_sentence(self, workdir):
        with pytest.raises(ValueError, match="weights='first'"):
            load_model(Scoring().build, make_config(), str(workdir), "first")

    @pytest.mark.parametrize("weights", WEIGHTS)
    def test_without_a_checkpoint_it_is_one_sentence(self, tmp_path, weights):
        with pytest.raises(ValueError, match="There is no checkpoint in .*; train first"):
            load_model(Scoring().build, make_config(), str(tmp_path), weights)

    @pytest.mark.parametrize("format", formats.FORMATS)
    def test_without_a_checkpoint_nothing_is_written(self, tmp_path, format):
        with pytest.raises(ValueError, match="There is no checkpoint in"):
            export.export(Scoring(), make_config(), str(tmp_path), "last", format)
        assert not list(tmp_path.iterdir())

    def test_a_checkpoint_that_lacks_an_array_is_one_sentence(self, workdir):
        arrays = {f"model/{i:04d}": array for i, array in enumerate(weights_of(97)[0][:-1])}
        Checkpoints(workdir / "checkpoints").save(97, arrays, {})
        for weights, sentence in [("last", "expected model/0005"), ("average", "other arrays")]:
            with pytest.raises(ValueError, match=sentence):
                load_model(Scoring().build, make_config(), str(workdir), weights)

    def test_the_checkpoint_of_another_model_is_one_sentence(self, workdir):
        class Wider(Scoring):
            def build(self, config, workdir):
                return keras.Sequential([keras.Input((3,)), keras.layers.Dense(7)])

        with pytest.raises(ValueError, match="does not fit the model: expected model/0000"):
            load_model(Wider().build, make_config(), str(workdir), "last")


class ExportTest:
    def export(self, workdir, task=None):
        return export.export(task or Scoring(), make_config(), str(workdir), "last")

    def test_versions_count_up_from_the_highest(self, workdir):
        assert self.export(workdir) == workdir / "export" / "1"
        for name in ("7", "notes", ".tmp-8"):
            (workdir / "export" / name).mkdir()
        assert self.export(workdir) == workdir / "export" / "8"
        assert sorted(os.listdir(workdir / "export")) == ["1", "7", "8", "notes"]

    def test_a_version_gives_the_numbers_of_the_model(self, workdir):
        path = self.export(workdir)
        loaded = tf.saved_model.load(str(path))
        found = loaded.signatures["serving_default"](rows=tf.constant(ROWS))["scores"]
        model = load_model(Scoring().build, make_config(), str(workdir), "last")
        np.testing.assert_allclose(found, model(ROWS), rtol=1e-6)

    def test_a_version_is_a_saved_model_and_its_card(self, workdir):
        assert set(os.listdir(self.export(workdir))) == {
            "README.md",
            "assets",
            "fingerprint.pb",
            "saved_model.pb",
            "variables",
        }

    def test_the_card_says_what_goes_in_what_comes_out_and_how_good_it_is(self, workdir):
        scores, summary = evaluation.evaluate(
            Scoring(), make_config(), str(workdir), "last", "test"
        )
        assert json.loads((workdir / "evaluation-test.json").read_text()) == scores
        assert (workdir / "evaluation-test.md").read_text() == "Table of test.\n"
        assert (workdir / "evaluation-test-empty.png").exists()
        lines = (workdir / "evaluation-test-predictions.tsv").read_text().splitlines()
        assert lines == ["row\tprediction", "7\ta b", '11\tc "d"']
        mean = f"mean {scores['mean']:.4g}"
        assert f"weights last of step 5: {mean}. See {workdir}/evaluation-test.md and" in summary
        card = (self.export(workdir) / "README.md").read_text()
        today = datetime.date.today()
        for line in (
            "# scoring: SavedModel",
            f"Made on {today} from step 5 of a run of the task scoring, weights last.",
            "- test: rows",
            "Rows of three numbers.",
            "`serving_default`",
            "- in `rows`: float32 (None, 3)",
            "- out `scores`: float32 (None, 1)",
            "- output: (2, 1)",
            f' "mean": {scores["mean"]}',
            ' "task": "scoring",',
        ):
            assert line in card.splitlines()

    def test_the_card_has_no_scores_of_another_way_to_use_the_model(self, workdir):
        config = make_config()
        config.decode = {"beam_size": 3, "batch_size": 7}
        evaluation.evaluate(Scoring(), config, str(workdir), "last", "test")
        for changes, has_scores in [({"batch_size": 1}, True), ({"beam_size": 1}, False)]:
            config.decode.update(changes)
            path = export.export(Scoring(), config, str(workdir), "last")
            assert ("## Scores" in (path / "README.md").read_text()) == has_scores

    def test_a_table_compares_the_exports_that_are_there(self, workdir):
        for number in (1, 2, 3):
            if number == 3:
                shutil.rmtree(workdir / "export" / "1")
            how = "last", "saved_model", None, True, f"beam_size={number}"
            path = export.export(Scoring(), make_config(), str(workdir), *how)
        model = load_model(Scoring().build, make_config(), str(workdir), "last")
        score = f"mean {np.mean(model(ROWS)):.4g} (rows)"
        table = (workdir / "export.md").read_text().splitlines()
        rows = [line.split(" | ") for line in table if line.startswith("| export/")]
        assert [row[:2] for row in rows] == [
            [f"| export/{number}", f"saved_model, weights last, beam_size={number}"]
            for number in (2, 3)
        ]
        assert all(row[4] == f"{score} |" and float(row[3].replace(",", "")) > 0 for row in rows)
        card = (path / "README.md").read_text().splitlines()
        assert f"- score: {score}" in card and f"- size: {rows[1][2]} MB" in card

    def test_a_quantization_that_a_format_lacks_is_one_sentence(self, workdir):
        before = sorted(workdir.rglob("*"))
        for format, quantization, sentence in (
            (
                "saved_model",
                "int8",
                "unset with format='saved_model', received quantization='int8'",
            ),
            ("onnx", "float16", r"'int8'\) with format='onnx', received quantization='float16'"),
        ):
            with pytest.raises(ValueError, match=sentence):
                how = str(workdir), "last", format, quantization
                export.export(Scoring(), make_config(), *how)
        assert sorted(workdir.rglob("*")) == before

    def test_an_export_that_fails_leaves_nothing_behind(self, workdir):
        self.export(workdir)
        before = sorted(workdir.rglob("*"))
        with pytest.raises(ValueError, match="the test set is gone"):
            self.export(workdir, FailingScoring())
        assert sorted(workdir.rglob("*")) == before

    def test_a_first_export_that_fails_leaves_no_folder(self, workdir):
        with pytest.raises(ValueError, match="the test set is gone"):
            self.export(workdir, FailingScoring())
        assert not (workdir / "export").exists()

    def test_another_format_is_one_sentence(self, workdir):
        with pytest.raises(ValueError, match="'litert'.*, received format='tflite'"):
            export.export(Scoring(), make_config(), str(workdir), "last", "tflite")

    def test_a_folder_that_cannot_be_written_is_named(self, workdir):
        (workdir / "export").write_text("in the way")
        with pytest.raises(OSError, match="export"):
            self.export(workdir)


ANSWER = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text
loaded = tf.saved_model.load(sys.argv[1])
sentences = tf.constant(json.loads(sys.argv[2]))
answers = {name: {} for name in loaded.signatures}
for name, signature in loaded.signatures.items():
    inputs = {key: sentences for key in signature.structured_input_signature[1]}
    for key, value in signature(**inputs).items():
        value = value.numpy()
        value = np.char.decode(value.astype(bytes), "utf-8") if value.dtype == object else value
        answers[name][key] = value.tolist()
ours = [name for name in sys.modules if name.split(".")[0] in ("kerasformer", "pipelines", "apps")]
print(json.dumps({"answers": answers, "imported": ours}))
"""
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a translator of three sentences."""
    folder = tmp_path_factory.mktemp("translator")
    pairs = ["ein Hund\ta dog", "zwei Hunde\ttwo dogs", "drei Katzen\tthree cats"]
    (folder / "pairs.tsv").write_text("\n".join(pairs))
    config = translation.default_config()
    config.data.update(format="tsv", folder=str(folder), columns=(0, 1))
    config.data.update({split: "pairs.tsv" for split in ("train", "validation", "test")})
    config.tokenizer.update(vocabulary_size=26, byte_fallback=False)
    config.model.update(variant="tiny", num_layers=1, hidden_dim=8, num_heads=2)
    config.train.update(steps=31, batch_tokens=101, max_length=53, ema=0.5)
    config.train.update(learning_rate=0.03, warmup_steps=7, best_metric="loss")
    config.decode.update(beam_size=3, num_hypotheses=2, max_source_length=7)
    loop.train(translation, config, str(folder / "run"))
    return folder / "run"


@pytest.mark.integration
class TranslatorTest:
    SENTENCES = ("zwei Hunde", "", "drei Katzen und 😀", "ein Hund sieht drei Katzen")

    def test_a_process_with_onnxruntime_alone_translates_by_the_code_of_the_docs(
        self, run, tmp_path
    ):
        config = read_config(run)
        config.decode.update(beam_size=1, num_hypotheses=1, max_source_length=53)
        path = export.export(translation, config, str(run), "average", "onnx")
        assert path == run / "export_onnx" / "1"
        names = ["README.md", "config.json", "decoder_step.onnx", "encoder.onnx", "tokenizer.model"]
        assert sorted(os.listdir(path)) == [*names, "translator.onnx"]

        text = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
        find = r"^# {}\.py\n.*?(?=^```$)"
        halves, whole = (
            re.search(find.format(name), text, re.MULTILINE | re.DOTALL)[0]
            for name in ("translate", "translate_text")
        )
        code = f"{halves}\nsys.argv[1] += '/translator.onnx'\n{whole}"
        code += "\nassert 'tensorflow' not in sys.modules\n"
        command = [sys.executable, "-c", code, str(path), *self.SENTENCES]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        model = load_model(translation.build, config, str(run), "average")
        module = translation.serving(model, config, str(run))
        expected = translate(module, list(self.SENTENCES), config)
        assert done.stdout.splitlines() == 2 * expected and "⁇" not in expected[0]

    def test_own_pairs_and_another_search_have_scores_and_answers_of_their_own(self, run, tmp_path):
        for name, lines in (("my.de", "ein Hund\nzwei Hunde\n"), ("my.en", "a dog\ntwo dogs\n")):
            (tmp_path / name).write_text(lines)
        shutil.copytree(run, tmp_path / "run")
        own = ["--test=my.de,my.en", "--beam_size=1", "--output=own.jsonl"]
        shutil.copy(run.parent / "pairs.tsv", tmp_path)
        absent, scored, answered = programs.run(
            ["evaluate", "--workdir=run", "--test=absent.de,absent.en"],
            ["evaluate", "--workdir=run", *own],
            ["predict", "--model=run", "--score", "--file=pairs.tsv", "--output=own.txt"],
            folder=tmp_path,
        )
        assert scored.returncode == answered.returncode == 0, scored.stderr + answered.stderr
        assert absent.returncode == 1 and absent.stderr.count("absent.de") == 1
        scores = json.loads(scored.stdout)
        assert (scores["data"], scores["sentences"]) == ("['my.de', 'my.en']", 2)
        leak = "2 of 2 test pairs are in train too, and the sources of 2."
        search = "Looking for test data among the training data ..."
        lines = scored.stderr.splitlines()
        assert lines[lines.index(search) + 1] == leak
        assert scores["decode"]["beam_size"] == 1 and "beam_size=1.md" in scored.stderr
        files = [path.name for path in (tmp_path / "run").glob("evaluation*")]
        endings = (".json", ".md", "-length.png", "-predictions.tsv")
        assert sorted(files) == sorted(
            f"evaluation-test-my.de-my.en-beam_size=1{ending}" for ending in endings
        )
        lines = (tmp_path / "own.jsonl").read_text().splitlines()
        assert [json.loads(line)["source"] for line in lines] == ["ein Hund", "zwei Hunde"]
        lines = (tmp_path / "own.txt").read_text().splitlines()
        assert len(lines) == 3 and all(float(line) < 0 for line in lines)

    def test_what_cannot_be_exported_says_so_in_one_line_and_leaves_nothing(self, run):
        before = sorted(run.rglob("*"))
        (done,) = programs.run(["export", f"--workdir={run}", "--format=litert"])
        sentence = "A translator can be exported as saved_model or onnx, not as litert."
        assert (done.returncode, done.stderr) == (1, f"error: {sentence}\n")
        assert sorted(run.rglob("*")) == before

    def test_a_process_with_tensorflow_alone_gives_the_same_strings(self, run, tmp_path):
        config = read_config(run)  # as the program reads it
        path = export.export(translation, config, str(run), "average")
        card = (path / "README.md").read_text()
        for line in (
            "- 3 training pairs",
            "- 3 test pairs",
            f"- test: {run.parent} pairs.tsv",
            "- reference: a dog",
        ):
            assert line in card.splitlines()
        code = SNIPPET.search(card)[1] + ANSWER
        command = [sys.executable, "-c", code, str(path), json.dumps(self.SENTENCES)]
        done = subprocess.run(command, cwd=path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        of_card, answers = done.stdout.splitlines()
        assert f"- output: {of_card}" in card.splitlines()
        found = json.loads(answers)
        assert found["imported"] == []

        model = load_model(translation.build, config, str(run), "average")
        module = translation.serving(model, config, str(run))
        assert found["answers"].keys() == module.signatures().keys()
        for name, function in module.signatures().items():
            inputs = function.get_concrete_function().structured_input_signature[0]
            expected = function(*[tf.constant(self.SENTENCES)] * len(inputs))
            assert found["answers"][name].keys() == expected.keys()
            for key, value in expected.items():
                answer = np.array(found["answers"][name][key])
                if value.dtype == tf.string:
                    texts = np.char.decode(value.numpy().astype(bytes), "utf-8")
                    assert answer.tolist() == texts.tolist()
                else:
                    np.testing.assert_allclose(answer, value, rtol=1e-4, atol=1e-5)
