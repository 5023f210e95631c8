"""What scores are of, and the names of their files; `export_test` and the tasks have the scores."""

import json

import ml_collections
import pytest

from pipelines.data.sources import source_name
from pipelines.runs.evaluation import description, file_label, match


class SourceTest:
    @pytest.mark.parametrize(
        ("data", "name"),
        [
            ({"format": "folder", "name": "cifar10", "folder": "mine", "test": "t"}, "mine t"),
            ({"format": "tfds", "name": "cifar10", "folder": "mine", "test": "t"}, "cifar10 t"),
            ({"format": "embedded", "folder": "mine", "test": "t"}, "embedded"),
            ({"format": "files", "folder": "", "test": ["a", "b"]}, "['a', 'b']"),
            ({"format": "rows"}, "rows"),
        ],
    )
    def test_it_is_named_by_the_keys_that_its_format_reads(self, data, name):
        assert source_name(data, "test") == name


class FileLabelTest:
    def test_it_says_what_is_different_from_the_run(self):
        assert file_label({}, "") == ""
        assert (
            file_label({"decode.num_hypotheses": None, "decode.alpha": -0.5}, "") == "-alpha=-0.5"
        )
        assert file_label({"decode.prefix": "Ja, ä/b"}, "../x.tsv") == "-..-x.tsv-prefix=Ja-ä-b"

    def test_long_ones_differ_where_they_were_cut(self):
        labels = [file_label({}, f"{'folder/' * 20}{name}.tsv") for name in "ab"]
        assert labels[0] != labels[1] and all(len(label) == 101 for label in labels)


class MatchTest:
    def test_scores_of_other_data_weights_or_search_do_not_match(self, tmp_path):
        (tmp_path / "checkpoints" / "step-00000007").mkdir(parents=True)
        decode = {"beam_size": 3, "batch_size": 5}
        config = ml_collections.ConfigDict(
            {"task": "t", "data": {"format": "tsv", "test": "a"}, "decode": decode}
        )
        path = tmp_path / "scores.json"
        found = description(config, str(tmp_path), "last", "test")
        path.write_text(json.dumps({**found, "bleu": 3.0}))
        assert match(path, config, str(tmp_path), "last")
        assert not match(path, config, str(tmp_path), "best")
        del found["decode"]  # As the version before wrote it.
        path.write_text(json.dumps(found))
        config.decode.beam_size = 1
        assert match(path, config, str(tmp_path), "last")
        config.data.test = "b"
        assert not match(path, config, str(tmp_path), "last")
