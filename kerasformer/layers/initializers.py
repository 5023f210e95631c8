"""Initializers that a config can name and several weights can share, and the layers they start."""

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


def make_dense(owner, units, name):
    """Makes a child that projects the last axis, as the arguments of its owner say.

    Args:
        owner: Keras layer with `use_bias`, `kernel_initializer` and `bias_initializer`.
        units: int. Size of the outputs.
        name: str. Name of the child.

    Returns:
        `keras.layers.Dense` of the dtype policy of the owner, with initializers of its own.

    Example:

    >>> from kerasformer.layers import FeedForward
    >>> make_dense(FeedForward(4, 8, use_bias=False), 3, "more_dense").use_bias
    False
    """
    return keras.layers.Dense(
        units,
        use_bias=owner.use_bias,
        kernel_initializer=clone_initializer(owner.kernel_initializer),
        bias_initializer=clone_initializer(owner.bias_initializer),
        name=name,
        dtype=owner.dtype_policy,
    )
