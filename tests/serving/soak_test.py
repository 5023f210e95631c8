"""The soak of the server: that it tells right answers from wrong ones, and a short one."""

import numpy as np
import pytest

from tests.exported import exports
from tests.serving.soak import MODELS, Soak, difference

WORDS = {"translation": "Kühe".encode(), "score": np.float32(-0.5), "truncated": np.bool_(False)}
PIXELS = {
    "class_names": np.array([b"cat", b"dog"], object),
    "probabilities": np.float32([0.7, 0.2]),
}


class DifferenceTest:
    @pytest.mark.parametrize(
        ("changes", "version", "name"),
        [
            ({}, 1, None),
            ({"score": 0.501}, 2, None),
            ({}, 2, "score"),
            ({"score": 0.5}, 1, "score"),
            ({"translation": "Kuhe"}, 1, "translation"),
            ({"truncated": True}, 1, "truncated"),
        ],
    )
    def test_of_a_translation(self, changes, version, name):
        found = {"translation": "Kühe", "score": -0.5, "truncated": False} | changes
        assert difference(WORDS, found, version) == name

    @pytest.mark.parametrize(
        ("names", "chances", "name"),
        [
            (["cat", "dog"], [0.7, 0.2], None),
            (["dog", "cat"], [0.7, 0.2], "class_names"),
            (["cat", "cow"], [0.7, 0.2], "class_names"),
            (["cat", "dog"], [0.7, 0.3], "probabilities"),
        ],
    )
    def test_of_a_classification(self, names, chances, name):
        assert difference(PIXELS, {"class_names": names, "probabilities": chances}, 1) == name


@pytest.mark.slow
class SoakTest:
    def test_every_answer_is_right_while_a_version_comes_and_the_server_ends(self, tmp_path):
        modules = dict(
            zip(MODELS, (exports.make_translator(), exports.make_classifier()), strict=True)
        )
        folders = {name: exports.save(modules[name], tmp_path / name) for name in MODELS}
        found = Soak(folders, tmp_path / "soak").run(90)
        assert found["wrong"] == []
        assert found["exit code"] == 0 and "lost" not in found["counts"]
        assert found["seconds until version 2 answered"].keys() == set(MODELS)
        for name in MODELS:
            assert all(found["counts"][f"answers of {name} by version {n}"] for n in (1, 2))
