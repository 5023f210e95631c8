"""Trains a model: `python -m apps.train --config=demo_translation --workdir=runs/demo`.

`--config` is the name of a file in pipelines/configs, or the path of your own; any key of it is
a flag, such as `--config.train.steps=2000`. The same command resumes a run that was stopped.
After SIGTERM the steps under way end, the run is saved, and the exit code is 143.

`--strategy` chooses the devices that share each batch: see docs/distributed.md.
"""

import json
import os
import re
import sys

from absl import flags

import pipelines.configs
from apps import program, tasks
from pipelines.distribution import local_workers, strategies
from pipelines.runs.config_file import load_config, overrides_first
from pipelines.training import dry_run, loop, settings

CONFIG = flags.DEFINE_string("config", None, "Name or path of the run's config.", required=True)
OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "KEY=VALUE: a key of the config. --config.KEY=VALUE is the same."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if it does not exist.")
STRATEGY = flags.DEFINE_string(
    "strategy",
    "auto",
    "Devices that share each batch: one; mirrored, all GPUs of this machine; mirrored:N, the first "
    "N, or N parts of the processor; multiworker, the machines that TF_CONFIG or Slurm names; tpu; "
    "or auto, which chooses one of these by the environment and the machine.",
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Instead of training, print parameters, memory, time and the first batch, or draw the images "
    "of the first batches.",
)
LOCAL_WORKERS = flags.DEFINE_integer(
    "local_workers", 1, "Number of processes on this machine that train together.", lower_bound=1
)
ALLOW_CHANGES = flags.DEFINE_bool(
    "allow_changes", False, "Resume a run although its config or its data has changed."
)
PROFILE = flags.DEFINE_string(
    "profile", None, "START:STOP, steps between which to run the profiler, for TensorBoard."
)


def main(_):
    config = _config()
    task = tasks.find(config.task)
    if WORKDIR.value is None:
        raise ValueError("Expected a folder for the run: --workdir=DIR.")
    profile = _steps(PROFILE.value)
    several = LOCAL_WORKERS.value > 1
    if several and (DRY_RUN.value or STRATEGY.value not in ("auto", "multiworker")):
        flag = "--dry_run" if DRY_RUN.value else f"--strategy={STRATEGY.value}"
        raise ValueError(f"Expected --local_workers={LOCAL_WORKERS.value} without {flag}.")
    if DRY_RUN.value:
        dry_run.dry_run(task, config, WORKDIR.value, strategies.make(STRATEGY.value))
        return 0
    if several and local_workers.VARIABLE not in os.environ:
        command = [sys.executable, "-m", "apps.train", *sys.argv[1:]]
        return local_workers.run(command, LOCAL_WORKERS.value)
    local_workers.follow_parent()
    strategy = strategies.make("multiworker" if several else STRATEGY.value)
    options = {"allow_changes": ALLOW_CHANGES.value, "profile": profile}
    try:
        summary = loop.train(task, config, WORKDIR.value, strategy, **options)
    except loop.Preempted as error:
        print(error, file=sys.stderr)
        return local_workers.PREEMPTED
    print(json.dumps(summary))
    return 0


def _steps(text):
    """Reads `START:STOP`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"Expected --profile=START:STOP with START < STOP, received {text!r}.")
    return int(match[1]), int(match[2])


def _config():
    folder = pipelines.configs.__path__[0]
    try:
        return load_config(CONFIG.value, folder, OVERRIDE.value, settings.EITHER)
    except ValueError as error:
        raise flags.IllegalFlagValueError(str(error)) from error


if __name__ == "__main__":
    program.run(main, overrides_first)
