"""A run becomes a folder for CTranslate2 that programs use, or a sentence says why not."""

import re
import shutil
import subprocess
import sys

import pytest

from pipelines.tasks import translation
from pipelines.tasks.translation.ctranslate2_folder import difference, write_files
from tests import ROOT, programs
from tests.exported import exports

STORED = ROOT / "tests" / "stored" / "0.1.0"
SENTENCES = ["zwei Hunde", "", "drei Katzen und 😀"]


@pytest.fixture
def folder(tmp_path):
    """A folder with a run and its pairs, that the programs are started in."""
    return shutil.copytree(STORED, tmp_path / "stored", ignore=lambda *_: ["answers.json"])


class CheckTest:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("model.name", "recurrent"),
            ("decode.temperature", 0.5),
            ("decode.min_length", 3),
            ("decode.no_repeat_ngram", 2),
        ],
    )
    def test_what_ctranslate2_does_otherwise_is_named(self, key, value, tmp_path):
        config = translation.default_config()
        config.update_from_flattened_dict({key: value})
        with pytest.raises(ValueError, match=f"received {key}={value!r}"):
            translation.write_ctranslate2(None, config, tmp_path, "float32")

    def test_a_folder_of_other_weights_is_refused(self, tmp_path):
        module, other = exports.make_translator(), exports.make_translator()
        for variable in other.model.trainable_variables:
            variable.assign(variable * 1.01)
        decode = translation.default_config().decode
        pairs = [(line, exports.LINES[0]) for line in exports.LINES]
        write_files(other, decode, tmp_path)
        with pytest.raises(ValueError, match="CTranslate2 gives another log_probability"):
            difference(module, tmp_path, pairs)


@pytest.mark.integration
class ProgramsTest:
    def test_an_export_in_int8_translates_scores_and_gives_several(self, folder):
        (folder / "lines.txt").write_text("\n".join(SENTENCES) + "\n", "utf-8")
        (exported,) = programs.run(
            ["export", "--workdir=run", "--format=ctranslate2", "--quantization=int8"],
            folder=folder,
        )
        assert exported.returncode == 0, exported.stderr
        path = folder / "run" / "export_ctranslate2" / "1"
        assert sorted(x.name for x in path.iterdir()) == [
            *("README.md", "config.json", "decode.json", "model.bin"),
            *("shared_vocabulary.json", "tokenizer.model"),
        ]
        card = (path / "README.md").read_text().splitlines()
        assert card[0].startswith("# translation: CTranslate2, in int8, whose float32 is within ")
        assert any(line.startswith("Beam search with 2 beams") for line in card)
        assert "## Signatures" not in card
        model = "--model=run/export_ctranslate2"
        flags = ["--file=lines.txt", "--nbest=2"]
        of_run, found = programs.run(
            ["predict", "--model=run", *flags], ["predict", model, *flags], folder=folder
        )
        assert found.returncode == 0, found.stderr
        texts = [re.sub(r"-?\d+\.\d+", "", done.stdout) for done in (of_run, found)]
        assert texts[0] == texts[1] and "a dog" in texts[0]
        scored, aligned = programs.run(
            ["predict", model, "--score", "zwei Hunde", "two dogs"],
            ["predict", model, "--alignment=x.png", "zwei Hunde"],
            folder=folder,
        )
        assert float(scored.stdout) < 0
        assert aligned.returncode == 1 and "expected signatures ['align']" in aligned.stderr

    def test_a_process_with_ctranslate2_alone_translates_by_the_code_of_the_docs(self, folder):
        whole = "--max_source_length=53"
        exported, expected = programs.run(
            ["export", "--workdir=run", "--format=ctranslate2", whole],
            ["predict", "--model=run", whole, *SENTENCES],
            folder=folder,
        )
        assert exported.returncode == 0, exported.stderr
        text = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
        code = re.search(r"^# translate_fast\.py\n.*?(?=^```$)", text, re.MULTILINE | re.DOTALL)[0]
        code += "\nassert 'tensorflow' not in sys.modules\n"
        path = folder / "run" / "export_ctranslate2" / "1"
        command = [sys.executable, "-c", code, str(path), *SENTENCES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout == expected.stdout

    def test_what_cannot_be_is_one_sentence_and_leaves_no_folder(self, folder):
        wrong = programs.run(
            ["export", "--workdir=run", "--format=ctranslate2", "--min_length=3"],
            ["export", "--workdir=run", "--quantization=int8"],
            ["predict", "--model=run/foreign", "ein Hund"],
            folder=folder,
        )
        sentences = ["received decode.min_length=3", "received quantization='int8'"]
        (folder / "run" / "foreign").mkdir()
        (folder / "run" / "foreign" / "model.bin").write_bytes(b"of another tool")
        wrong += programs.run(["predict", "--model=run/foreign", "ein Hund"], folder=folder)
        sentences += ["run/foreign is no folder", "CTranslate2 from 'run/foreign': "]
        for done, sentence in zip(wrong, sentences, strict=True):
            assert done.returncode == 1 and sentence in done.stderr
            assert done.stderr.count("\n") == 1, done.stderr
        assert not list((folder / "run").glob("export*"))
