"""A student and the teacher that follows it.

Letters: `B` images, `V` views, `K` prototypes.
"""

import keras
import tensorflow as tf
from keras import ops

from kerasformer.layers import ProjectionHead


class Observed(keras.layers.Layer):
    """Keeps what a training has seen of its teacher: the centre of its logits, and how far it is.

    Args:
        output_dim: int, `K`.
        **kwargs: passed to `keras.layers.Layer`.

    Attributes:
        center: float32 variable `(K,)`, the moving average of the logits.
        moving_sum, moving_count: float32 variables `(K,)` and `()`, the logits of the step under
            way. A step that is skipped puts them back, because of their names.
        step: int32 variable, the number of steps taken.
    """

    def __init__(self, output_dim, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.output_dim = output_dim

    def build(self, inputs_shape=None):
        weight = {"initializer": "zeros", "trainable": False}
        self.center = self.add_weight(name="center", shape=(self.output_dim,), **weight)
        self.moving_sum = self.add_weight(name="moving_sum", shape=(self.output_dim,), **weight)
        self.moving_count = self.add_weight(name="moving_count", shape=(), **weight)
        self.step = self.add_weight(name="step", shape=(), dtype="int32", **weight)

    def add(self, logits):
        """Adds logits `(B, V, K)` of each replica to the sums of all.

        Every replica has all variables, and assigns the same numbers to its own.
        """
        sums = (
            ops.sum(logits, axis=(0, 1)),
            ops.cast(tf.reduce_prod(tf.shape(logits)[:2]), "float32"),
        )
        context = tf.distribute.get_replica_context()
        if context is not None and context.strategy.num_replicas_in_sync > 1:
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        self.moving_sum.assign(self.moving_sum + sums[0])
        self.moving_count.assign(self.moving_count + sums[1])

    def finish_step(self, momentum):
        """Moves the centre towards the mean of the step, and begins the next step."""
        mean = self.moving_sum / ops.maximum(self.moving_count, 1.0)
        self.center.assign(momentum * self.center + (1.0 - momentum) * mean)
        self.moving_sum.assign(ops.zeros_like(self.moving_sum))
        self.moving_count.assign(ops.zeros_like(self.moving_count))
        self.step.assign(self.step + 1)


class SelfDistiller(keras.Model):
    """Trains a student on what its teacher, a moving average of it, makes of other views.

    The variables of the teacher's encoder come first, so that a model of that encoder alone reads
    the checkpoints of this one.

    Args:
        teacher: built model from images to vectors. It is not trained any more.
        student: built model of the same kind, which takes over the teacher's weights.
        image_shape: tuple `(h, w, c)` of the teacher's images.
        head: dict of arguments of `ProjectionHead`.
        **kwargs: passed to `keras.Model`.
    """

    def __init__(self, teacher, student, image_shape, head, **kwargs):
        super().__init__(**kwargs)
        policy = {"dtype": teacher.dtype_policy}
        self.teacher = teacher
        self.teacher_head = ProjectionHead(**head, **policy, name="teacher_head")
        self.student = student
        self.student_head = ProjectionHead(**head, **policy, name="student_head")
        self.observed = Observed(self.teacher_head.output_dim, name="observed")
        features_shape = teacher.compute_output_shape((None, *image_shape))
        for layer in (self.teacher_head, self.student_head, self.observed):
            layer.build(features_shape)
        self.teacher.trainable = self.teacher_head.trainable = False
        for follower, leader in self._pairs():
            leader.assign(follower)
        self.built = True

    def _pairs(self):
        """Lists each number of the teacher with that of the student, random states left out."""
        followers = self.teacher.variables + self.teacher_head.variables
        leaders = self.student.variables + self.student_head.variables
        pairs = zip(followers, leaders, strict=True)
        return [pair for pair in pairs if keras.backend.is_float_dtype(pair[0].dtype)]

    def call(self, inputs, training=None):
        return self.teacher(inputs, training=False)

    def teacher_logits(self, views):
        """Computes logits float32 `(B, V, K)` of views `(B, V, h, w, c)`."""
        vectors = self.teacher(_flat(views), training=False)
        return _by_image(self.teacher_head(vectors), views)

    def student_logits(self, groups, training, freeze_prototypes=False):
        """Computes logits float32 `(B, V, K)` of groups of views, each of one size."""
        vectors = [_by_image(self.student(_flat(x), training=training), x) for x in groups]
        vectors = ops.concatenate(vectors, axis=1)
        return self.student_head(vectors, freeze_prototypes=freeze_prototypes)

    def follow(self, momentum):
        """Moves the teacher towards the student by `1 - momentum` of the way."""
        for follower, leader in self._pairs():
            follower.assign(momentum * follower + (1.0 - momentum) * leader)


def _flat(views):
    """Turns views `(B, V, h, w, c)` into images `(B V, h, w, c)`."""
    return ops.reshape(views, (-1, *views.shape[2:]))


def _by_image(vectors, views):
    """Turns vectors `(B V, features)` into those of each image, `(B, V, features)`."""
    return ops.reshape(vectors, (-1, views.shape[1], vectors.shape[-1]))
