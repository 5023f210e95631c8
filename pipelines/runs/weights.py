"""The weights of a run: what a checkpoint holds, and a model that has them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from pipelines.runs.checkpoints import WEIGHTS, Checkpoints
from pipelines.runs.folder import read_run, require_unchanged, saved_hashes


def load_run(
    find: Callable[[str], Any],
    workdir: str,
    weights: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tf.Module:
    """Loads what a run would export.

    Args:
        find: function from a name to the `training.task.Task` of that name.
        workdir: folder of the run.
        weights: as in `load_model`, or `None` for those that the config names.
        changes: values other than those of the config, as in `changed`.

    Returns:
        What `serving` of the task returns.

    Raises:
        ValueError: when there is no run, a value cannot be, or as in `load_model`.
    """
    task, config = read_run(find, workdir)
    config = changed(task, config, changes or {})
    model = load_model(task.build, config, workdir, weights or config.weights)
    return task.serving(model, config, workdir)


def changed(
    task: Any, config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """Returns the config of a run with other values, which its task has checked.

    Args:
        task: `training.task.Task`, the run's.
        config: the config, which stays as it is.
        changes: values by key, such as `"decode.beam_size"`.

    Raises:
        ValueError: for a part that the configs of the task do not have, or a value that cannot be.
    """
    if not changes:
        return config
    config = config.copy_and_resolve_references()
    with config.ignore_type():
        for key, value in changes.items():
            part, _, name = key.partition(".")
            if part not in config:
                raise ValueError(
                    f"Expected a run whose config has {key}, received one of {config.task}."
                )
            config[part][name] = value
    task.check(config)
    return config


def load_model(
    build: Callable, config: ml_collections.ConfigDict, workdir: str, weights: str
) -> keras.Model:
    """Builds the model of a run and gives it the weights of its checkpoints.

    Args:
        build: `build` of the run's task.
        config: the resolved config of the run.
        workdir: folder of the run.
        weights: `"average"` of the kept checkpoints, `"best"` by validation, or `"last"`. With a
            moving average (`train.ema`) its weights are taken in place of the trained ones.

    Returns:
        The Keras model.

    Raises:
        ValueError: when there is no checkpoint, it does not fit the model, or a prepared file
            is not the one that it was trained with.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"Expected weights to be one of {WEIGHTS}, received weights={weights!r}.")
    folder = Path(workdir) / "checkpoints"
    checkpoints = Checkpoints(folder / "best" if weights == "best" else folder)
    last = config.train.keep_checkpoints if weights == "average" else 1
    arrays, state = checkpoints.average(last)
    require_unchanged(workdir, saved_hashes(state))
    model = build(config, workdir)
    if config.train.ema:
        averages = {name: x for name, x in arrays.items() if name.startswith("ema/")}
        arrays |= {name.removeprefix("ema/"): x for name, x in averages.items()}
    assign(model_variables(model), arrays)
    return model


def model_variables(model: keras.Model) -> dict:
    """Lists a model's variables, random states included, under names made of their order.

    Args:
        model: a built Keras model.

    Returns:
        Dict from names such as `model/0007` to the variables.
    """
    return {f"model/{index:04d}": variable for index, variable in enumerate(model.variables)}


def assign(variables: dict, arrays: dict[str, np.ndarray]) -> None:
    """Sets variables by name, all or none.

    Args:
        variables: Keras or TensorFlow variables by name.
        arrays: numpy arrays by name; further names are ignored.

    Raises:
        ValueError: when an array is missing or of another shape; nothing has been set then.
    """
    for name, variable in variables.items():
        shape = arrays[name].shape if name in arrays else None
        if shape != tuple(variable.shape):
            raise ValueError(
                f"The checkpoint does not fit the model: expected {name} of shape "
                f"{tuple(variable.shape)}, received {shape}."
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])
