"""Activations that a config can name."""

import keras


@keras.saving.register_keras_serializable(package="kerasformer")
def gelu_tanh(x):
    """Computes the tanh approximation of GELU; `"gelu"` is the exact one.

    Args:
        x: float tensor of any shape.

    Returns:
        Float tensor of the same shape and dtype.

    Example:

    >>> round(float(gelu_tanh(ops.array(1.0))), 4)
    0.8412

    References:
        - [Hendrycks and Gimpel, 2016](https://arxiv.org/abs/1606.08415), section 2
    """
    return keras.activations.gelu(x, approximate=True)


def get_activation(identifier):
    """Finds an activation: any name or function that Keras knows, or `"gelu_tanh"`.

    Args:
        identifier: str, dict or callable.

    Returns:
        A function of one tensor.

    Raises:
        ValueError: when Keras does not know the name.

    Example:

    >>> get_activation("gelu_tanh") is gelu_tanh
    True
    """
    return gelu_tanh if identifier == "gelu_tanh" else keras.activations.get(identifier)


def serialize_activation(identifier):
    """Makes an activation fit for `get_config`.

    Args:
        identifier: str, dict or callable.

    Returns:
        The name or the dict as it is, a function as Keras serialises it.

    Example:

    >>> serialize_activation("relu")
    'relu'
    """
    return keras.saving.serialize_keras_object(identifier) if callable(identifier) else identifier
