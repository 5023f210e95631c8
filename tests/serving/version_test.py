"""Tests of how a version is loaded: again when it is replaced, later when it failed."""

import os
import shutil

import pytest
import tensorflow as tf

from pipelines.serving.endpoint import Budget, Limits
from pipelines.serving.version import PATIENCE, Loader, Settings, fingerprint
from tests.serving import toy_models

SETTINGS = Settings(batching=None, limits=Limits(instances=7))  # To trace batches takes time.


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Saves two models whose files differ in their contents alone."""
    folder = tmp_path_factory.mktemp("halves")
    for number in (2, 3):
        toy_models.save(toy_models.half_plus(number), folder / str(number))
    return folder


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "1"


@pytest.fixture
def look(clock, folder):
    """Looks at the folder once; returns what its version adds to halves, or `None`."""
    loader = Loader("half", SETTINGS, Budget(1), clock)

    def look():
        version = loader.version(1, folder)
        return version and added(version)

    look.loader = loader
    return look


def added(version):
    return version.endpoints["serving_default"].call({"x": tf.constant([4.0])})[0]["y"][0] - 2


class ReplacedTest:
    def test_files_that_differ_in_contents_alone_are_loaded_once_they_rest(
        self, halves, folder, look
    ):
        shutil.copytree(halves / "2", folder)
        assert look() == look() == 2
        old = look.loader.version(1, folder)
        times = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
        for path, facts in times.items():
            shutil.copyfile(halves / "3" / path.relative_to(folder), path)
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            if path.stat().st_size == facts.st_size and path.name != "variables.index":
                continue
            assert look() == 2  # Between two files, the folder is a mixture.
        assert [look(), look()] in ([2, 3], [3, 3])
        assert added(old) == 2  # A request that has begun ends with the version it began with.
        assert look.loader.errors == {}

    def test_a_change_of_a_nanosecond_is_seen(self, halves):
        before = fingerprint(halves / "2")
        path = halves / "2" / "saved_model.pb"
        facts = path.stat()
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        assert before != fingerprint(halves / "2")

    def test_the_old_one_goes_on_when_the_new_one_is_broken(self, halves, folder, look):
        shutil.copytree(halves / "2", folder)
        assert look() == 2
        (folder / "saved_model.pb").write_bytes(b"garbage")
        assert [look(), look()] == [2, 2]
        assert "damaged" in look.loader.errors[1]


class RetriedTest:
    def test_a_failure_is_tried_again_after_pauses_that_double(
        self, halves, folder, look, clock, caplog
    ):
        shutil.copytree(halves / "2", folder)
        variables = folder / "variables"
        variables.rename(folder.parent / "away")  # As on a disk that comes back later.
        variables.symlink_to(folder.parent / "none")
        expected = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 511 + PATIENCE, 511 + 2 * PATIENCE]
        attempts = []
        for clock.now in [0, *(time + early for time in expected[1:] for early in (-0.1, 0))]:
            caplog.clear()
            look()
            attempts += [clock.now] * ("cannot be served" in caplog.text)
        assert attempts == expected

    def test_it_is_tried_at_once_when_its_files_have_changed(self, halves, folder, look, clock):
        shutil.copytree(halves / "2", folder)
        contents = (folder / "saved_model.pb").read_bytes()
        (folder / "saved_model.pb").write_bytes(b"")
        assert look() is None and look.loader.errors == {1: "its saved_model.pb is empty"}
        (folder / "saved_model.pb").write_bytes(contents)
        assert [look(), look()] == [None, 2]
        assert look.loader.errors == {}

    def test_only_what_is_served_or_failed_is_remembered(self, halves, folder, look):
        shutil.copytree(halves / "2", folder)
        look()
        look.loader.keep({1}, {1})
        assert look.loader.version(1, folder) is look.loader.version(1, folder)
        kept = look.loader.version(1, folder)
        look.loader.keep((), {1})
        assert look.loader.version(1, folder) is not kept
