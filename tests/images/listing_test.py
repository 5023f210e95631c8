"""Tests of finding pictures in folders and tables, and of what lies between them."""

import numpy as np
import pytest
from PIL import Image

from pipelines.images.labelled import read_images, read_splits
from tests import own_pictures
from tests.images.samples import PIXELS, config

RANDOM = np.random.default_rng(0)


class CsvTest:
    def write(self, folder, text, count=6):
        (folder / "pictures").mkdir()
        for number in range(count):
            Image.fromarray(PIXELS[number]).save(folder / "pictures" / f"{number}.png")
        (folder / "a.csv").write_bytes(text.encode("utf-8-sig"))

    def read(self, folder, split="train", **keys):
        return read_images(config("csv", folder, **{"train": "a.csv", **keys}), split)

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("header", ["Label,Filename,Note\r\n", ""])
    def test_a_spreadsheet_gives_paths_and_labels(self, tmp_path, delimiter, header):
        rows = [f"{'bee' if i % 2 else 'ant'},pictures\\{i}.png,x\r\n" for i in range(6)]
        if not header:
            rows = [",".join(row.split(",")[1::-1]) + "\r\n" for row in rows]
        self.write(tmp_path, (header + "".join(rows) + "\r\n").replace(",", delimiter))
        images = self.read(tmp_path)
        np.testing.assert_array_equal(images.pixels, PIXELS[:6])
        assert images.class_names == ("ant", "bee") and images.labels.tolist() == [0, 1] * 3
        assert images.name(3) == "pictures/3.png" and len(set(images.digests)) == 6
        counts = [
            len(self.read(tmp_path, s, validation="30%").labels) for s in ("train", "validation")
        ]
        assert counts == [4, 2]

    @pytest.mark.parametrize(
        "text, names",
        [
            (
                "image,labels\npictures/0.png,cat|ant\npictures/1.png,\npictures/2.png,cat\n",
                "ant cat",
            ),
            (
                "image,cat,ant\npictures/0.png,1,1\npictures/1.png,0,0\npictures/2.png,1,0\n",
                "cat ant",
            ),
        ],
    )
    def test_an_image_may_have_several_labels(self, tmp_path, text, names):
        self.write(tmp_path, text)
        images = self.read(tmp_path, labels="multi")
        assert images.class_names == tuple(names.split())
        expected = {"cat": [1, 0, 1], "ant": [1, 0, 0]}
        np.testing.assert_array_equal(images.labels.T, [expected[n] for n in names.split()])
        some = self.read(tmp_path, labels="multi", classes=("ant",))
        assert some.labels.tolist() == [[1], [0], [0]]
        assert len(self.read(tmp_path, "test", labels="multi", test="34%").labels) == 1

    @pytest.mark.parametrize(
        "text, words",
        [
            ("", "rows of a path and a label in .*received none"),
            ("path,label\n", "received a header alone"),
            ("photo,animal\n0.png,cat\n", "column of path, .*received photo, animal"),
            ("path,label\npictures/0.png,cat\npictures/1.png\n", r"line 3, received \['pictures"),
            (
                "path,label\npictures/0.png,cat\npictures/1.png,\n",
                "a label in .*line 3, received none",
            ),
            ("pictures/0.png,cat\npictures/9.png,dog\n", r"9.png .No such file"),
            ("pictures/0.png,cat\npictures/1.png,cat\n", "two classes, received 'cat' alone"),
        ],
    )
    def test_what_is_no_such_table_is_one_sentence(self, tmp_path, text, words):
        self.write(tmp_path, text)
        with pytest.raises(ValueError, match=words):
            self.read(tmp_path)

    def test_tables_of_other_kinds_or_classes_are_refused(self, tmp_path):
        self.write(tmp_path, "pictures/0.png,cat\npictures/1.png,dog\n")
        (tmp_path / "b.csv").write_text("pictures/0.png,cat\npictures/1.png,eel\n")
        with pytest.raises(
            ValueError, match="classes of data.train in .*b.csv, received 'eel' in line 2"
        ):
            self.read(tmp_path, "test", test="b.csv")
        (tmp_path / "b.csv").write_text("path,cat,dog\npictures/0.png,1,2\n")
        with pytest.raises(ValueError, match="0 or 1 for each class in .*line 2, received 1, 2"):
            self.read(tmp_path, train="b.csv", labels="multi")
        (tmp_path / "b.csv").write_bytes("größe.png,ä\n".encode("latin-1"))
        with pytest.raises(ValueError, match="Expected UTF-8 text"):
            self.read(tmp_path, train="b.csv")
        with pytest.raises(
            ValueError, match="data.labels to be \"one\".*received data.labels='two'"
        ):
            self.read(tmp_path, labels="two")


class StrayTest:
    def test_stray_files_of_a_mac_and_of_windows_are_counted_and_left_out(self, tmp_path, capsys):
        for number in range(10):
            image = own_pictures.encoded(Image.fromarray(PIXELS[number]), "PNG")
            own_pictures.write(tmp_path, {f"all/{('ant', 'bee')[number % 2]}/{number}.png": image})
        stray = ["all/ant/Thumbs.db", "all/bee/desktop.ini", "all/bee/Thumbs.db", "all/.DS_Store"]
        stray += ["all/readme.txt", "all/__MACOSX/ant/._0.png", "all/ant/._0.png", "all/bee/a.TXT"]
        for name in stray:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("no picture")
        data = config("folder", tmp_path, train="all", validation="20%")
        splits = read_splits(data, ("train", "validation"))
        assert {i.class_names for i in splits.values()} == {("ant", "bee")}
        assert sum(len(i.labels) for i in splits.values()) == 10
        said = capsys.readouterr().out
        assert said.startswith("Left out 8 files that are no pictures: Thumbs.db (2), ")
        assert said.count("\n") == 1
