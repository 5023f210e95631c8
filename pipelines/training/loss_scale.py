"""The loss scale of float16; `keras.optimizers.LossScaleOptimizer` unscales too late for the step.

Here gradients are unscaled on each replica, before they are summed over all replicas and divided by
the global count of items, and all processes skip the same steps.
"""

import tensorflow as tf

FIRST = 2.0**15
PERIOD = 2000  # steps without an overflow after which the scale is doubled
LEAST = 2.0**-14  # a smaller scale overflows only if the gradients are infinite without it


class LossScale:
    """Scales a loss, halves the scale after an overflow, and doubles it after a while without.

    Attributes:
        value: float32 variable, the scale.
        good_steps: int32 variable, the steps since it changed.

    References:
        - [Micikevicius et al., 2017](https://arxiv.org/abs/1710.03740), section 3.2
    """

    def __init__(self):
        self.value = tf.Variable(FIRST, trainable=False, name="loss_scale")
        self.good_steps = tf.Variable(0, trainable=False, name="good_steps")

    def update(self, finite: tf.Tensor) -> None:
        """Changes the scale after a step whose gradients were finite, or not."""
        steps = tf.where(finite, self.good_steps + 1, 0)
        factor = tf.where(finite, tf.where(steps >= PERIOD, 2.0, 1.0), 0.5)
        self.value.assign(self.value * factor)
        self.good_steps.assign(steps % PERIOD)

    @property
    def is_hopeless(self) -> tf.Tensor:
        """Whether the scale is so small that the gradients must be infinite without it."""
        return self.value < LEAST

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state by the names it has in a checkpoint."""
        return {"loss_scale/value": self.value, "loss_scale/good_steps": self.good_steps}
