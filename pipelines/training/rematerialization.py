"""Memory for time: what a block computes is forgotten, and computed again for its gradient."""

import keras
import tensorflow as tf

from kerasformer.layers import DecoderBlock, EncoderBlock


def rematerialize(model: keras.Model) -> None:
    """Makes every encoder and decoder block of a model keep nothing but its inputs in training.

    Unlike `keras.RematScope`, with which dropout drops other numbers the second time so that the
    gradient is wrong, each block draws the same random numbers again.

    Args:
        model: a built Keras model; it stays changed.

    References:
        - [Chen et al., 2016](https://arxiv.org/abs/1604.06174), section 3
    """
    for layer in model._flatten_layers():
        if isinstance(layer, (EncoderBlock, DecoderBlock)):
            layer.call = _Recomputed(layer)


class _Recomputed:
    """Stands in for the `call` of a block."""

    def __init__(self, block):
        self.block, self.own_call = block, block.call
        self.random_states = [v for v in block.variables if v.name == "seed_generator_state"]
        self.is_inside = False

    def __call__(self, *args, **kwargs):
        if self.is_inside:
            return self.own_call(*args, **kwargs)
        training = self.block._get_call_context().get_value("training")
        given = (args, kwargs)
        flat = tf.nest.flatten(given)
        # What has a gradient: neither masks nor positions.
        floats = [i for i, x in enumerate(flat) if tf.is_tensor(x) and x.dtype.is_floating]
        states = [tf.identity(variable.value) for variable in self.random_states]

        @tf.recompute_grad
        def compute(*tensors):
            for variable, state in zip(self.random_states, states, strict=True):
                variable.assign(state)
            values = list(flat)
            for place, tensor in zip(floats, tensors, strict=True):
                values[place] = tensor
            args, kwargs = tf.nest.pack_sequence_as(given, values)
            self.is_inside = True
            try:  # Through the front door once more, which casts variables to the compute dtype.
                return self.block(*args, **kwargs, training=training)
            finally:
                self.is_inside = False

        return compute(*(flat[place] for place in floats))
