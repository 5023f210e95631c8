"""Saves memory at the cost of time: a block computes its outputs again for its gradient."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from kerasformer.layers import Decoder, DecoderBlock, Encoder, EncoderBlock


def rematerialize(model: keras.Model) -> None:
    """Makes every encoder and decoder block of a model keep nothing but its inputs in training.

    Unlike `keras.RematScope`, with which dropout drops other numbers the second time so that the
    gradient is wrong, each block draws the same random numbers again.

    Args:
        model: a built Keras model; it stays changed.

    References:
        - [Chen et al., 2016](https://arxiv.org/abs/1604.06174), section 3
    """
    for block in blocks(model):
        block.call = _Recomputed(block)


def blocks(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the encoder and decoder blocks of a model and of the models and stacks in it."""
    for layer in model.layers:
        if isinstance(layer, (EncoderBlock, DecoderBlock)):
            yield layer
        elif isinstance(layer, (Encoder, Decoder)):
            yield from layer.blocks
        elif isinstance(layer, keras.Model):
            yield from blocks(layer)


class _IsTraining(keras.layers.Layer):
    """Asks Keras whether the call under way is of training."""

    def __init__(self):
        super().__init__(autocast=False)
        self.supports_masking = True
        self.training = None

    def call(self, inputs, training=None):
        self.training = training
        return inputs


class _Recomputed:
    """Stands in for the `call` of a block."""

    def __init__(self, block):
        self.block, self.block_call, self.is_training = block, block.call, _IsTraining()
        self.random_states = [v for v in block.variables if v.name == "seed_generator_state"]
        self.is_inside = False

    def __call__(self, *args, **kwargs):
        if self.is_inside:
            return self.block_call(*args, **kwargs)
        self.is_training(args[0])
        training = self.is_training.training
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
            for index, tensor in zip(floats, tensors, strict=True):
                values[index] = tensor
            args, kwargs = tf.nest.pack_sequence_as(given, values)
            self.is_inside = True
            try:  # Through the front door once more, which casts variables to the compute dtype.
                return self.block(*args, **kwargs, training=training)
            finally:
                self.is_inside = False

        return compute(*(flat[index] for index in floats))
