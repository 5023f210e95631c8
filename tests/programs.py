"""Programs of `apps`, each as from a shell, for the time of loading TensorFlow once.

One process a worker loads it and copies itself for each program. It never uses TensorFlow itself,
so that a copy may do anything that the program does.
"""

import array
import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile

from apps import program, tasks  # noqa: F401  What the programs load, before they are copies.
from tests import ROOT


@functools.cache
def server() -> socket.socket:
    """Starts the process that is copied, and returns the socket on which it is asked."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.programs", str(theirs.fileno())],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def ask(question, *files) -> int:
    """Sends a question and open files to the process that is copied; returns its answer."""
    descriptors = array.array("i", [file.fileno() for file in files])
    server().sendall(f"{len(json.dumps(question)):9}".encode())
    socket.send_fds(server(), [json.dumps(question).encode()], descriptors)
    return json.loads(server().recv(99))


class Program:
    """A program that runs in a copy; its methods are those of `subprocess.Popen`.

    Args:
        command: the name of a program of `apps`, a module with a dot in its name, or a file
            that ends in `.py`; and its arguments.
        out, err: open files for what it writes.
        given: open file that it reads as its standard input; by default there is none.
        folder: where it runs.
        environment: what differs from the variables of this process.
    """

    def __init__(self, command, out, err, folder=ROOT, given=None, **environment):
        self.args, self.returncode = [str(word) for word in command], None
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        files = (out, err, given) if given else (out, err)
        self.pid = ask([self.args, str(folder), environment], *files)
        self.end = os.pidfd_open(self.pid)

    def wait(self, timeout=None) -> int:
        if self.returncode is None:
            if not select.select([self.end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            os.close(self.end)
            self.returncode = ask(self.pid)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)

    def send_signal(self, number):
        if self.poll() is None:
            signal.pidfd_send_signal(self.end, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def run(*commands: list, **options) -> list[subprocess.CompletedProcess]:
    """Runs programs one after the other to their ends; takes the options of `Program`."""
    results = []
    for command in commands:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            program = Program(command, out, err, **options)
            code = program.wait()
            texts = [file.seek(0) or file.read() for file in (out, err)]
            results.append(subprocess.CompletedProcess(program.args, code, *texts))
    return results


def become(command, folder, environment, out, err, given=None):
    """Runs a program in this process, which is a copy."""
    # A job in a shell's background ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(os.devnull) as nothing:
        for number, descriptor in enumerate((given or nothing.fileno(), out, err)):
            os.dup2(descriptor, number)
    # Those of the copied process remember what they wrote to, such as whether that could seek.
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    if command[0].endswith(".py"):
        runpy.run_path(command[0], run_name="__main__")
    else:
        name = command[0] if "." in command[0] else f"apps.{command[0]}"
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def main(client):
    """Answers a program with the number of its process, and such a number with its exit code."""
    gc.collect()
    gc.freeze()  # Spares each copy a second at its end.
    while size := client.recv(9):
        question, files, *_ = socket.recv_fds(client, int(size), 3)
        while len(question) < int(size):
            question += client.recv(int(size) - len(question))
        question = json.loads(question)
        if isinstance(question, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(question, 0)[1])
        else:
            answer = os.fork()
            if not answer:
                client.close()
                return become(*question, *files)
            for descriptor in files:
                os.close(descriptor)
        client.sendall(json.dumps(answer).encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
