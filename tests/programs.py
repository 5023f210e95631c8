"""Several commands of `apps`, each as from a shell, for the time of loading TensorFlow once.

A process loads it and copies itself for each command. That is enough for a program that says what
is wrong, or what its flags are; one that trains is better started by itself.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile

from apps import program, tasks  # noqa: F401  What the programs load, before they are copies.
from tests import ROOT


def run(*commands: list, folder: str | os.PathLike = ROOT) -> list[subprocess.CompletedProcess]:
    """Runs commands one after the other in a folder.

    Args:
        commands: lists of the name of a program and its arguments.
        folder: where they run.
    """
    commands = [[str(word) for word in command] for command in commands]
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs", json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return [
        subprocess.CompletedProcess(command, *one)
        for command, one in zip(commands, found, strict=True)
    ]


def main(commands):
    found = []
    for name, *arguments in commands:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            pid = os.fork()
            if not pid:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.argv = [name, *arguments]
                runpy.run_module(f"apps.{name}", run_name="__main__", alter_sys=True)
                return
            _, status = os.waitpid(pid, 0)
            texts = [file.seek(0) or file.read() for file in (out, err)]
            found.append([os.waitstatus_to_exitcode(status), *texts])
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
