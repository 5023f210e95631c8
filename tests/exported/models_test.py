"""Tests of how programs find exported models and call them; `predict_test` has what is broken."""

import pytest
import tensorflow as tf

from pipelines.exported.models import load_named


def save(folder):
    module = tf.Module()
    module.double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec((), name="x")]
    )
    tf.saved_model.save(module, str(folder), signatures={"double": module.double})


class NameTest:
    def test_a_model_is_called_like_its_run(self, tmp_path):
        folders = [tmp_path / name for name in ("a/export/1", "b/export/7", "c", "d.e/3")]
        for folder in folders:
            save(folder)
        (folders[1] / "README.md").write_text("# x\n\n## Languages\n\nFrom Thai to Czech (CZ).\n")
        given = [folders[0], folders[1].parent, *folders[2:]]
        models = load_named([str(folder) for folder in given])
        assert list(models) == ["a", "b", "c", "d.e"]
        assert [model.folder for model in models.values()] == folders
        languages = [model.languages for model in models.values()]
        assert languages == ["", "Thai to Czech (CZ)", "", ""]
        assert float(models["b"].signatures["double"](x=tf.constant(3.0))["y"]) == 6

    def test_two_of_one_name_are_one_sentence(self, tmp_path):
        save(tmp_path / "run/export/1")
        both = [str(tmp_path / "run/export"), str(tmp_path / "run/export/1")]
        with pytest.raises(ValueError, match="received two of 'run'"):
            load_named(both)
