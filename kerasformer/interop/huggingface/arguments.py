"""Arguments of models of ours and keys of configs of transformers."""

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


def activation_of(name):
    """Returns our name of an activation of transformers.

    Raises:
        ValueError: for one that is not known.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Expected an activation of {sorted(ACTIVATIONS)}, received {name!r}.")
    return ACTIVATIONS[name]


def name_of_activation(activation):
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


def check_arguments(model, expected, without):
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
