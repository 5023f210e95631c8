"""Where numbers stop being finite: in the weights, a layer's outputs, the loss or a gradient."""

import tensorflow as tf


def first_not_finite(trainer, batches: tf.data.Dataset) -> str:
    """Says where a step on some batches first gives what is not finite.

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
        if watch.found:
            return f"the first layer with outputs that are not finite is {watch.found}"
        if not _is_finite(loss):
            return "the outputs of all layers are finite, and the loss is not"
        variables = trainer.model.trainable_variables
        gradients = tape.gradient(mean, [variable.value for variable in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is not None and not _is_finite(tf.convert_to_tensor(gradient)):
                return f"the loss is finite, and the gradient of {variable.path} is not"
    return "everything is finite when it is computed again, so that dropout or a sum overflowed"


class _Watch:
    """Looks at what each layer of a model returns, for the length of a `with` block."""

    def __init__(self, model):
        self.layers = [layer for layer in model._flatten_layers() if layer is not model]
        self.own_calls = [vars(layer).get("call") for layer in self.layers]
        self.found = None

    def __enter__(self):
        for layer in self.layers:
            layer.call = self._watched(layer)
        return self

    def __exit__(self, *error):
        for layer, own_call in zip(self.layers, self.own_calls, strict=True):
            del layer.call  # That of the class is back.
            if own_call is not None:  # That of a block that is rematerialized.
                layer.call = own_call

    def _watched(self, layer):
        call = layer.call

        def watched(*args, **kwargs):
            outputs = call(*args, **kwargs)
            tensors = [x for x in tf.nest.flatten(outputs) if tf.is_tensor(x)]
            # What lies inside returns first, so that the innermost layer is named.
            if self.found is None and not all(map(_is_finite, tensors)):
                self.found = layer.path
            return outputs

        return watched


def _is_finite(tensor):
    return not tensor.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(tensor)))
