"""Tests of reading pairs from TSV, and from the CSV of spreadsheets."""

import csv

import pytest

from pipelines.text.tables import read_table
from tests import own_words


class CsvTest:
    @pytest.mark.parametrize("dialect", [{}, {"delimiter": ";"}, {"quoting": csv.QUOTE_ALL}])
    def test_what_a_writer_of_csv_wrote_comes_back(self, tmp_path, dialect):
        pairs = [('sagte, "ja"; und', "said, yes"), ("zwei", ""), ("", "three"), ("ä;,", '"')]
        with open(tmp_path / "a.csv", "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, **dialect)
            writer.writerows([("German", "n", "English"), *((s, 7, t) for s, t in pairs)])
        for columns in (("German", "English"), ("german", " ENGLISH ")):
            assert read_table(tmp_path / "a.csv", "csv", columns) == pairs
        assert read_table(tmp_path / "a.csv", "csv", (0, 2))[1:] == pairs

    def test_a_spreadsheet_with_line_ends_in_its_fields_is_read(self, tmp_path):
        pairs = own_words.spreadsheet(tmp_path)
        assert read_table(tmp_path / "Tabelle1.csv", "csv", ("english", "chinese")) == pairs

    def test_a_quote_without_end_is_named_with_the_line(self, tmp_path):
        (tmp_path / "a.csv").write_text('a,b\n"c,d\n')
        with pytest.raises(ValueError, match=r"a\.csv' line 2: unexpected end"):
            read_table(str(tmp_path / "a.csv"), "csv", (0, 1))


class TsvTest:
    def test_columns_have_the_names_in_the_first_line(self, tmp_path):
        (tmp_path / "a.tsv").write_text('id\tDE \tEN\n1\t"ein\tone\n2\tzwei"\ttwo\n')
        pairs = read_table(tmp_path / "a.tsv", "tsv", ("en", "de"))
        assert pairs == [("one", '"ein'), ("two", 'zwei"')]

    @pytest.mark.parametrize("text", ["id\tDE\tEN\n", ""])
    def test_a_missing_name_is_said_with_those_that_are_there(self, tmp_path, text):
        (tmp_path / "a.tsv").write_text(text)
        with pytest.raises(ValueError, match=r"'fr', 'de'.*a\.tsv, received \["):
            read_table(tmp_path / "a.tsv", "tsv", ("fr", "de"))
