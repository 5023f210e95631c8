"""Optimizers with a learning rate for each block, which those of Keras do not have.

Weight decay is decoupled as in AdamW; it is here because it follows the rate of its block.
"""

import re

import keras
import tensorflow as tf


class LayerRates:
    """Decays matrices, and gives early blocks a lower learning rate than late ones.

    Stands before an optimizer of Keras among the bases of a class. Only variables called `kernel`
    decay: no bias, scale, token, position or embedding. The factor of the learning rate is
    `layer_decay` to the power of the number of blocks above a variable. Variables before the first
    block count as one more block, those behind the last have factor 1.

    Args:
        learning_rate: float or schedule.
        variables: the trainable variables in the order of the model.
        weight_decay: float, or function of the number of updates made. Share of a matrix that is
            subtracted at each step, times the learning rate; 0 for none.
        layer_decay: float in `(0, 1]`. 1 lets all blocks learn alike.
        **kwargs: passed to the optimizer of Keras.

    References:
        - [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1711.05101), algorithm 2
        - [Bao et al., 2021](https://arxiv.org/abs/2106.08254), layer-wise decay
    """

    def __init__(self, learning_rate, variables, weight_decay=0.0, layer_decay=1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        factors = rate_factors([v.path for v in variables], layer_decay)
        # By the variables that `update_step` gets: TensorFlow's, of each replica of this process.
        local_parts = tf.distribute.get_strategy().experimental_local_results
        self.rates_and_decays = {
            part.ref(): (factors[v.path], weight_decay or None if v.name == "kernel" else None)
            for v in variables
            for part in local_parts(v.value)
        }
        self.build(variables)

    def update_step(self, gradient, variable, learning_rate):
        factor, decay = self.rates_and_decays[variable.ref()]
        rate = learning_rate * factor
        if decay is not None:
            decay = decay(self.iterations) if callable(decay) else decay
            self.assign_sub(variable, variable * (rate * decay))
        super().update_step(gradient, variable, rate)


class AdamW(LayerRates, keras.optimizers.Adam):
    """Adam with decoupled weight decay; its arguments are those of `LayerRates` and of Adam."""


class SGD(LayerRates, keras.optimizers.SGD):
    """Gradient descent with momentum; its arguments are those of `LayerRates` and of SGD."""


def make_optimizer(train, learning_rate, variables, weight_decay):
    """Makes the optimizer of a config.

    Args:
        train: `config.train`. `beta_1` is the momentum of `optimizer="sgd"`, which reads neither
            `beta_2` nor `epsilon`.
        learning_rate: float or schedule.
        variables: the trainable variables in the order of the model.
        weight_decay: float, or function of the number of updates made.

    Returns:
        An optimizer of Keras, built.

    Example:

    >>> import ml_collections
    >>> train = ml_collections.ConfigDict({"optimizer": "sgd", "beta_1": 0.9, "layer_decay": 1.0})
    >>> make_optimizer(train, 0.03, [], 0.0).momentum
    0.9
    """
    arguments = (learning_rate, variables, weight_decay, train.layer_decay)
    if train.optimizer == "sgd":
        return SGD(*arguments, momentum=train.beta_1)
    return AdamW(*arguments, **{key: train[key] for key in ("beta_1", "beta_2", "epsilon")})


def rate_factors(paths: list[str], layer_decay: float) -> dict[str, float]:
    """Computes the factor of the learning rate of each variable.

    Args:
        paths: paths of the variables, in the order of the model; those of the i-th block of an
            encoder or decoder have `block_i` in them.
        layer_decay: factor from one block to the one before it.

    Returns:
        Dict from path to factor.

    Example:

    >>> rate_factors(["stem/kernel", "block_0/kernel", "block_1/kernel", "head/kernel"], 0.5)
    {'stem/kernel': 0.125, 'block_0/kernel': 0.25, 'block_1/kernel': 0.5, 'head/kernel': 1.0}
    """
    matches = [re.search(r"\bblock_(\d+)\b", path) for path in paths]
    blocks = [int(match[1]) + 1 if match else None for match in matches]
    last = max((block for block in blocks if block is not None), default=0)
    factors, seen_block = {}, False
    for path, block in zip(paths, blocks, strict=True):
        seen_block = seen_block or block is not None
        depth = block if block is not None else (last + 1 if seen_block else 0)
        factors[path] = layer_decay ** (last + 1 - depth)
    return factors
