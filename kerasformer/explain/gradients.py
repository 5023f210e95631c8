"""Saliency: how much each pixel of an image moves a score, by gradients, on every Keras backend.

Letters: `B` batch, `h` height, `w` width, `c` channels.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasformer.layers.children import child_seed

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "torch":
    import torch
elif BACKEND == "jax":
    import jax


def input_gradient(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Differentiates a score of each example by the example.

    Args:
        function: from a tensor like `inputs` to a float tensor `(B,)`, whose numbers each depend on
            one example alone, as those of a model that is called with `training=False`.
        inputs: float tensor or array `(B, ...)`.

    Returns:
        Float tensor of the shape and dtype of `inputs`; zeros where the score depends on none.

    Raises:
        ValueError: on a backend of Keras that has no gradients.

    Example:

    >>> x = ops.array([[1.0, 2.0], [3.0, 4.0]])
    >>> ops.convert_to_numpy(input_gradient(lambda x: x[:, 0] * x[:, 1], x)).tolist()
    [[2.0, 1.0], [4.0, 3.0]]

    References:
        - [Simonyan et al., 2013](https://arxiv.org/abs/1312.6034), section 3
    """
    inputs = ops.convert_to_tensor(inputs)
    if BACKEND == "tensorflow":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            total = ops.sum(function(inputs))
        return tape.gradient(total, inputs, unconnected_gradients="zero")
    if BACKEND == "jax":
        return jax.grad(lambda x: ops.sum(function(x)))(inputs)
    if BACKEND == "torch":
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_()
            total = ops.sum(function(inputs))
            if not total.requires_grad:  # It depends on neither the inputs nor a weight.
                return torch.zeros_like(inputs).detach()
            (gradient,) = torch.autograd.grad(total, inputs, materialize_grads=True)
        return gradient
    raise ValueError(f"Expected a backend with gradients, received KERAS_BACKEND={BACKEND}.")


def smoothed(
    function: Callable[[Any], Any],
    inputs: Any,
    noise: float = 0.15,
    samples: int = 25,
    seed: int = 0,
) -> Any:
    """Averages what a function makes of noisy copies of its inputs.

    With a function that is a gradient this is SmoothGrad, whose maps show fewer single points.

    Args:
        function: from a tensor like `inputs` to a float tensor, such as
            `lambda images: input_gradient(score, images)`; it may be compiled, because it is called
            once for each copy.
        inputs: float tensor or array `(B, ...)`.
        noise: float. Standard deviation of the normal noise, as a share of the range of each
            example, from its smallest to its largest number.
        samples: int. Number of copies.
        seed: int. The same noise comes of the same seed.

    Returns:
        Float tensor, the mean over the copies.

    Raises:
        ValueError: for a negative `noise`, or less than one copy.

    Example:

    >>> x = ops.array([[1.0, 2.0], [3.0, 4.0]])
    >>> gradient = lambda x: input_gradient(lambda x: x[:, 0] - 2 * x[:, 1], x)
    >>> ops.convert_to_numpy(smoothed(gradient, x, samples=4)).tolist()
    [[1.0, -2.0], [1.0, -2.0]]

    References:
        - [Smilkov et al., 2017](https://arxiv.org/abs/1706.03825)
    """
    if not 0 <= noise or samples < 1:
        raise ValueError(
            "Expected noise of at least 0 and samples of at least 1, received "
            f"noise={noise} and samples={samples}."
        )
    inputs = ops.convert_to_tensor(inputs)
    axes = tuple(range(1, len(inputs.shape)))
    lowest, highest = (f(inputs, axis=axes, keepdims=True) for f in (ops.min, ops.max))
    scale, total = noise * (highest - lowest), 0.0
    for index in range(samples):
        drawn = keras.random.normal(
            ops.shape(inputs), dtype=inputs.dtype, seed=child_seed(seed, f"sample_{index}")
        )
        total = total + function(inputs + scale * drawn)
    return total / samples


def saliency(gradients: Any) -> Any:
    """Makes a map of gradients: of each pixel the largest size among its channels.

    Args:
        gradients: float tensor `(B, h, w, c)`, from `input_gradient` or `smoothed`.

    Returns:
        float32 tensor `(B, h, w)`, at least 0.

    Example:

    >>> float(saliency(ops.array([[[[1.0, -3.0]]]]))[0, 0, 0])
    3.0

    References:
        - [Simonyan et al., 2013](https://arxiv.org/abs/1312.6034), section 3.1
    """
    return ops.max(ops.abs(ops.cast(gradients, "float32")), axis=-1)
