"""Where numbers stop being finite: in the weights, a layer's outputs, the loss or a gradient."""

import keras
import tensorflow as tf

from pipelines.training.trainer import Trainer


def first_not_finite(trainer: Trainer, batches: tf.data.Dataset) -> str:
    """Finds where a step on some batches first gives numbers that are not finite.

    Args:
        trainer: `Trainer`, with the weights of before the step.
        batches: the batches of the step.

    Returns:
        A part of a sentence.
    """
    for variable in trainer.model.variables:
        if not _is_finite(variable.value):
            return f"the weights {variable.path} are not finite before it"
    for batch in batches:
        with tf.GradientTape() as tape, _Watch(trainer.model) as watch:
            loss, items = trainer.task.loss(trainer.model, batch, trainer.config)
            mean = loss / tf.maximum(items, 1.0)
        if watch.path:
            return f"the first layer with outputs that are not finite is {watch.path}"
        if not _is_finite(loss):
            return "the outputs of all layers are finite, and the loss is not"
        variables = trainer.model.trainable_variables
        gradients = tape.gradient(mean, [variable.value for variable in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is not None and not _is_finite(tf.convert_to_tensor(gradient)):
                return f"the loss is finite, and the gradient of {variable.path} is not"
    return "everything is finite when it is computed again, so that dropout or a sum overflowed"


class _Watch:
    """Looks at what every layer returns, for the length of a `with` block.

    Attributes:
        path: path of the first layer with outputs that are not finite, or `None`.
    """

    def __init__(self, model: keras.Model):
        self.model, self.path = model, None

    def __enter__(self):
        self.call = call = keras.layers.Layer.__call__

        def watched(layer, *args, **kwargs):
            outputs = call(layer, *args, **kwargs)
            tensors = [x for x in tf.nest.flatten(outputs) if tf.is_tensor(x)]
            # What lies inside returns first, so that the innermost layer is named.
            if self.path is None and layer is not self.model and not all(map(_is_finite, tensors)):
                self.path = layer.path
            return outputs

        keras.layers.Layer.__call__ = watched
        return self

    def __exit__(self, *error):
        keras.layers.Layer.__call__ = self.call


def _is_finite(tensor):
    return not tensor.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(tensor)))
