"""Arguments of models of ours and keys of configs of transformers."""

from collections.abc import Collection, Mapping
from typing import Any

import keras

# What transformers calls an activation, and what we do.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

# Arguments of models and blocks that change nothing once a model is trained.
TRAINING = (
    "name",
    "trainable",
    "dtype",
    "seed",
    "kernel_initializer",
    "bias_initializer",
    "stochastic_depth",
    "activation_dropout",
)


def activation_of(name: str) -> str:
    """Returns our name of an activation of transformers.

    Raises:
        ValueError: for one that is not known.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Expected an activation of {sorted(ACTIVATIONS)}, received {name!r}.")
    return ACTIVATIONS[name]


def name_of_activation(activation: str) -> str:
    """Returns what transformers calls an activation of ours.

    Raises:
        ValueError: for one that it lacks.
    """
    names = [name for name, ours in ACTIVATIONS.items() if ours == activation]
    if not names:
        raise ValueError(
            f"Expected an activation of {sorted(set(ACTIVATIONS.values()))}, received "
            f"activation={activation!r}."
        )
    return names[0]


def architecture_of(config: Mapping[str, Any], stem: str, endings: Collection[str]) -> str:
    """Returns what the name of the class ends with that a config is of.

    Args:
        config: dict.
        stem: str. What the names of the classes of the family begin with.
        endings: tuple of str, those that a model of ours can be; the first stands for a config
            that names no class.

    Returns:
        One of `endings`.

    Raises:
        ValueError: for another class.
    """
    name = (config.get("architectures") or [stem + endings[0]])[0]
    if name not in [stem + ending for ending in endings]:
        raise ValueError(
            f"Expected an architecture of {[stem + ending for ending in endings]}, received "
            f"{name!r}."
        )
    return name.removeprefix(stem)


def read_arguments(
    config: Mapping[str, Any], keys: Mapping[str, str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads arguments of a model of ours from a config.

    Args:
        config: dict.
        keys: dict of the keys in the config by the names of the arguments.
        defaults: dict of what the arguments are whose keys a config may lack.

    Returns:
        Dict of arguments by name.

    Raises:
        KeyError: for a key that is missing and has no default.
    """
    return {
        ours: config.get(theirs, defaults[ours]) if ours in defaults else config[theirs]
        for ours, theirs in keys.items()
    }


def check_fixed(config: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Compares a config with what must be so in it.

    Args:
        config: dict.
        fixed: dict of values by their keys, which a config may lack.

    Raises:
        ValueError: for a key with another value.
    """
    for key, expected in fixed.items():
        if config.get(key, expected) != expected:
            raise ValueError(f"Expected {key}={expected!r}, received {key}={config[key]!r}.")


def check_text_model(
    model: keras.Model, expected: keras.Model, without: Collection[str] = ()
) -> None:
    """Compares a `BERT` or a `LanguageModel` with the one that a config of transformers makes.

    Args:
        model: Keras model.
        expected: a model of the same class, made of the config.
        without: names of arguments that may differ.

    Raises:
        ValueError: for an argument that differs, which the config cannot say.
    """
    if model.max_length is None:
        raise ValueError("Expected learned positions, received max_length=None.")
    check_arguments(model, expected, (*TRAINING, *without, *model.block_arguments))
    check_arguments(model.encoder, expected.encoder, TRAINING)


def check_arguments(model: keras.Model, expected: keras.Model, without: Collection[str]) -> None:
    """Compares a model with the one that a config of transformers makes.

    Args:
        model: Keras model.
        expected: a model of the same class, made of the config.
        without: names of arguments that may differ.

    Raises:
        ValueError: for an argument that differs, which the config cannot say.
    """
    given, told = model.get_config(), expected.get_config()
    for key in sorted((given.keys() | told.keys()) - set(without)):
        if _plain(given.get(key)) != _plain(told.get(key)):
            raise ValueError(
                f"No such model of transformers has {key}={given.get(key)!r}, but "
                f"{key}={told.get(key)!r}."
            )


def _plain(value):
    """Makes a tuple and a pair of equal numbers alike, so that 32 is (32, 32)."""
    if isinstance(value, (list, tuple)):
        value = tuple(value)
        return value[0] if len(value) == 2 and value[0] == value[1] else value
    return value
