"""Checkpoints that are whole or absent: what a full disk, damage and a kill leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.runs.checkpoints import Checkpoints
from tests import ROOT

# No file may grow beyond a limit, which is what a disk does when it is full.
SAVE_ON_A_FULL_DISK = """
import resource, sys
import numpy as np
from pipelines.runs.checkpoints import Checkpoints
folder, limit, note = sys.argv[1], *map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    Checkpoints(folder).save(5, {"weights": np.arange(9973.0)}, {"note": "x" * note})
except OSError as error:
    print(error.filename)
"""


def arrays(step):
    """Makes arrays of the kinds a training has: weights, a scalar counter, a random state."""
    random = np.random.default_rng(step)
    return {
        "model/0000": random.normal(size=(7, 3)).astype(np.float32),
        "optimizer/0000": np.int64(step),
        "model/0001": np.array([step, 2**32 - 1], np.uint32),
    }


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=3)


def saved(checkpoints, *steps):
    return [checkpoints.save(step, arrays(step), {"epoch": step // 2}) for step in steps]


def truncate(path):
    os.truncate(path, path.stat().st_size - 3)


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class SaveTest:
    def test_everything_comes_back_bit_for_bit_with_its_dtype(self, checkpoints):
        [path] = saved(checkpoints, 5)
        found, state = checkpoints.load(path)
        assert found.keys() == arrays(5).keys()
        for name, array in arrays(5).items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape
            assert np.array_equal(found[name], array)
        assert (state["step"], state["epoch"]) == (5, 2)

    def test_only_the_newest_are_kept_oldest_first(self, checkpoints):
        saved(checkpoints, 2, 3, 5, 7, 100_003)
        names = ["step-00000005", "step-00000007", "step-00100003"]
        assert [path.name for path in checkpoints.paths()] == names
        assert sorted(os.listdir(checkpoints.folder)) == names

    def test_the_same_step_may_be_saved_again(self, checkpoints):
        saved(checkpoints, 3, 5)
        checkpoints.save(5, arrays(7), {})
        assert len(checkpoints.paths()) == 2
        found, _ = checkpoints.load_newest()
        assert np.array_equal(found["model/0000"], arrays(7)["model/0000"])

    def test_a_file_is_readable_by_whom_other_files_are(self, checkpoints, tmp_path):
        [path] = saved(checkpoints, 5)
        (tmp_path / "other").touch()
        for file in path.iterdir():
            assert file.stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_nothing_is_pickled(self, checkpoints):
        [path] = saved(checkpoints, 5)
        with np.load(path / "arrays.npz", allow_pickle=False) as file:
            assert set(file.files) == arrays(5).keys()
        assert json.loads((path / "state.json").read_text())["step"] == 5

    def test_at_least_one_is_kept(self, tmp_path):
        with pytest.raises(ValueError, match="keep=0"):
            Checkpoints(tmp_path, keep=0)


class FailedSaveTest:
    @pytest.mark.parametrize(
        ("limit", "note"), [(10_007, 11), (90_001, 100_003)], ids=["arrays", "state"]
    )
    def test_a_full_disk_leaves_the_older_checkpoints_and_nothing_else(self, tmp_path, limit, note):
        checkpoints = Checkpoints(tmp_path)
        saved(checkpoints, 2, 3)
        command = [sys.executable, "-c", SAVE_ON_A_FULL_DISK, tmp_path, str(limit), str(note)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == str(tmp_path / "step-00000005"), done.stderr
        assert sorted(os.listdir(tmp_path)) == ["step-00000002", "step-00000003"]
        assert checkpoints.load_newest()[1]["step"] == 3

    def test_a_state_that_json_cannot_hold_leaves_the_older_checkpoints(self, checkpoints):
        saved(checkpoints, 2)
        with pytest.raises(TypeError):
            checkpoints.save(3, arrays(3), {"loss": object()})
        assert os.listdir(checkpoints.folder) == ["step-00000002"]

    def test_what_a_killed_save_left_is_no_checkpoint_and_in_nobodys_way(self, checkpoints):
        saved(checkpoints, 2)
        half = checkpoints.folder / ".tmp-step-00000003"
        half.mkdir()
        (half / "arrays.npz").write_bytes(b"half")
        assert checkpoints.load_newest()[1]["step"] == 2
        saved(checkpoints, 3)
        assert checkpoints.load_newest()[1]["step"] == 3
        assert not half.exists()

    def test_a_folder_that_cannot_be_made_is_an_os_error(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(OSError, match="file"):
            saved(Checkpoints(tmp_path / "file" / "checkpoints"), 2)


class DamageTest:
    @pytest.mark.parametrize("damage", [truncate, alter, Path.unlink])
    @pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
    def test_a_damaged_file_is_found_and_its_checkpoint_named(self, checkpoints, name, damage):
        _, path = saved(checkpoints, 2, 3)
        damage(path / name)
        with pytest.raises(ValueError, match="step-00000003 is damaged"):
            checkpoints.load(path)

    @pytest.mark.parametrize("text", ["", "[]", "{}", "5", '{"step": 3}'])
    def test_a_state_of_another_kind_is_damage_too(self, checkpoints, text):
        [path] = saved(checkpoints, 3)
        (path / "state.json").write_text(text)
        with pytest.raises(ValueError, match="step-00000003 is damaged"):
            checkpoints.load(path)

    def test_the_newest_whole_one_is_loaded_and_the_damaged_one_named(self, checkpoints, caplog):
        *_, path = saved(checkpoints, 2, 3, 5)
        truncate(path / "arrays.npz")
        found, state = checkpoints.load_newest()
        assert state["step"] == 3
        assert np.array_equal(found["model/0000"], arrays(3)["model/0000"])
        assert "step-00000005 is damaged" in caplog.text

    def test_there_is_no_newest_where_all_are_damaged_or_none_was_saved(self, checkpoints):
        assert checkpoints.load_newest() is None
        for path in saved(checkpoints, 2, 3):
            truncate(path / "arrays.npz")
        assert checkpoints.load_newest() is None

    @pytest.mark.parametrize("keep", [1, 3])
    def test_a_save_after_the_damage_stays_though_it_is_of_an_earlier_step(self, tmp_path, keep):
        checkpoints = Checkpoints(tmp_path, keep)
        path = saved(checkpoints, 2, 3, 11)[-1]
        truncate(path / "arrays.npz")
        saved(checkpoints, 5)
        assert checkpoints.load_newest()[1]["step"] == 5
        assert not path.exists()


class AverageTest:
    @pytest.mark.parametrize("last", [1, 2, 3, 5])
    def test_it_is_the_mean_of_the_last_in_the_dtype_of_the_arrays(self, checkpoints, last):
        saved(checkpoints, 2, 3, 5)
        steps = [2, 3, 5][-last:]
        expected = np.mean([arrays(step)["model/0000"] for step in steps], axis=0, dtype="float64")
        found, _ = checkpoints.average(last)
        assert all(name.startswith(("model/", "ema/")) for name in found)
        assert np.array_equal(found["model/0000"], expected.astype("float32"))

    def test_it_sums_in_float64(self, checkpoints):
        for step, value in enumerate((1e8, 1.0, -1e8)):
            checkpoints.save(step, {"model/0000": np.array([value], "float32")}, {})
        assert checkpoints.average(3)[0]["model/0000"] == np.float32(1 / 3)

    def test_without_a_checkpoint_the_folder_is_named(self, checkpoints):
        with pytest.raises(ValueError, match="no checkpoint in .*checkpoints; train first"):
            checkpoints.average(3)

    def test_a_damaged_one_is_named_and_not_left_out(self, checkpoints):
        path, *_ = saved(checkpoints, 2, 3)
        alter(path / "arrays.npz")
        with pytest.raises(ValueError, match="step-00000002 is damaged"):
            checkpoints.average(2)
