"""The weights of a run: what a checkpoint holds, and a model that has them."""

from collections.abc import Callable
from pathlib import Path

import keras
import ml_collections
import numpy as np

from pipelines.runs.checkpoints import WEIGHTS, Checkpoints
from pipelines.runs.folder import require_unchanged, saved_hashes


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
