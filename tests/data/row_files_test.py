"""Files of rows: what is written is what the csv and json modules read."""

import csv
import json

import pytest

from pipelines.data.row_files import require_writable, write_rows

ROWS = [
    {"source": 'a "b"\tc', "score": -0.5, "prediction": "ä\r\nb"},
    {"source": "d, e", "score": 7, "prediction": ""},
]


class RowFileTest:
    @pytest.mark.parametrize(("ending", "separator"), [(".tsv", "\t"), (".CSV", ",")])
    def test_a_table_has_a_header_and_quotes_what_needs_it(self, tmp_path, ending, separator):
        path = tmp_path / f"rows{ending}"
        write_rows(str(path), ROWS, "prediction")
        with open(path, encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file, delimiter=separator))
        assert found == [{key: str(value) for key, value in row.items()} for row in ROWS]

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
