"""Batch normalisation: its moving averages, and statistics of the whole batch on each replica."""

import keras

from kerasformer.layers.children import layers_inside


def synchronize(model: keras.Model) -> None:
    """Makes each batch normalisation of a model use the rows of all replicas.

    Keras's layers use those of their own replica, and each replica keeps moving averages of its
    own, of which a checkpoint would hold the first. With this, replicas compute what one device
    computes of the same batch.

    Args:
        model: a built Keras model; it stays changed.
    """
    for layer in layers_inside(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def moving_averages(model: keras.Model) -> list:
    """Lists what the loss of a step changes: the moving averages of batch normalisations.

    Other variables whose names begin with `moving_` are meant too, see `Task.loss`.

    Args:
        model: a built Keras model.

    Returns:
        List of Keras variables, in the order of `model.variables`.
    """
    return [
        variable
        for variable in model.non_trainable_variables
        if variable.name.startswith("moving_")
    ]
