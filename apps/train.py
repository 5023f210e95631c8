"""Trains a model: `python -m apps.train --config=demo_translation --workdir=runs/demo`.

`--config` is the name of a file in pipelines/configs, or the path of your own; any key of it is
a flag, such as `--config.train.steps=2000`. The same command goes on with a run that was stopped.
"""

import json
import re
import runpy
import traceback
from collections.abc import Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

import pipelines.configs
from apps import program, tasks
from pipelines import training

CONFIG = config_flags.DEFINE_config_file("config", None, "Name or path of the run's config.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if it does not exist.")
PREVIEW = flags.DEFINE_string(
    "preview", None, "Picture of augmented training images to draw, instead of training."
)
REPLICAS = flags.DEFINE_integer(
    "replicas", 1, "Number of devices that share each batch (MirroredStrategy).", lower_bound=1
)


def main(_):
    config = CONFIG.value
    task = tasks.find(config.task)
    if PREVIEW.value is not None:
        if not hasattr(task, "preview"):
            raise ValueError(f"Expected a task of images with --preview, received {config.task!r}.")
        task.preview(config, PREVIEW.value)
        return
    if WORKDIR.value is None:
        raise ValueError("Expected a folder for the run: --workdir=DIR.")
    strategy = tasks.mirrored_strategy(REPLICAS.value)
    summary = training.train(task, config, WORKDIR.value, strategy)
    print(json.dumps(summary))


def with_config_path(arguments: Sequence[str]) -> list[str]:
    """Replaces `--config=NAME` or `--config NAME` by the path of the config of that name.

    Raises:
        ValueError: when there is no such config, or it cannot be loaded.
    """
    configs = {path.stem: path for path in Path(pipelines.configs.__path__[0]).glob("[a-z]*.py")}
    # Of one argument or two, of one dash or two.
    arguments = re.sub(r"(^|\0)--?config[=\0]", r"\1--config=", "\0".join(arguments)).split("\0")
    found = []
    for argument in arguments:
        if argument.startswith("--config="):
            name, colon, rest = argument.removeprefix("--config=").partition(":")
            path = configs.get(name, Path(name))
            if not path.is_file():
                known = ", ".join(sorted(configs))
                raise ValueError(f"Expected --config to be a file or one of {known}, not {name!r}.")
            _try(path, [rest] if colon else [])
            argument = f"--config={path}{colon}{rest}"
        found.append(argument)
    return found


def _try(path, arguments):
    """Runs a config file once, since ml_collections reports its mistakes at great length."""
    try:
        module = runpy.run_path(str(path))
        if "get_config" not in module:
            raise ValueError("there is no function get_config")
        config = module["get_config"](*arguments)
        if not isinstance(config, ml_collections.ConfigDict) or "task" not in config:
            raise ValueError("get_config does not return a config with a task")
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        if isinstance(error, SyntaxError):
            lines, error = [error.lineno], ValueError(error.msg)
        line = lines[-1] if lines else None
        where = f"{path} line {line}" if line else path
        raise ValueError(f"{where}: {program.sentence(error)}") from error


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    program.run(main, with_config_path)
