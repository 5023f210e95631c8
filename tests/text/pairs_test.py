"""Tests of reading sentence pairs: every format, and every way to get it wrong."""

import bz2
import gzip
import json
import lzma
import re
import subprocess
import sys

import ml_collections
import pytest

from pipelines.demo_corpus import corpus
from pipelines.text.pairs import read_corpora, read_pairs
from tests import own_words

SOURCE = ["ein Hund", "zwei\u2028Vögel\x85", "", "drei\u000bKatzen", "שלום 👩‍👩‍👧"]
TARGET = ["a dog", "two birds", "nothing", "three cats", "hello"]
PAIRS = list(zip(SOURCE, TARGET, strict=True))


def files(folder, **keys):
    names = {"train": ("a.de", "a.en"), "folder": str(folder)}
    return ml_collections.ConfigDict({"format": "files", **names, **keys})


def tsv(folder, **keys):
    names = {"train": "a.tsv", "folder": str(folder), "columns": (0, 1)}
    return ml_collections.ConfigDict({"format": "tsv", **names, **keys})


class FilesTest:
    def write(self, folder, source, target):
        (folder / "a.de").write_bytes(source)
        (folder / "a.en").write_bytes(target)

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    @pytest.mark.parametrize("last", ["", "newline"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_line_ends_and_byte_order_marks_are_no_text(self, tmp_path, newline, last, mark):
        sides = [
            (mark + newline.join(side) + last.replace("newline", newline)).encode()
            for side in (SOURCE, TARGET)
        ]
        self.write(tmp_path, *sides)
        assert read_pairs(files(tmp_path), "train") == PAIRS

    @pytest.mark.parametrize("module", [gzip, lzma, bz2])
    def test_packed_files_are_read(self, tmp_path, module):
        suffix = {gzip: ".gz", lzma: ".xz", bz2: ".BZ2"}[module]
        names = (f"b.de{suffix}", f"b.en{suffix}")
        for name, side in zip(names, (SOURCE, TARGET), strict=True):
            (tmp_path / name).write_bytes(module.compress("\n".join(side).encode()))
        assert read_pairs(files(tmp_path, test=names), "test") == PAIRS
        (tmp_path / names[0]).write_bytes(b"not packed at all")
        with pytest.raises(ValueError, match=f"Cannot read path='.*{names[0]}'"):
            read_pairs(files(tmp_path, test=names), "test")

    def test_files_that_are_packed_otherwise_are_refused(self, tmp_path):
        self.write(tmp_path, b"eins", b"one")
        with pytest.raises(ValueError, match=r"\.gz, \.xz, \.bz2.*b\.de\.zst': unpack"):
            read_pairs(files(tmp_path, test=("b.de.zst", "a.en")), "test")

    @pytest.mark.parametrize(
        "names", ["a.de,a.en,b.de, b.en", (("a.de", "a.en"), ("b.de", "b.en")), "nested"]
    )
    def test_several_corpora_are_read_in_turn(self, tmp_path, names):
        self.write(tmp_path, b"1\n2\n", b"one\ntwo\n")
        (tmp_path / "b.de").write_text("3")
        (tmp_path / "b.en").write_text("three")
        names = [["a.de", "a.en"], ["b.de", "b.en"]] if names == "nested" else names
        data = files(tmp_path, train=names)
        assert read_corpora(data, "train") == [[("1", "one"), ("2", "two")], [("3", "three")]]
        assert read_pairs(data, "train") == [("1", "one"), ("2", "two"), ("3", "three")]

    def test_variables_and_home_are_expanded(self, tmp_path, monkeypatch):
        self.write(tmp_path, b"eins", b"one")
        monkeypatch.setenv("KERASFORMER_TEST_DATA", str(tmp_path.parent))
        monkeypatch.setenv("HOME", str(tmp_path.parent))
        for folder in ("$KERASFORMER_TEST_DATA", "${KERASFORMER_TEST_DATA}", "~"):
            data = files(f"{folder}/{tmp_path.name}")
            assert read_pairs(data, "train") == [("eins", "one")]

    def test_an_unset_variable_is_named(self):
        with pytest.raises(ValueError, match="variable KERASFORMER_UNSET to be set"):
            read_pairs(files("$KERASFORMER_UNSET/text"), "train")

    def test_a_missing_file_is_named(self, tmp_path):
        (tmp_path / "a.de").write_text("eins")
        with pytest.raises(ValueError, match=r"a\.en'.*No such file"):
            read_pairs(files(tmp_path), "train")

    def test_a_folder_in_place_of_a_file_is_named(self, tmp_path):
        (tmp_path / "a.de").mkdir()
        with pytest.raises(ValueError, match=r"a\.de'.*directory"):
            read_pairs(files(tmp_path), "train")

    def test_unequal_lengths_name_both_files_and_counts(self, tmp_path):
        self.write(tmp_path, b"1\n2\n3\n", b"1\n2\n\n\n\n")
        with pytest.raises(ValueError, match=r"3 in \S+a\.de and 5 in \S+a\.en: .* of \S+a\.en"):
            read_pairs(files(tmp_path), "train")

    @pytest.mark.parametrize("line", [0, 70, 146])
    @pytest.mark.parametrize("side", [0, 1])
    def test_where_files_go_out_of_step_is_about_where_a_line_is_too_many(
        self, tmp_path, line, side
    ):
        sides = [list(x) for x in zip(*corpus.splits()["train"][:147], strict=True)]
        sides[side].insert(line, "A line that nobody has translated until today")
        self.write(tmp_path, *("\n".join(x).encode() for x in sides))
        with pytest.raises(ValueError, match="out of step") as error:
            read_pairs(files(tmp_path), "train")
        guess = int(re.search(r"about line (\d+) on", str(error.value))[1])
        assert abs(guess - (line + 1)) <= 3

    @pytest.mark.parametrize("broken", [b"caf\xe9", b"\xed\xa0\x80", b"\xc3"])
    def test_bytes_that_are_not_utf8_are_named_with_their_line(self, tmp_path, broken):
        self.write(tmp_path, b"1\n2\n3\n", b"1\n2\n" + broken + b"\n")
        with pytest.raises(ValueError, match=r"a\.en line 3"):
            read_pairs(files(tmp_path), "train")

    def test_another_encoding_is_found_at_the_first_line(self, tmp_path):
        self.write(tmp_path, "eins\n".encode("utf-16"), b"one\n")
        with pytest.raises(ValueError, match=r"a\.de line 1"):
            read_pairs(files(tmp_path), "train")

    def test_empty_files_are_refused(self, tmp_path):
        self.write(tmp_path, b"", b"")
        with pytest.raises(ValueError, match=r"split='train'.*received none.*a\.de"):
            read_pairs(files(tmp_path), "train")

    def test_a_split_without_files_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="data.validation"):
            read_pairs(files(tmp_path), "validation")

    @pytest.mark.parametrize("names", [7, ("a.de", 7), [[]], " ,a.en"])
    def test_what_names_no_files_is_refused(self, tmp_path, names):
        with pytest.raises(ValueError, match="data.test to name files"):
            read_pairs(files(tmp_path, test=names), "test")

    @pytest.mark.parametrize("names", ["a.de", ("a.de",), ("a.de", "a.en", "a.fr")])
    def test_other_than_two_files_are_refused(self, tmp_path, names):
        with pytest.raises(ValueError, match="source file, target file"):
            read_pairs(files(tmp_path, test=names), "test")


class HeldOutTest:
    def test_splits_that_are_not_there_are_cut_from_training(self, tmp_path):
        own_words.arabic(tmp_path)
        names = {"train": "pairs.tsv", "columns": (1, 2), "held_out": 11, "test": None}
        data = tsv(tmp_path, **names)
        parts = {split: set(read_pairs(data, split)) for split in ("train", "validation", "test")}
        assert [len(pairs) for pairs in parts.values()] == [147 - 22, 11, 11]
        assert len(set().union(*parts.values())) == 147
        lines = (tmp_path / "pairs.tsv").read_text().splitlines()
        twice = [*lines[::-1], lines[0], "7\t\tno source", *lines]
        (tmp_path / "pairs.tsv").write_text("\n".join(twice))
        assert set(read_pairs(data, "test")) == parts["test"]
        assert len(read_pairs(data, "validation")) == 11  # Each pair once.
        (tmp_path / "mine.tsv").write_text("1\teins\tone\n")
        data.test = "mine.tsv"
        assert read_pairs(data, "test") == [("eins", "one")]
        assert set(read_pairs(data, "train")) == parts["train"] | parts["test"] | {
            ("", "no source")
        }


class TsvTest:
    @pytest.mark.parametrize("names", ["a.tsv,b.tsv", ("a.tsv", "b.tsv"), ["a.tsv", "b.tsv"]])
    @pytest.mark.parametrize("columns", [("de", "en"), ["de", "en"], "de,en"])
    def test_several_tables_are_read_by_the_names_of_columns(self, tmp_path, names, columns):
        (tmp_path / "a.tsv").write_text("en\tde\none\teins\n")
        (tmp_path / "b.tsv").write_text("de\ten\nzwei\ttwo\n")
        data = tsv(tmp_path, train=names, columns=columns)
        assert read_corpora(data, "train") == [[("eins", "one")], [("zwei", "two")]]

    def test_a_name_with_a_comma_is_that_of_a_file_that_is_there(self, tmp_path):
        (tmp_path / "a,b.tsv").write_text("eins\tone\n")
        assert read_pairs(tsv(tmp_path, train="a,b.tsv", columns="0,1"), "train") == [
            ("eins", "one")
        ]

    def test_the_folder_may_be_the_table_itself(self, tmp_path):
        (tmp_path / "a.tsv").write_text("eins\tone\n")
        assert read_pairs(tsv(tmp_path / "a.tsv"), "train") == [("eins", "one")]

    def test_columns_are_chosen_by_number(self, tmp_path):
        lines = [f"{i}\t{target}\t{source}" for i, (source, target) in enumerate(PAIRS)]
        (tmp_path / "a.tsv").write_bytes("\r\n".join(lines).encode())
        assert read_pairs(tsv(tmp_path, columns=(2, 1)), "train") == PAIRS

    @pytest.mark.parametrize("columns, line", [((0, 2), 1), ((0, 1), 2), ((-1, 0), 1)])
    def test_a_missing_column_is_named_with_file_and_line(self, tmp_path, columns, line):
        (tmp_path / "a.tsv").write_text("eins\tone\nzwei\n")
        with pytest.raises(ValueError, match=rf"a\.tsv line {line}"):
            read_pairs(tsv(tmp_path, columns=columns), "train")

    def test_other_than_two_columns_are_refused(self, tmp_path):
        (tmp_path / "a.tsv").write_text("eins\tone\n")
        with pytest.raises(ValueError, match="data.columns"):
            read_pairs(tsv(tmp_path, columns=(0, 1, 2)), "train")


class EmbeddedTest:
    def test_the_embedded_corpus_needs_nothing(self):
        data = ml_collections.ConfigDict({"format": "embedded"})
        pairs = read_pairs(data, "test")
        assert pairs == [tuple(pair) for pair in corpus.splits()["test"]]
        assert all(isinstance(text, str) and text for pair in pairs for text in pair)

    def test_an_unknown_split_is_named(self):
        with pytest.raises(ValueError, match="split='dev'"):
            read_pairs(ml_collections.ConfigDict({"format": "embedded"}), "dev")


class FormatTest:
    @pytest.mark.parametrize("name", ["xlsx", None, ""])
    def test_an_unknown_format_is_refused(self, name):
        with pytest.raises(ValueError, match="data.format"):
            read_pairs(ml_collections.ConfigDict({"format": name}), "train")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares a tiny dataset of TFDS in another process, in three versions."""
    folder = tmp_path_factory.mktemp("tfds")
    program = (
        "import json, sys, tensorflow as tf, tensorflow_datasets as tfds\n"
        "pairs = json.load(sys.stdin)\n"
        "for version in ('1.0.0', '1.10.0', '1.9.0'):\n"
        "    sides = {'pt': [p[0] + ' ' + version for p in pairs], 'en': [p[1] for p in pairs]}\n"
        "    tfds.dataset_builders.store_as_tfds_dataset(\n"
        "        name='tiny_translate', config='pt_to_en', version=version,\n"
        "        data_dir=sys.argv[1], features=tfds.features.Translation(('pt', 'en')),\n"
        "        split_datasets={'train': tf.data.Dataset.from_tensor_slices(sides)},\n"
        "        disable_shuffling=True)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        input=json.dumps(PAIRS),
        text=True,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.integration
class TfdsTest:
    def data(self, folder, **keys):
        return ml_collections.ConfigDict(
            {
                "format": "tfds",
                "name": "tiny_translate/pt_to_en",
                "data_dir": str(folder),
                "languages": ("pt", "en"),
                "train": "train",
                **keys,
            }
        )

    def test_the_newest_prepared_version_is_read_without_its_code(self, prepared):
        pairs = read_pairs(self.data(prepared), "train")
        assert pairs == [(f"{source} 1.10.0", target) for source, target in PAIRS]

    def test_the_version_the_languages_and_a_part_of_a_split_can_be_chosen(self, prepared):
        keys = {
            "name": "tiny_translate/pt_to_en/1.9.0",
            "languages": ("en", "pt"),
            "train": "train[1:3]",
        }
        pairs = read_pairs(self.data(prepared, **keys), "train")
        assert pairs == [(target, f"{source} 1.9.0") for source, target in PAIRS[1:3]]

    @pytest.mark.parametrize(
        "keys, words",
        [
            ({"languages": ("pt", "de")}, r"'pt', 'de'.*features \('en', 'pt'\)"),
            ({"train": "dev"}, "split 'dev'"),
            ({"name": "absent_translate/de_to_en"}, "absent_translate/de_to_en"),
            ({"languages": ("pt",)}, "data.languages"),
            ({"data_dir": "$KERASFORMER_UNSET"}, "KERASFORMER_UNSET"),
        ],
    )
    def test_what_is_not_there_is_named(self, prepared, keys, words):
        with pytest.raises(ValueError, match=words) as error:
            read_pairs(self.data(prepared, download=False, **keys), "train")
        assert "\n" not in str(error.value)

    def test_without_tfds_the_error_names_the_pip_line(self, prepared, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(ImportError, match=r'pip install "kerasformer\[pipelines\]"'):
            read_pairs(self.data(prepared), "train")
