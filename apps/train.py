"""Trains a model: `python -m apps.train --config=demo_translation --workdir=runs/demo`.

`--config` is the name of a file in pipelines/configs, or the path of your own; any key of it is
a flag, such as `--config.train.steps=2000`. The same command goes on with a run that was stopped.
"""

import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

import pipelines.configs
from apps import program, tasks
from pipelines import training

CONFIG = config_flags.DEFINE_config_file("config", None, "Name or path of the run's config.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if it does not exist.")
REPLICAS = flags.DEFINE_integer(
    "replicas", 1, "Number of devices that share each batch (MirroredStrategy).", lower_bound=1
)


def main(_):
    config = CONFIG.value
    strategy = tasks.mirrored_strategy(REPLICAS.value)
    summary = training.train(tasks.find(config.task), config, WORKDIR.value, strategy)
    print(json.dumps(summary))


def with_config_path(arguments: list[str]) -> list[str]:
    """Replaces `--config=NAME` or `--config NAME` by the path of the config of that name."""
    folder = Path(pipelines.configs.__path__[0])
    arguments = "\0".join(arguments).replace("--config\0", "--config=").split("\0")
    found = []
    for argument in arguments:
        name, _, rest = argument.removeprefix("--config=").partition(":")
        path = folder / f"{name}.py"
        if argument.startswith("--config=") and path.exists():
            argument = f"--config={path}" + (f":{rest}" if rest else "")
        found.append(argument)
    return found


if __name__ == "__main__":
    sys.argv = with_config_path(sys.argv)
    flags.mark_flags_as_required(["config", "workdir"])
    program.run(main)
