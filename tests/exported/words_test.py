"""Tests of the program that translates: what goes in, what comes out, and what it says if it can't.

The translator is small and untrained, so that its answers mean nothing; what they must be is asked
of the exported signatures.
"""

import os
import shutil
import signal
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from pipelines.error_sentence import sentence
from pipelines.exported import words
from pipelines.exported.answers import Faults, listed, written_to
from pipelines.exported.models import Model, newest_version, read_saved_model
from pipelines.exported.operations import foreign_operation
from pipelines.exported.pictures import picture_paths
from tests import ROOT, programs
from tests.exported import exports
from tests.exported.exports import HYPOTHESES, LINES

pytestmark = pytest.mark.integration

HARD = [
    "مرحبا",
    "שלום עוֹלָם",
    "👩‍👩‍👧",
    "$x$\t日本",
    "- <s> </s> <0x41>",
    "a\u2028b\x85c",
    "x" * 9973,
]
LONG = "dog " * 997


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Makes the folder of versions; the one to use is 10."""
    folder = tmp_path_factory.mktemp("run") / "export"
    translator = exports.make_translator(max_source_length=19)
    tf.saved_model.save(translator, str(folder / "10"), signatures=translator.signatures())
    (folder / "9").mkdir()
    (folder / "9" / "saved_model.pb").write_bytes(b"older, and broken")
    (folder / ".tmp-11").mkdir()
    (folder / ".tmp-11" / "saved_model.pb").write_bytes(b"being written")
    return folder


@pytest.fixture(scope="module")
def model(exported):
    return Model(exported)


def expected_lines(model, texts):
    """Asks for one sentence at a time, so that a batch must equal its sentences."""
    answers = [model.call("translate", text=[text])["translation"][0] for text in texts]
    assert [not answer for answer in answers] == [not text.strip() for text in texts]
    return [words.spell(answer) for answer in answers]


def answer(model, texts, pictures=None, **options):
    """Answers on standard output; returns the exit code."""
    faults = Faults()
    with written_to(None) as write:
        words.predict(model, texts, write, faults, words.Options(**options), pictures)
    return faults.exit_code


def notes(model, texts, what):
    """Writes the note on what is cut off, as are most translations without training."""
    cut = [model.call("translate", text=[text])["truncated"][0] for text in texts]
    numbers = [number for number, is_cut in enumerate(cut, 1) if is_cut]
    are = "sentences, or their translations, were"
    if len(numbers) == 1:
        are = "sentence, or its translation, was"
    text = f"{len(numbers)} {are} too long and cut off: {listed(numbers, what)}."
    return f"note: {text}\n" if numbers else ""


def start(*arguments, **environment):
    """Starts the program as from a user's shell."""
    kept = {key: os.environ[key] for key in os.environ if key != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(
        [sys.executable, "-m", "apps.predict", *map(str, arguments)],
        cwd=ROOT,
        env=kept | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class OutputTest:
    def test_each_sentence_has_its_line_in_batches_of_any_size(self, model, capsys):
        texts = [LINES[0], "", *HARD, "  ", LINES[1], ""]
        expected = [*expected_lines(model, texts), ""]
        for batch_size in (1, 3, 32):
            answer(model, texts, batch_size=batch_size)
            assert capsys.readouterr().out.split("\n") == expected

    def test_no_sentences_give_no_lines(self, model, capsys):
        answer(model, [])
        assert capsys.readouterr() == ("", "")

    def test_cut_sentences_are_noted_once_by_their_numbers(self, model, capsys):
        answer(model, ["", LONG, "", LONG, "", "", LONG], batch_size=2)
        out, err = capsys.readouterr()
        assert out.count("\n") == 7
        are = "3 sentences, or their translations, were too long and cut off"
        assert err == f"note: {are}: lines 2, 4 and 7.\n"
        assert listed(range(1, 24), "line").endswith(", 19, 20 and 3 more")

    @pytest.mark.parametrize("count", [1, 2, HYPOTHESES])
    def test_nbest_gives_scores_and_translations_best_first(self, model, capsys, count):
        answer(model, [LINES[0], "", LINES[1]], nbest=count)
        first, empty, second, end = capsys.readouterr().out.split("\n\n")
        assert (empty.split("\t")[1], end) == ("", "")
        for text, block in zip(LINES, (first, second), strict=False):
            found = model.call("translate_nbest", text=[text])
            rows = [line.split("\t") for line in block.split("\n")]
            scores = [float(score) for score, _ in rows]
            np.testing.assert_allclose(scores, found["scores"][0, :count], atol=1e-3)
            assert scores == sorted(scores, reverse=True)
            texts = [words.spell(text) for text in found["translations"][0, :count]]
            assert [translation for _, translation in rows] == texts

    def test_more_hypotheses_than_there_are_are_counted(self, model, capsys):
        with pytest.raises(ValueError, match="at most 3.*received --nbest=5"):
            answer(model, LINES, nbest=5)
        assert capsys.readouterr().out == ""

    def test_a_line_break_in_a_translation_does_not_break_the_line(self):
        assert words.spell("a\r\nb\u2028ü".encode()) == "a  b\u2028ü"

    def test_batches_come_as_soon_as_they_are_full(self):
        given = iter("abcdefg")
        batches = words.batches(given, 3)
        assert next(batches) == ["a", "b", "c"]
        assert next(given) == "d"
        assert list(batches) == [["e", "f", "g"]]


class ScoreTest:
    def test_pairs_have_log_probabilities_and_what_is_no_pair_is_named(self, model, capsys):
        source, target = LINES[0], LINES[2]
        pairs = [f"{source}\t{target}", "", "no pair", f"{source}\t"]
        assert answer(model, pairs, scores_pairs=True) == 1
        out, err = capsys.readouterr()
        found = model.call("score", source=[source] * 2, target=[target, ""])
        first, second = (f"{value:.4f}" for value in found["log_probability"])
        assert out.splitlines() == [first, "", "", second]
        assert "one tab between them in line 3, received 0 tabs" in err


class PictureTest:
    def test_several_have_numbers_and_an_empty_one_has_a_note(self, model, tmp_path, capsys):
        texts = [LINES[0], "", *HARD]
        pictures = picture_paths("alignment", tmp_path / "a.png", len(texts))
        answer(model, texts, pictures, nbest=2, batch_size=2)
        drawn = {f"a-{i + 1}.png" for i in range(len(texts)) if texts[i]}
        assert set(os.listdir(tmp_path)) == drawn
        assert matplotlib.image.imread(pictures[0]).shape[1] > 100
        assert f"note: {tmp_path}/a-2.png is not drawn" in capsys.readouterr().err


class ModelTest:
    def test_the_highest_number_is_the_newest_version(self, exported):
        assert newest_version(exported) == exported / "10"
        assert newest_version(exported / "9") == exported / "9"

    def test_a_folder_without_a_model_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "newest").mkdir()
        (tmp_path / "newest" / "saved_model.pb").touch()  # no version: its name is no number
        for folder, message in [
            (tmp_path / "missing", "is no folder"),
            (tmp_path / "file", "is no folder"),
            (tmp_path, "holds no SavedModel"),
        ]:
            with pytest.raises(ValueError, match=message):
                Model(folder)

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ("garbage", "its saved_model.pb is damaged"),
            ("empty", "its saved_model.pb is empty"),
            ("variables", "."),
            ("shard", "."),
        ],
    )
    def test_a_broken_model_is_named(self, exported, tmp_path, broken, reason):
        folder = tmp_path / "1"
        shutil.copytree(exported / "10", folder)
        if broken == "variables":
            shutil.rmtree(folder / "variables")
        elif broken == "shard":
            (shard,) = (folder / "variables").glob("*.data-*")
            shard.write_bytes(shard.read_bytes()[:1009])
        else:
            (folder / "saved_model.pb").write_bytes(b"garbage" if broken == "garbage" else b"")
        with pytest.raises(ValueError, match=f"--model={folder} cannot be loaded: {reason}"):
            Model(folder)

    def test_a_model_of_another_kind_is_named(self, tmp_path):
        module = tf.Module()
        module.double = tf.function(
            lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec((), name="x")]
        )
        tf.saved_model.save(module, str(tmp_path), signatures={"double": module.double})
        with pytest.raises(ValueError, match=r"signatures \['translate'\], received \['double'\]"):
            Model(tmp_path).require("translate")

    def test_what_the_pipelines_export_reaches_nothing_else(self, exported):
        assert foreign_operation(read_saved_model(exported / "10")) is None


class InputTest:
    def test_lines_end_in_any_of_the_usual_ways(self, tmp_path):
        path = tmp_path / "lines.txt"
        path.write_bytes("\ufeffä b \r\n\n\u2028 c\x0b\nd".encode())
        found = words.sentences([], str(path), None, Faults())
        assert list(found) == ["ä b ", "", "\u2028 c\x0b", "d"]

    def test_a_line_that_is_not_utf8_is_named_and_the_others_go_on(self, tmp_path, capsys):
        path, faults = tmp_path / "lines.txt", Faults()
        path.write_bytes(b"fine\ncaf\xe9 noir\nfine\n\xe9\n")
        assert list(words.sentences([], str(path), None, faults)) == ["fine", "", "fine", ""]
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith(f"error: {path}, line 2 is not UTF-8") and "line 4" in second
        assert faults.exit_code == 1

    def test_arguments_are_utf8_too(self, capsys):
        arguments = ["Kühe", os.fsdecode(b"caf\xe9")]
        assert list(words.sentences(arguments, None, None, Faults())) == ["Kühe", ""]
        assert "argument 2 is not UTF-8" in capsys.readouterr().err

    def test_arguments_and_a_file_contradict_each_other(self, tmp_path):
        with pytest.raises(ValueError, match="received both"):
            words.sentences(["a"], "file.txt", None, Faults())

    def test_a_missing_file_is_one_clear_sentence(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            words.sentences([], str(tmp_path / "none.txt"), None, Faults())
        assert sentence(caught.value) == f"{tmp_path}/none.txt: No such file or directory"


class ProgramTest:
    """Each of these starts the program, which takes seconds: few, and much in each."""

    def test_standard_input_is_answered_batch_by_batch_past_a_bad_line(self, exported, model):
        lines = [LINES[3], "", LINES[0]]
        # Latin 1 would stop it, were standard output not always UTF-8.
        with start(f"--model={exported}", "--batch_size=1", PYTHONIOENCODING="latin-1") as process:
            for line, answer in zip(lines, expected_lines(model, lines), strict=True):
                process.stdin.write(f"{line}\n".encode())
                process.stdin.flush()
                assert process.stdout.readline().decode() == f"{answer}\n"
            out, err = process.communicate(f"caf\xe9\n{LINES[1]}\n".encode("latin-1"))
        assert process.returncode == 1
        assert out.decode().splitlines() == expected_lines(model, ["", LINES[1]])
        error, _, rest = err.decode().partition("\n")
        assert error.startswith("error: standard input, line 4 is not UTF-8")
        assert rest == notes(model, [*lines, "", LINES[1]], "line")

    @pytest.mark.parametrize(("end", "code"), [("pipe", 141), ("interrupt", 130)])
    def test_a_closed_pipe_and_an_interrupt_end_it_quietly(self, exported, tmp_path, end, code):
        command = ["predict", f"--model={exported}", "--batch_size=1"]
        given, typed, answers, printed = (
            os.fdopen(descriptor, mode, 0)
            for descriptor, mode in zip(os.pipe() + os.pipe(), ("rb", "wb") * 2, strict=True)
        )
        with typed, answers, (tmp_path / "errors").open("wb") as errors:
            with given, printed:
                process = programs.Program(command, printed, errors, given=given)
            typed.write(b"\n")
            assert answers.readline() == b"\n"
            if end == "pipe":
                answers.close()
                typed.write(b"\n" * 5)
                typed.close()
            else:
                process.send_signal(signal.SIGINT)
            assert process.wait(60) == code
        assert (tmp_path / "errors").read_bytes() == b""

    def test_arguments_have_a_translation_and_a_picture_each(self, exported, model, tmp_path):
        picture = tmp_path / "a.png"
        command = ["predict", f"--model={exported}", *LINES[:2], f"--alignment={picture}"]
        (done,) = programs.run(command)
        assert (done.returncode, done.stderr) == (0, notes(model, LINES[:2], "argument"))
        assert done.stdout.split("\n") == [*expected_lines(model, LINES[:2]), ""]
        assert sorted(os.listdir(tmp_path)) == ["a-1.png", "a-2.png"]

    def test_a_flag_that_cannot_be_right_is_named(self, tmp_path):
        (done,) = programs.run(["predict", f"--model={tmp_path}", "--nbest=0", "a"])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[0].startswith("error: flag --nbest=0: ")
