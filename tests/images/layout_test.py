"""Tests of finding out how a folder of pictures is laid out."""

import pytest

from pipelines.images.layout import find_layout
from tests import own_pictures

SHARES = {"validation": "10%", "test": "10%"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["cat/1.png", "dog/2.png", "notes.csv"], {"format": "folder", "train": ".", **SHARES}),
        (
            ["in/a zip/cat/1.png", "in/a zip/dog/2.png", "__MACOSX/in/._1.png", "in/.DS_Store"],
            {"format": "folder", "train": "in/a zip/", **SHARES},
        ),
        (
            ["Train/cat/1.png", "valid/cat/2.png", "testing/cat/3.png"],
            {"format": "folder", "train": "Train", "validation": "valid", "test": "testing"},
        ),
        (
            ["data/training/cat/1.png", "data/test/cat/3.png"],
            {
                "format": "folder",
                "train": "data/training",
                "validation": "10%",
                "test": "data/test",
            },
        ),
        (["images/1.png", "labels.csv"], {"format": "csv", "train": "labels.csv", **SHARES}),
        (
            ["all/1.png", "train.csv", "val.tsv", "other.csv"],
            {"format": "csv", "train": "train.csv", "validation": "val.tsv", "test": "10%"},
        ),
    ],
)
def test_the_usual_ones_are_found(tmp_path, files, expected):
    rows = {"labels.csv": b"a.png,cat\n", "notes.csv": b"day,weather\nmonday,rain\n"}
    own_pictures.write(
        tmp_path, {name: rows.get(name, b"path,label\na.png,cat\n") for name in files}
    )
    assert find_layout(str(tmp_path)) == expected


@pytest.mark.parametrize(
    ("files", "folder", "words"),
    [
        (
            [],
            "absent",
            "the folder of your pictures, received data.folder='.*absent', which does not",
        ),
        (["a.csv"], "a.csv", "which is a file"),
        (["1.png", "2.png"], "", "a folder for each class in .*, or a table .*received neither"),
        (["train/1.png", "test/2.png"], "", "a folder for each class in .*/train, received none"),
    ],
)
def test_what_is_none_is_one_sentence(tmp_path, files, folder, words):
    own_pictures.write(tmp_path, dict.fromkeys(files, b""))
    with pytest.raises(ValueError, match=words):
        find_layout(str(tmp_path / folder))
