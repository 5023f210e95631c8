"""Files of rows: what is written is what the csv and json modules read."""

import csv
import json

import pytest

from pipelines.data.row_files import read_rows, require_writable, write_rows

ROWS = [
    {"source": 'a "b"\tc', "score": -0.5, "prediction": "ä\r\nb"},
    {"source": "d, e", "score": 7, "prediction": ""},
]


class ReadRowsTest:
    @pytest.mark.parametrize(
        ("format", "text", "numbers"),
        [
            ("tsv", "a\tb\n\n \t\nc\td\n\n", [1, 4]),
            ("csv", "\na;b\n;\nc;d\n  \n", [2, 4]),
            ("csv", "sep=;\r\na;b\r\n\r\nc;d\r\n", [2, 4]),
            ("csv", "Sep=\t\na\tb\nc\td\n", [2, 3]),
        ],
    )
    def test_blank_lines_and_a_told_delimiter_are_left_out(self, tmp_path, format, text, numbers):
        (tmp_path / "a").write_text(text, newline="")
        found = list(read_rows(str(tmp_path / "a"), format))
        assert found == list(zip(numbers, (["a", "b"], ["c", "d"]), strict=True))


class RowFileTest:
    def test_csv_has_a_header_and_quotes_what_needs_it(self, tmp_path):
        path = tmp_path / "rows.CSV"
        write_rows(str(path), ROWS, "prediction")
        with open(path, encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        assert found == [{key: str(value) for key, value in row.items()} for row in ROWS]

    def test_tsv_is_read_back_with_its_quotes_and_spaces_for_tabs_and_line_ends(self, tmp_path):
        path = str(tmp_path / "rows.tsv")
        write_rows(path, [*ROWS, {"source": '"', "score": None, "prediction": "\n"}], "prediction")
        assert [row for _, row in read_rows(path, "tsv")] == [
            ["source", "score", "prediction"],
            ['a "b" c', "-0.5", "ä b"],
            ["d, e", "7", ""],
            ['"', "", " "],
        ]

    def test_json_lines_keep_types_and_text_is_a_line_each(self, tmp_path):
        for ending in ("jsonl", "txt"):
            write_rows(str(tmp_path / f"rows.{ending}"), ROWS, "prediction")
        lines = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line) for line in lines] == ROWS and "ä" in lines[0]
        assert (tmp_path / "rows.txt").read_text("utf-8") == "ä  b\n\n"

    @pytest.mark.parametrize("name", ["a.xls", "a", "missing/a.txt", "folder.txt"])
    def test_a_file_that_cannot_be_is_refused(self, tmp_path, name):
        (tmp_path / "folder.txt").mkdir()
        with pytest.raises(ValueError, match=f"--output=.*{name}"):
            require_writable("output", tmp_path / name)
