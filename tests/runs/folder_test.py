"""The folder of a run: whose it is, what it logs, and that no write spoils what was there."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import ml_collections
import pytest

from pipelines.runs.config import complete, read_config, write_config
from pipelines.runs.files import write_atomically, write_text
from pipelines.runs.folder import (
    locked,
    prepared_hashes,
    read_prepared,
    require_unchanged,
    saved_hashes,
)
from pipelines.runs.folder import start as start_run
from pipelines.runs.metrics_log import MetricsLog
from tests import ROOT

FIXED_KEYS = ("task", "seed", "data", "model", "train.ema")
FREE_KEYS = ("data.test", "data.folder", "data.download", "decode", "train.log_every")
PREPARED = ("tokenizer.model",)
CHANGES = {
    "task": "classification",
    "seed": 7,
    "data.format": "tsv",
    "data.train": ("a.en", "a.fr"),
    "model.hidden_dim": 16,
    "train.ema": 0.5,
}
NO_CONFIGS = [
    *(b"", b'{"task": "transl', b"\xff\xfe", b"[1]", b'"text"', b"{}", b'{"task": ["text"]}'),
    b'{"architectures": ["x"], "a.b": 7}',
]
WRITE_ON_A_FULL_DISK = """
import resource, sys
from pipelines.runs.files import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (101, resource.RLIM_INFINITY))
try:
    write_text(sys.argv[1], "new" * 1009)
except OSError as error:
    print(error.strerror)
"""


def config(**changes):
    found = ml_collections.ConfigDict(
        {
            "task": "translation",
            "seed": 3,
            "data": {
                "format": "files",
                "train": ("a.en", "a.de"),
                "test": "",
                "folder": "",
                "data_dir": "",
                "download": "",
            },
            "model": {"variant": "tiny", "hidden_dim": 8},
            "train": {"steps": 11, "learning_rate": 512**-0.5, "ema": 0.0, "log_every": 5},
            "decode": {"beam_size": 4},
        }
    )
    found.update_from_flattened_dict(changes)
    return found


DEFAULT = config()


def start(workdir, config, allow_changes=False):
    keys = {"fixed_keys": FIXED_KEYS, "free_keys": FREE_KEYS, "prepared": PREPARED}
    start_run(workdir, config, default=DEFAULT, **keys, allow_changes=allow_changes)


class AtomicWriteTest:
    def test_the_text_is_written_in_utf8(self, tmp_path):
        write_text(tmp_path / "file.txt", "Größe 😀\n")
        assert (tmp_path / "file.txt").read_bytes() == "Größe 😀\n".encode()
        assert os.listdir(tmp_path) == ["file.txt"]

    def test_the_writer_gets_a_name_in_the_same_folder_with_the_same_suffix(self, tmp_path):
        names = []
        write_atomically(
            tmp_path / "curves.png", lambda name: (names.append(Path(name)), Path(name).touch())
        )
        assert names[0].parent == tmp_path and names[0].suffix == ".png"

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt])
    def test_a_writer_that_fails_half_way_leaves_the_old_file_alone(self, tmp_path, error):
        def write(name):
            Path(name).write_text("half")
            raise error

        write_text(tmp_path / "file.txt", "old")
        with pytest.raises((OSError, KeyboardInterrupt)):
            write_atomically(tmp_path / "file.txt", write)
        assert os.listdir(tmp_path) == ["file.txt"]
        assert (tmp_path / "file.txt").read_text() == "old"

    def test_a_full_disk_leaves_the_old_file_alone(self, tmp_path):
        write_text(tmp_path / "file.txt", "old")
        command = [sys.executable, "-c", WRITE_ON_A_FULL_DISK, str(tmp_path / "file.txt")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == os.strerror(errno.EFBIG), done.stderr
        assert os.listdir(tmp_path) == ["file.txt"]
        assert (tmp_path / "file.txt").read_text() == "old"

    @pytest.mark.parametrize("umask", [0o022, 0o077])
    def test_the_file_has_the_permissions_of_any_new_file(self, tmp_path, umask):
        old = os.umask(umask)
        try:
            write_text(tmp_path / "file.txt", "text")
        finally:
            os.umask(old)
        assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.fixture
def begun(tmp_path):
    """The folder of a run that has come as far as its tokenizer."""
    start(tmp_path, config())
    (tmp_path / "tokenizer.model").touch()
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    return tmp_path


class StartTest:
    def test_a_new_run_has_its_config_in_its_folder(self, tmp_path):
        start(tmp_path, config())
        found = read_config(tmp_path)
        assert found.train.learning_rate == config().train.learning_rate
        assert found.to_dict() == json.loads(config().to_json())

    def test_the_same_run_goes_on_and_nothing_changes(self, begun):
        before = (begun / "config.json").read_bytes()
        start(begun, config())
        assert (begun / "config.json").read_bytes() == before

    def test_what_a_run_learns_by_changes_only_with_a_flag(self, begun):
        before, changed = (begun / "config.json").read_bytes(), config(**{"train.steps": 23})
        with pytest.raises(ValueError, match="train.steps=.*not 23.*or give --allow_changes"):
            start(begun, changed)
        assert (begun / "config.json").read_bytes() == before
        start(begun, changed, allow_changes=True)

    @pytest.mark.parametrize("key", ["decode.beam_size", "train.log_every"])
    def test_what_changes_no_weights_may_change(self, begun, key):
        start(begun, config(**{key: 2}))

    @pytest.mark.parametrize("key", CHANGES)
    def test_another_task_model_or_data_is_refused_by_name(self, begun, key):
        before = (begun / "config.json").read_bytes()
        with pytest.raises(ValueError, match=f"{key}=.*choose another --workdir") as caught:
            start(begun, config(**{key: CHANGES[key]}), allow_changes=True)
        assert str(begun) in str(caught.value) and "\n" not in str(caught.value)
        assert (begun / "config.json").read_bytes() == before
        assert sorted(os.listdir(begun)) == ["checkpoints", "config.json", "tokenizer.model"]

    @pytest.mark.parametrize("key", [key for key in FREE_KEYS if "data." in key])
    def test_what_it_reads_may_have_moved(self, begun, key):
        start(begun, config(**{key: "elsewhere"}))
        write_config(begun, config(**{key: "elsewhere"}))
        assert read_config(begun).to_json() == config(**{key: "elsewhere"}).to_json()

    @pytest.mark.parametrize("there", [True, False])
    def test_a_key_that_only_one_of_them_has_is_refused(self, begun, there):
        more = config()
        more.model.norm_first = True
        if there:
            write_text(begun / "config.json", more.to_json())
        with pytest.raises(ValueError, match="model.norm_first="):
            start(begun, config() if there else more)

    def test_a_key_that_one_of_them_lacks_has_its_default(self, begun):
        less = config()
        del less.train.ema, less.data.train
        for stored, given in ((less, config()), (config(), less)):
            write_config(begun, stored)
            start(begun, given)
            with pytest.raises(ValueError, match=r"train.ema=0.\d, not 0.\d"):
                start(begun, config(**{"train.ema": 0.5}))

    def test_a_run_without_a_checkpoint_may_be_put_right(self, tmp_path):
        start(tmp_path, config())
        (tmp_path / "tokenizer.model").write_text("of the data")
        start(tmp_path, config(**{"train.steps": 23}))
        assert (tmp_path / "tokenizer.model").exists()
        start(tmp_path, config(**{"data.train": ("a.en", "a.fr")}))
        assert read_config(tmp_path).data.train == ["a.en", "a.fr"]
        assert os.listdir(tmp_path) == ["config.json"]

    def test_a_folder_that_cannot_be_made_is_one_sentence(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        for workdir in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/kerasformer")):
            with pytest.raises(ValueError, match="cannot be written: [A-Z][a-z ]+\\.$") as caught:
                with locked(workdir, make=True):
                    pass
            assert str(workdir) in str(caught.value)
        assert (tmp_path / "file").read_text() == "in the way"

    def test_a_folder_where_the_config_cannot_be_written_is_one_sentence(self, tmp_path):
        (tmp_path / "config.json").mkdir()
        with pytest.raises(ValueError, match="cannot be"):
            start(tmp_path, config())

    def test_other_files_in_the_folder_are_left_alone(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        start(tmp_path, config())
        assert (tmp_path / "notes.txt").read_text() == "mine"


class LockTest:
    def test_a_folder_that_others_make_and_remove_meanwhile_is_made_again(self, tmp_path):
        errors = []

        def make_and_remove(name):
            try:
                for _ in range(1009):
                    with locked(tmp_path / "new" / "run", name, make=True):
                        pass
            except ValueError as error:
                errors.append(error)

        threads = [threading.Thread(target=make_and_remove, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors

    def test_the_same_work_waits_for_nobody_and_is_refused(self, tmp_path):
        with locked(tmp_path):
            before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
            with pytest.raises(ValueError, match="Another process trains in .* already"):
                with locked(tmp_path):
                    pass
            assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
            with locked(tmp_path, ".lock-export", "exports"):
                assert len(list(tmp_path.iterdir())) == 2
        assert not list(tmp_path.iterdir())
        with locked(tmp_path):
            pass

    def test_a_lock_file_that_a_killed_process_left_locks_nothing(self, tmp_path):
        (tmp_path / ".lock").touch()
        with locked(tmp_path):
            pass

    def test_a_folder_that_does_not_exist_is_one_sentence(self, tmp_path):
        with pytest.raises(ValueError, match="nowhere holds no run: the folder does not exist"):
            with locked(tmp_path / "nowhere"):
                pass

    def test_a_folder_that_was_made_for_nothing_is_removed_with_its_parents(self, tmp_path):
        (tmp_path / "runs").mkdir()
        run = tmp_path / "runs" / "new" / "run"
        with locked(run, make=True):
            assert os.listdir(run) == [".lock"]
        assert not os.listdir(tmp_path / "runs")
        with locked(run, make=True):
            write_text(run / "notes.txt", "kept")
        with locked(run, make=True):
            (run / "notes.txt").unlink()  # In a folder that was there.
        assert run.exists()


class UnchangedTest:
    def test_the_file_that_differs_is_named(self, tmp_path):
        for name in ("a.json", "b.model"):
            (tmp_path / name).write_text(name)
        hashes = prepared_hashes(read_prepared(tmp_path, ["a.json", "b.model", "c"]))
        assert set(hashes) == {"a.json", "b.model"}
        data = {"set of training images": "7", "number of replicas": 2}
        state = {"data": {"no.file": 7, **data}, "prepared": hashes}
        assert saved_hashes(state) == saved_hashes({"data": {**data, **hashes}}) == hashes
        assert saved_hashes({}) == {}
        require_unchanged(tmp_path, hashes)
        (tmp_path / "b.model").write_text("another")
        with pytest.raises(ValueError, match="b.model was changed or replaced"):
            require_unchanged(tmp_path, hashes)
        (tmp_path / "b.model").unlink()
        with pytest.raises(ValueError, match="b.model is missing"):
            require_unchanged(tmp_path, hashes)


class ReadConfigTest:
    def test_a_folder_without_a_run_is_one_sentence(self, tmp_path):
        with pytest.raises(ValueError, match="holds no run: .*config.json does not exist"):
            read_config(tmp_path / "nowhere")

    @pytest.mark.parametrize("content", NO_CONFIGS)
    def test_a_config_that_is_no_config_is_named(self, tmp_path, content):
        (tmp_path / "config.json").write_bytes(content)
        for read in (read_config, lambda folder: start(folder, config())):
            with pytest.raises(ValueError, match="config.json cannot be read") as caught:
                read(tmp_path)
            assert "\n" not in str(caught.value)
        assert (tmp_path / "config.json").read_bytes() == content

    @pytest.mark.parametrize("part", [None, [1], "text"])
    def test_a_part_that_is_no_object_is_named_by_its_key(self, part):
        broken = ml_collections.ConfigDict({"task": "translation", "decode": part})
        with pytest.raises(ValueError, match="config.json, received decode="):
            complete(broken, config())


class MetricsLogTest:
    def test_records_are_appended_one_a_line(self, tmp_path):
        log = MetricsLog(tmp_path, step=0)
        for step in (2, 3):
            log.append({"step": step, "loss": 1 / step})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [2, 3]
        assert log.records() == [{"step": 2, "loss": 0.5}, {"step": 3, "loss": 1 / 3}]

    def test_half_a_last_line_is_forgotten_and_not_written_on(self, tmp_path):
        MetricsLog(tmp_path, step=0).append({"step": 2, "loss": 0.5})
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"step": 3, "lo')
        log = MetricsLog(tmp_path, step=3)
        log.append({"step": 5, "loss": 0.25})
        assert [record["step"] for record in log.records()] == [2, 5]
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2

    def test_what_was_logged_beyond_the_step_gone_on_from_is_dropped(self, tmp_path):
        log = MetricsLog(tmp_path, step=0)
        for step in (2, 3, 5, 7):
            log.append({"step": step, "loss": 1.0})
        assert [record["step"] for record in MetricsLog(tmp_path, step=3).records()] == [2, 3]
        assert MetricsLog(tmp_path, step=0).records() == []

    def test_a_number_that_is_not_finite_comes_back(self, tmp_path):
        log = MetricsLog(tmp_path, step=0)
        log.append({"step": 2, "gradient_norm": float("inf")})
        assert log.records()[0]["gradient_norm"] == float("inf")


class CurvesTest:
    def logged(self, folder, *names, steps=(2, 3, 5)):
        log = MetricsLog(folder, step=0)
        for step in steps:
            log.append({"step": step, "seconds": 0.5} | {name: 1 / step for name in names})
        return log

    def test_every_metric_has_a_curve(self, tmp_path):
        sizes = []
        several = ["loss", "validation_loss", "a", "b"]
        for names in (["loss"], ["loss", "validation_bleu"], several, [*several, *"cdefgh"]):
            self.logged(tmp_path, *names).draw()
            image = (tmp_path / "curves.png").read_bytes()
            assert image.startswith(b"\x89PNG") and image.endswith(b"IEND\xaeB`\x82")
            sizes.append([int.from_bytes(image[start : start + 4]) for start in (16, 20)])
        areas = [width * height for width, height in sizes]
        assert areas == sorted(set(areas))  # Each time there are more panels.
        assert all(400 < width < 2000 and height < 2 * width for width, height in sizes)
        assert sorted(os.listdir(tmp_path)) == ["curves.png", "metrics.jsonl"]

    def test_the_picture_shows_the_numbers(self, tmp_path):
        pictures = set()
        for steps in ((2, 3, 5), (2, 3, 7)):
            self.logged(tmp_path, "loss", steps=steps).draw()
            pictures.add((tmp_path / "curves.png").read_bytes())
        assert len(pictures) == 2

    def test_the_best_step_is_marked(self, tmp_path):
        log = self.logged(tmp_path, "loss")
        pictures = set()
        for step in (0, 2, 3):
            log.draw(step)
            pictures.add((tmp_path / "curves.png").read_bytes())
        assert len(pictures) == 3

    def test_a_metric_that_is_logged_now_and_then_has_a_curve_of_its_own_steps(self, tmp_path):
        log = self.logged(tmp_path, "loss")
        log.append({"step": 7, "loss": 0.1, "validation_loss": 0.2, "validation_bleu": 3.0})
        log.draw()
        assert (tmp_path / "curves.png").stat().st_size > 0

    def test_nothing_logged_is_nothing_drawn(self, tmp_path):
        MetricsLog(tmp_path, step=0).draw()
        assert os.listdir(tmp_path) == ["metrics.jsonl"]
