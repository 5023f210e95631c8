"""Initializers that a config can name, and that several weights can share."""

import keras


def clone_initializer(identifier):
    """Returns an initializer for one more weight.

    An initializer object draws the same numbers each time it is used, so that weights of one shape
    would start equal.

    Args:
        identifier: Keras initializer, its name or its config.

    Returns:
        A clone of an object with a seed of its own, unless it was made with one; a name or a config
        as it is.

    Example:

    >>> clone_initializer("zeros")
    'zeros'
    """
    is_object = isinstance(identifier, keras.initializers.Initializer)
    return identifier.clone() if is_object else identifier


def serialize_initializer(identifier):
    """Makes an initializer fit for `get_config`.

    Args:
        identifier: Keras initializer, its name or its config, or `None`.

    Returns:
        The name or the config as it is, an object or a function as Keras serialises it.

    Example:

    >>> serialize_initializer("glorot_uniform")
    'glorot_uniform'
    """
    return keras.saving.serialize_keras_object(identifier) if callable(identifier) else identifier
