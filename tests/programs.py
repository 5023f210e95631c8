"""Several commands of `apps`, each as from a shell, for the time of loading TensorFlow once.

One process loads it and copies itself for each command, for all tests of a worker. It never uses
TensorFlow itself, so that a copy may do anything that the program does.
"""

import atexit
import functools
import json
import os
import runpy
import subprocess
import sys
import tempfile

from apps import program, tasks  # noqa: F401  What the programs load, before they are copies.
from tests import ROOT


@functools.cache
def server() -> subprocess.Popen:
    """Starts the process that is copied; it ends with its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.programs"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)
    return process


def run(*commands: list, folder: str | os.PathLike = ROOT) -> list[subprocess.CompletedProcess]:
    """Runs commands one after the other in a folder.

    Args:
        commands: lists of the name of a program and its arguments.
        folder: where they run.
    """
    commands = [[str(word) for word in command] for command in commands]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    print(json.dumps([str(folder), environment, commands]), file=server().stdin, flush=True)
    results = json.loads(server().stdout.readline())
    return [
        subprocess.CompletedProcess(command, *result)
        for command, result in zip(commands, results, strict=True)
    ]


def become(name, arguments, folder, environment, out, err):
    """Runs a program in this process, which is a copy."""
    for number, file in enumerate((open(os.devnull), out, err)):
        os.dup2(file.fileno(), number)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = [name, *arguments]
    runpy.run_module(f"apps.{name}", run_name="__main__", alter_sys=True)


def main():
    for line in sys.stdin:
        folder, environment, commands = json.loads(line)
        results = []
        for name, *arguments in commands:
            with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
                pid = os.fork()
                if not pid:
                    return become(name, arguments, folder, environment, out, err)
                _, status = os.waitpid(pid, 0)
                texts = [file.seek(0) or file.read() for file in (out, err)]
                results.append([os.waitstatus_to_exitcode(status), *texts])
        print(json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
