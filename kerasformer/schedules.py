"""Learning rates that rise during a warm-up and then fall, and half a cosine for other numbers.

Inside a schedule steps count from 1: Keras's step 0, the first update, is `t = 1`.
"""

import math

import keras
from keras import ops


class _WarmUpSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Calls `_rate(t)`, the formula of a subclass, with the step `t` as a float from 1."""

    _arguments = ()

    def __call__(self, step):
        return self._rate(ops.cast(step, "float32") + 1.0)

    def get_config(self):
        return {name: getattr(self, name) for name in self._arguments}


def _check_positive(**arguments):
    for name, value in arguments.items():
        if value <= 0:
            raise ValueError(f"Expected {name} to be positive, received {name}={value}.")


@keras.saving.register_keras_serializable(package="kerasformer")
class InverseSquareRoot(_WarmUpSchedule):
    """Rises linearly to `peak` in `warmup_steps`, then falls as `sqrt(warmup_steps / t)`.

    Args:
        peak: float. The highest rate, reached at step `warmup_steps`.
        warmup_steps: int. Length of the warm-up.

    Example:

    >>> schedule = InverseSquareRoot(peak=0.1, warmup_steps=4)
    >>> [round(float(schedule(step)), 3) for step in (0, 3, 15)]
    [0.025, 0.1, 0.05]

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), equation 3, by its peak
    """

    _arguments = ("peak", "warmup_steps")

    def __init__(self, peak, warmup_steps):
        _check_positive(peak=peak, warmup_steps=warmup_steps)
        self.peak = peak
        self.warmup_steps = warmup_steps

    def _rate(self, t):
        warmup = float(self.warmup_steps)
        return self.peak * ops.minimum(t / warmup, ops.sqrt(warmup / t))


@keras.saving.register_keras_serializable(package="kerasformer")
class Noam(_WarmUpSchedule):
    """Computes `scale * hidden_dim^-0.5 * min(t^-0.5, t * warmup_steps^-1.5)`.

    Args:
        hidden_dim: int. Size of the model.
        warmup_steps: int. Length of the warm-up.
        scale: float. Factor of the rate; 1 in the paper, 2 in tensor2tensor.

    Example:

    >>> schedule = Noam(hidden_dim=512, warmup_steps=4000)
    >>> round(float(schedule(3999)), 6)
    0.000699

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), equation 3
    """

    _arguments = ("hidden_dim", "warmup_steps", "scale")

    def __init__(self, hidden_dim, warmup_steps=4000, scale=1.0):
        _check_positive(hidden_dim=hidden_dim, warmup_steps=warmup_steps, scale=scale)
        self.hidden_dim = hidden_dim
        self.warmup_steps = warmup_steps
        self.scale = scale

    def _rate(self, t):
        rise = t * float(self.warmup_steps) ** -1.5
        return self.scale * self.hidden_dim**-0.5 * ops.minimum(ops.rsqrt(t), rise)


class _FallingSchedule(_WarmUpSchedule):
    """Rises linearly to `peak`, then follows `_fall(progress)` from 1 to 0 down to `end`."""

    _arguments = ("peak", "total_steps", "warmup_steps", "end")

    def __init__(self, peak, total_steps, warmup_steps=0, end=0.0):
        _check_positive(peak=peak, total_steps=total_steps)
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "Expected 0 <= warmup_steps < total_steps, received "
                f"warmup_steps={warmup_steps} and total_steps={total_steps}."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.end = end

    def _rate(self, t):
        rise = t / float(max(self.warmup_steps, 1))
        progress = (t - self.warmup_steps) / float(self.total_steps - self.warmup_steps)
        fallen = self.end + (self.peak - self.end) * self._fall(ops.clip(progress, 0.0, 1.0))
        return ops.where(t <= self.warmup_steps, self.peak * rise, fallen)


@keras.saving.register_keras_serializable(package="kerasformer")
class WarmUpLinear(_FallingSchedule):
    """Rises linearly to `peak`, then falls linearly to `end`.

    Args:
        peak: float. The highest rate.
        total_steps: int. Steps until `end`, the warm-up included.
        warmup_steps: int. Length of the warm-up.
        end: float. The last rate.

    Example:

    >>> schedule = WarmUpLinear(peak=1.0, total_steps=6, warmup_steps=2)
    >>> [float(schedule(step)) for step in (0, 1, 3, 5)]
    [0.5, 1.0, 0.5, 0.0]
    """

    def _fall(self, progress):
        return 1.0 - progress


@keras.saving.register_keras_serializable(package="kerasformer")
class WarmUpCosine(_FallingSchedule):
    """Rises linearly to `peak`, then falls along half a cosine to `end`.

    Args:
        peak: float. The highest rate.
        total_steps: int. Steps until `end`, the warm-up included.
        warmup_steps: int. Length of the warm-up.
        end: float. The last rate.

    Example:

    >>> schedule = WarmUpCosine(peak=1.0, total_steps=6, warmup_steps=2)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 3, 5)]
    [0.5, 1.0, 0.5, 0.0]

    References:
        - [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1608.03983), equation 5
    """

    def _fall(self, progress):
        return 0.5 * (1.0 + ops.cos(3.141592653589793 * progress))


def half_cosine(step, start, end, total_steps):
    """Moves from one number to another along half a cosine.

    Args:
        step: int or int tensor. The number of an update, counted from 0.
        start: float. The number at step 0.
        end: float. The number from step `total_steps` on, which no update of the run reaches.
        total_steps: int. Updates of the run.

    Returns:
        float32 scalar.

    Example:

    >>> [round(float(half_cosine(step, 0.996, 1.0, 4)), 4) for step in (0, 2, 4, 5)]
    [0.996, 0.998, 1.0, 1.0]

    References:
        - [Grill et al., 2020](https://arxiv.org/abs/2006.07733), section 3.3, the momentum of a
          teacher
    """
    progress = ops.clip(ops.cast(step, "float32") / float(total_steps), 0.0, 1.0)
    return end + (start - end) * 0.5 * (1.0 + ops.cos(math.pi * progress))
