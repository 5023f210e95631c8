"""Tests of where pictures go."""

import os

import pytest

from pipelines.exported.pictures import picture_paths


class PicturePathsTest:
    def test_one_picture_has_the_name_itself(self, tmp_path):
        assert picture_paths("alignment", tmp_path / "a.svg", 1) == [tmp_path / "a.svg"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("a.doc", "should end in one of"),
            ("missing/a.png", "missing is no folder"),
            ("file/a.png", "file is no folder"),
            ("folder.png", "cannot be written there"),
        ],
    )
    def test_a_picture_that_cannot_be_is_refused_before_any_work(self, tmp_path, name, message):
        (tmp_path / "file").touch()
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(ValueError, match=message):
            picture_paths("alignment", tmp_path / name, 1)
        assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]

    def test_a_folder_without_permission_is_refused(self, tmp_path, monkeypatch):
        # By the answer of the system's question: permissions do not bind an administrator.
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ValueError, match="cannot be written there"):
            picture_paths("alignment", tmp_path / "a.png", 1)
