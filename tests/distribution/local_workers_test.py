"""Several processes of one command: who is heard, which exit code counts, and that none is left."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pipelines.distribution import local_workers
from tests import ROOT

LONG = 30  # seconds that no process may stay
START = f"""
import os, signal, socket, sys, time
from pathlib import Path
index = int(os.environ[{local_workers.VARIABLE!r}])
def stay():
    time.sleep({LONG})
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def command(*codes):
    """Makes a command that runs in each process the code of its index, the last one in others."""
    code = f"{START}exec({list(codes)!r}[min(index, {len(codes) - 1})])"
    return [sys.executable, "-c", code]


def run(count, *codes):
    """Runs the processes; returns the exit code, and the seconds that this took."""
    start = time.monotonic()
    return local_workers.run(command(*codes), count), time.monotonic() - start


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(local_workers, "GRACE", 0.5)


@pytest.mark.integration
class RunTest:
    def test_only_the_chief_is_heard(self, capfd):
        code = "print('I am', index); print('I warn', index, file=sys.stderr)"
        assert local_workers.run(command(code), 3) == 0
        assert capfd.readouterr() == ("I am 0\n", "I warn 0\n")

    def test_each_is_told_its_own_index_and_the_addresses_of_all(self, tmp_path):
        code = f"Path({str(tmp_path)!r}, str(index)).write_text(os.environ['TF_CONFIG'])"
        assert local_workers.run(command(code), 3) == 0
        found = [json.loads((tmp_path / str(index)).read_text()) for index in range(3)]
        assert [one["task"] for one in found] == [{"type": "worker", "index": i} for i in range(3)]
        assert len({json.dumps(one["cluster"]) for one in found}) == 1
        assert len(set(found[0]["cluster"]["worker"])) == 3

    @pytest.mark.parametrize(("end", "expected"), [("sys.exit(7)", 7), ("die()", 128 + 9)])
    def test_one_that_fails_ends_all_and_is_reported(
        self, tmp_path, capfd, short_grace, end, expected
    ):
        stays = f"Path({str(tmp_path)!r}, str(os.getpid())).touch(); stay()"
        fails = (
            f"print('first', file=sys.stderr); print('last', file=sys.stderr, flush=True); {end}"
        )
        code, seconds = run(3, stays, fails, stays)
        assert code == expected and seconds < LONG / 2
        assert capfd.readouterr().err == f"worker 1 ended with exit code {expected}: last\n"
        for path in tmp_path.iterdir():
            with pytest.raises(ProcessLookupError):
                os.kill(int(path.name), 0)

    @pytest.mark.parametrize(("end", "expected"), [("sys.exit(7)", 7), ("die()", 128 + 9)])
    def test_one_that_failed_counts_when_the_chief_has_ended_well(self, capfd, end, expected):
        code, _ = run(2, "time.sleep(0.4)", end)
        assert code == expected
        assert "worker 1 ended" in capfd.readouterr().err

    @pytest.mark.parametrize(("end", "expected"), [("sys.exit(7)", 7), ("die()", 128 + 9)])
    def test_a_chief_that_fails_speaks_for_itself(self, capfd, short_grace, end, expected):
        code, seconds = run(2, f"print('mine', file=sys.stderr, flush=True); {end}", "stay()")
        assert code == expected and seconds < LONG / 2
        assert capfd.readouterr().err == "mine\n"

    def test_others_may_end_by_themselves_after_one_that_failed(self, tmp_path):
        ends_soon = f"time.sleep(0.7); Path({str(tmp_path)!r}, str(index)).touch()"
        assert run(2, ends_soon, "sys.exit(7)")[0] == 7
        assert (tmp_path / "0").exists()

    def test_the_first_code_counts(self, short_grace):
        assert run(3, "time.sleep(0.4); sys.exit(3)", "stay()", "sys.exit(7)")[0] == 7

    def test_preempted_processes_are_waited_for(self):
        preempted = f"sys.exit({local_workers.PREEMPTED})"
        assert run(2, preempted)[0] == 143
        assert run(2, "time.sleep(0.4)", preempted)[0] == 143


class SignalTest:
    """The process that starts the others is asked to end, or killed."""

    @contextlib.contextmanager
    def started(self, code, count=3):
        """Starts processes that stay; gives the starting one, and a connection to each."""
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(socket.create_server(("localhost", 0)))
            server.settimeout(LONG)
            code += f"connection = socket.create_connection({server.getsockname()}); stay()"
            program = (
                "import sys\nfrom pipelines.distribution import local_workers\n"
                f"sys.exit(local_workers.run({command(code)!r}, {count}))"
            )
            starter = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
            )
            yield starter, [stack.enter_context(server.accept()[0]) for _ in range(count)]

    def assert_all_end(self, connections):
        for connection in connections:
            connection.settimeout(LONG / 2)
            assert connection.recv(1) == b""  # It is closed when its process has ended.

    def test_sigterm_is_passed_on(self):
        ends = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
        with self.started(ends) as (starter, connections):
            starter.terminate()
            self.assert_all_end(connections)
        assert starter.returncode == 143

    def test_none_outlives_the_one_that_started_it(self):
        follows = (
            "from pipelines.distribution import local_workers; local_workers.follow_parent(); "
        )
        with self.started(follows) as (starter, connections):
            starter.kill()
            self.assert_all_end(connections)
        assert starter.returncode == -signal.SIGKILL

    def test_a_process_by_itself_follows_nobody(self):
        before = threading.active_count()
        local_workers.follow_parent()
        assert threading.active_count() == before
