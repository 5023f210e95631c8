"""Losses: cross-entropy from integer labels with little memory, and self-distillation."""

from keras import ops


def smoothed_cross_entropy(labels, logits, label_smoothing=0.0):
    """Computes the cross-entropy of each label under a smoothed target distribution.

    The target puts `1 - e + e/V` on the label and `e/V` on each other id, `e = label_smoothing`,
    so the loss of a label `y` is `logsumexp(z) - (1 - e) z_y - e mean(z)`. This needs no one-hot
    labels, smoothed targets or log-probabilities of the size of the logits. The backward pass
    makes one array of that size, the gradient.

    Args:
        labels: int tensor `(B, T)`, or any shape. All are ids of the vocabulary, padding too.
        logits: float tensor `(B, T, V)`: the shape of `labels` and the vocabulary.
        label_smoothing: float in `[0, 1)`.

    Returns:
        float32 tensor `(B, T)`, in nats. No id is special here, so multiply the losses of padding
        by 0. The gradient is written by hand and cannot be differentiated again.

    Raises:
        ValueError: for a `label_smoothing` outside `[0, 1)`.

    Example:

    >>> loss = smoothed_cross_entropy(ops.array([1]), ops.array([[0.0, 0.0]]), 0.1)
    >>> round(float(loss[0]), 4)
    0.6931

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 7
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(
            f"Expected 0 <= label_smoothing < 1, received label_smoothing={label_smoothing}."
        )
    vocabulary_size = logits.shape[-1]
    rows = ops.reshape(ops.cast(logits, "float32"), (-1, vocabulary_size))
    labels = ops.cast(labels, "int32")
    losses = _row_losses(rows, ops.reshape(labels, (-1,)), label_smoothing)
    return ops.reshape(losses, ops.shape(labels))


def self_distillation_loss(
    student_logits, teacher_logits, center, student_temperature=0.1, teacher_temperature=0.04
):
    """Computes how far a student is from what its teacher makes of other views of an image: DINO.

    The teacher's distribution is `softmax((logits - center) / teacher_temperature)`: the centre
    keeps one output from winning everywhere, the low temperature keeps all from being equal. The
    loss is the mean of the cross-entropies of all pairs of a view of the teacher and a view of
    the student, without the pairs in which both are the same view.

    Args:
        student_logits: float tensor `(B, V, K)`, of `V` views of each image. The first of them are
            the views that the teacher sees too.
        teacher_logits: float tensor `(B, G, K)`, of the first `G` views. No gradient reaches it.
        center: float tensor `(K,)`, a moving average of the teacher's logits.
        student_temperature: float, or scalar tensor.
        teacher_temperature: float, or scalar tensor.

    Returns:
        float32 tensor `(B,)`, in nats.

    Raises:
        ValueError: when there is no pair of different views.

    Example:

    >>> logits = ops.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> loss = self_distillation_loss(logits, logits, ops.zeros(2), 1.0, 1.0)
    >>> round(float(loss[0]), 4)
    1.0443

    References:
        - [Caron et al., 2021](https://arxiv.org/abs/2104.14294), equation 3 and algorithm 1
    """
    views, teacher_views = student_logits.shape[1], teacher_logits.shape[1]
    if not 1 <= teacher_views <= views or views < 2:
        raise ValueError(
            "Expected two views or more, of which the teacher sees the first, received "
            f"student_logits.shape={tuple(student_logits.shape)} and "
            f"teacher_logits.shape={tuple(teacher_logits.shape)}."
        )
    targets = ops.cast(teacher_logits, "float32") - ops.cast(center, "float32")
    targets = ops.stop_gradient(ops.softmax(targets / teacher_temperature))
    predicted = ops.log_softmax(ops.cast(student_logits, "float32") / student_temperature)
    losses = -ops.einsum("bgk,bvk->bgv", targets, predicted)
    pairs = 1.0 - ops.eye(teacher_views, views, dtype="float32")
    return ops.sum(losses * pairs, axis=(1, 2)) / (teacher_views * (views - 1))


def _row_losses(logits, labels, label_smoothing):
    """Computes the loss `(R,)` of logits `(R, V)`, with a gradient written by hand."""
    indices = ops.stack([ops.arange(ops.shape(labels)[0], dtype="int32"), labels], axis=1)
    on_label, on_each = 1.0 - label_smoothing, label_smoothing / logits.shape[-1]

    @ops.custom_gradient
    def loss(logits):
        highest = ops.max(logits, axis=-1, keepdims=True)
        normalizer = highest + ops.log(ops.sum(ops.exp(logits - highest), axis=-1, keepdims=True))
        label_logits = ops.take_along_axis(logits, labels[:, None], axis=-1)
        value = normalizer - on_label * label_logits
        if label_smoothing:
            value = value - label_smoothing * ops.mean(logits, axis=-1, keepdims=True)

        def gradient(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            upstream = upstream[:, None]
            full = (ops.exp(logits - normalizer) - on_each) * upstream
            at_labels = ops.exp(label_logits - normalizer) - on_each - on_label
            return ops.scatter_update(full, indices, (at_labels * upstream)[:, 0])

        return value[:, 0], gradient

    return loss(logits)
