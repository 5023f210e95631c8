"""Tests of understanding a folder by the names of its files."""

import gzip

import pytest
from ml_collections import ConfigDict

from pipelines.text.folder import find_pairs
from pipelines.text.pairs import read_pairs
from tests import own_words


def write(folder, *names, text="one\n"):
    for name in names:
        packed = text.encode() if not name.endswith(".gz") else gzip.compress(text.encode())
        (folder / name).write_bytes(packed)


def found(folder, languages=()):
    """Returns what is found, without what is not."""
    return {key: value for key, value in find_pairs(str(folder), languages).items() if value}


class FilesTest:
    @pytest.mark.parametrize(
        ("pattern", "validation"),
        [
            ("{split}.{language}", "validation"),
            ("{split}.{language}.txt", "valid"),
            ("{split}.en-de.{language}.gz", "val"),
            ("{split}_{language}.txt", "dev"),
            ("{language}-{split}.txt", "dev"),
            ("news.{split}.tok.{language}", "dev2010"),
        ],
    )
    def test_splits_and_languages_are_told_by_the_names(self, tmp_path, pattern, validation):
        names = {
            split: tuple(pattern.format(split=word, language=name) for name in ("de", "en"))
            for split, word in (("train", "train"), ("validation", validation), ("test", "test"))
        }
        write(tmp_path, *sum(names.values(), ()), "README.md", ".hidden.en", "LICENSE", "a.json")
        assert found(tmp_path) == {"format": "files", **names, "languages": ("de", "en")}

    def test_given_languages_decide_the_direction_and_which_files_count(self, tmp_path):
        write(tmp_path, "train.en", "train.de", "train.fr", "test_2016.de", "test_2016.fr")
        assert found(tmp_path, ("fr", "de")) == {
            "format": "files",
            "train": ("train.fr", "train.de"),
            "test": ("test_2016.fr", "test_2016.de"),
            "languages": ("fr", "de"),
        }
        with pytest.raises(ValueError, match=r"two languages.*files of de, en, fr and .*=\(\)"):
            find_pairs(str(tmp_path))

    def test_files_of_no_split_are_for_training_and_may_be_several_corpora(self, tmp_path):
        write(tmp_path, "web.en", "web.de", "books.en", "books.de", "test.en", "test.de")
        assert found(tmp_path)["train"] == (("books.de", "books.en"), ("web.de", "web.en"))
        write(tmp_path, "train.en", "train.de")
        assert found(tmp_path)["train"] == ("train.de", "train.en")

    @pytest.mark.parametrize(
        ("ends", "given", "direction", "named"),
        [
            (("tgt", "src"), (), ("src", "tgt"), ()),
            (("trg", "src"), ("en", "zh"), ("src", "trg"), ("en", "zh")),
            (("mine", "en"), (), ("en", "mine"), ()),
            (("eng", "deu"), (), ("deu", "eng"), ("deu", "eng")),
        ],
    )
    def test_ends_that_name_no_language_are_not_noted_as_one(
        self, tmp_path, ends, given, direction, named
    ):
        write(tmp_path, *(f"train.{end}" for end in ends))
        data = find_pairs(str(tmp_path), given)
        assert data["train"] == tuple(f"train.{end}" for end in direction)
        assert data["languages"] == named

    def test_files_named_source_and_target_are_pairs_in_this_direction(self, tmp_path):
        write(tmp_path, "target.txt", "source.txt")
        assert found(tmp_path) == {"format": "files", "train": ("source.txt", "target.txt")}

    @pytest.mark.parametrize(
        ("names", "sentence"),
        [
            ((), r"received \[\] and"),
            (("train.en", "a.xlsx"), r"received \['a.xlsx', 'train.en'\] and"),
            (("train.en", "train.de", "test.en"), "'de' for each.*none beside test.en"),
        ],
    )
    def test_what_is_missing_is_named(self, tmp_path, names, sentence):
        write(tmp_path, *names)
        with pytest.raises(ValueError, match=sentence):
            find_pairs(str(tmp_path))

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="data.folder='.*/absent'"):
            find_pairs(f"{tmp_path}/absent")


class TablesTest:
    @pytest.mark.parametrize(
        ("header", "languages", "columns", "named"),
        [
            ("id\ten\tde", (), ("en", "de"), ("en", "de")),
            ("id\ten\tde", ("EN", "de"), ("en", "de"), ("EN", "de")),
            ("Target\tSource", (), ("Source", "Target"), ()),
            ("src\ttgt", ("en", "zh"), ("src", "tgt"), ("en", "zh")),
            ("1\tone dog\tein Hund", (), (1, 2), ()),
            ("one dog\tein Hund\tCC-BY", ("en", "de"), (0, 1), ("en", "de")),
        ],
    )
    def test_columns_are_told_by_the_first_lines(self, tmp_path, header, languages, columns, named):
        write(tmp_path, "a.tsv", text=header + "\n2\ttwo dogs\tzwei Hunde\n" * (columns == (1, 2)))
        expected = {"format": "tsv", "train": "a.tsv", "columns": columns, "languages": named}
        assert found(tmp_path, languages) == {k: value for k, value in expected.items() if value}

    @pytest.mark.parametrize(
        ("names", "text", "sentence"),
        [
            (("a.tsv",), "en\tde\tfr\n", "two of the columns en, de, fr"),
            (("a.tsv",), "1\t2\n", "two columns with sentences"),
            (("a.tsv",), "", "two columns with sentences"),
            (("a.tsv", "b.csv"), "a\tb\n", "one kind.*a.tsv, b.csv"),
        ],
    )
    def test_what_cannot_be_told_is_named(self, tmp_path, names, text, sentence):
        write(tmp_path, *names, text=text)
        with pytest.raises(ValueError, match=sentence):
            find_pairs(str(tmp_path))

    def test_one_file_with_tabs_is_a_table_whatever_its_name(self, tmp_path):
        write(tmp_path, "deu.txt.gz", text="Go.\tGeh.\tby me\nHi.\tHallo.\tby you\n")
        expected = {"format": "tsv", "train": "deu.txt.gz", "columns": (0, 1)}
        assert found(tmp_path) == found(tmp_path / "deu.txt.gz") == expected


@pytest.mark.parametrize("kind", own_words.KINDS, ids=lambda kind: kind.__name__)
def test_words_as_people_have_them_are_found_and_read_whole(tmp_path, kind):
    pairs = kind(tmp_path)
    data = find_pairs(str(tmp_path))
    splits = [split for split in ("train", "validation", "test") if data[split]]
    config = ConfigDict({**data, "folder": str(tmp_path)})
    read = [pair for split in splits for pair in read_pairs(config, split)]
    assert sorted(read) == sorted(pairs)
