"""A file of keys: what it may hold, and that it is read again."""

import os
import pickle
import threading

import pytest

from pipelines.serving import keys
from pipelines.serving.keys import Keys


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "SECONDS", 0)
    path = tmp_path / "keys"
    path.write_bytes(b"first\n")
    return path


class KeysTest:
    def test_each_line_is_a_key_however_it_was_written(self, path):
        path.write_bytes(b"\xef\xbb\xbffirst \r\n\r\n\tsec ond\nfirst\nk\xc3\xa4y")
        known = Keys(path)
        for key in (b"first", b"sec ond", "käy".encode()):
            assert known.know(key)
        for key in (b"", b"firs", b"first ", b"FIRST", b"second", b"first\r\n\r\n"):
            assert not known.know(key)

    @pytest.mark.parametrize(
        ("contents", "message"),
        [
            (b"", "no key in it"),
            (b" \n\n", "no key in it"),
            (b"a\nb\0c", "control codes in line 2"),
        ],
    )
    def test_a_file_without_keys_is_refused(self, path, contents, message):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=f"^--api_keys={path} has {message}"):
            Keys(path)

    def test_a_file_that_changes_is_read_again(self, path, caplog):
        known = Keys(path)
        path.write_bytes(b"other\n")  # Of the same size.
        assert known.know(b"other") and not known.know(b"first")
        (path.parent / "new").write_bytes(b"third\nfirst\n")
        os.replace(path.parent / "new", path)
        assert known.know(b"third") and known.know(b"first") and not known.know(b"other")
        assert [line.split(": ")[-1] for line in caplog.messages] == ["1 keys.", "2 keys."]

    def test_a_file_that_breaks_leaves_the_keys_as_they_were(self, path, caplog):
        known = pickle.loads(pickle.dumps(Keys(path)))  # as Ray hands it to others
        for breaks in (lambda: path.write_bytes(b""), path.unlink, path.mkdir):
            breaks()
            caplog.clear()
            assert known.know(b"first") and known.know(b"first")
            (line,) = caplog.messages
            assert line.startswith("The API keys stay as they were: ") and str(path) in line
            assert "first" not in line
        path.rmdir()
        path.write_bytes(b"second")
        assert known.know(b"second") and not known.know(b"first")

    def test_a_pipe_is_read_once(self, path):
        path.unlink()
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(b"first\n",)).start()
        known = Keys(path)
        assert known.know(b"first") and not known.know(b"second")
