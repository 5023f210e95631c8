"""Several processes of one program on this machine, which train together."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

# Tells a process that it is one of them.
VARIABLE = "KERASFORMER_LOCAL_WORKER"
PREEMPTED = 128 + signal.SIGTERM  # exit code of a program that saved its state after SIGTERM
GRACE = 3.0  # seconds in which the other processes may end by themselves after one failed


def run(command: Sequence[str], count: int) -> int:
    """Runs a command in several processes and waits for them; the first one is the chief.

    Only the chief's output is shown, and the last line of another process that fails. When one
    fails, all are ended; so they are when this process ends. SIGTERM is passed on.

    Args:
        command: list of strings.
        count: number of processes.

    Returns:
        Exit code of the first process that failed, or 0.
    """
    cluster = {"worker": [f"localhost:{port}" for port in _free_ports(count)]}
    errors = {index: tempfile.TemporaryFile() for index in range(1, count)}
    workers = []
    for index in range(count):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                command,
                env={**os.environ, "TF_CONFIG": json.dumps(task), VARIABLE: str(index)},
                stdin=subprocess.PIPE,  # It ends when this process does, even by SIGKILL.
                stdout=subprocess.DEVNULL if index else None,
                stderr=errors.get(index),
            )
        )
    before = signal.signal(signal.SIGTERM, lambda number, _: _send(workers, number))
    try:
        failed, code = _wait(workers)
    finally:
        signal.signal(signal.SIGTERM, before)
        _send(workers, signal.SIGKILL)
        for worker in workers:
            worker.communicate()
    if failed:
        errors[failed].seek(0)
        lines = errors[failed].read().decode(errors="replace").splitlines() or ["no message"]
        print(f"worker {failed} ended with exit code {code}: {lines[-1]}", file=sys.stderr)
    for file in errors.values():
        file.close()
    return code


def follow_parent() -> None:
    """Ends this process, if it is a local worker, when the one that started it has ended."""
    if VARIABLE not in os.environ:
        return

    def wait():
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _wait(workers) -> tuple[int, int]:
    """Waits for all processes; returns which failed first, if not the chief, and its exit code."""
    failed, code, deadline = 0, 0, float("inf")
    while time.monotonic() < deadline:
        codes = [worker.poll() for worker in workers]
        wrong = [index for index, code in enumerate(codes) if code not in (None, 0, PREEMPTED)]
        if wrong and not code:
            failed, code, deadline = wrong[0], codes[wrong[0]], time.monotonic() + GRACE
        if None not in codes:
            break
        time.sleep(0.05)
    code = code or max(worker.returncode or 0 for worker in workers)
    return failed, code if code >= 0 else 128 - code


def _send(workers, number):
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free_socket in sockets:
            free_socket.bind(("localhost", 0))
        return [free_socket.getsockname()[1] for free_socket in sockets]
    finally:
        for free_socket in sockets:
            free_socket.close()
