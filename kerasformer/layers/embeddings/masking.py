"""Random masking of sequences: which patches stay visible, and mask tokens for the others.

An order `(B, P)` decides it all: a permutation of the positions of each row, whose first ones stay
visible. Letters: `B` batch, `P` patches, `K` visible patches.
"""

import numbers

import keras
from keras import ops


def visible_count(length, mask_ratio):
    """Counts the patches that a mask leaves visible.

    Args:
        length: int. Number of patches, `P`.
        mask_ratio: float between 0 and 1. Share of the patches that is hidden; where it is no whole
            number of them, one more is hidden.

    Returns:
        int, `K`, at least 1 and below `length`.

    Raises:
        ValueError: when the ratio hides none or all of the patches, or the length is unknown.

    Example:

    >>> visible_count(196, 0.75)
    49
    """
    if not isinstance(length, numbers.Integral):
        raise ValueError(f"Expected a known number of patches to mask, received length={length}.")
    # A share such as 1 - 0.9 lies a little below a tenth.
    count = int(length * (1.0 - mask_ratio) + 1e-6)
    if not 1 <= count < length:
        raise ValueError(
            f"Expected mask_ratio to hide some of {length} patches and not all of them, received "
            f"mask_ratio={mask_ratio}."
        )
    return count


def hidden_patches(order, count):
    """Tells the hidden patches from the visible ones.

    Args:
        order: int tensor `(B, P)`, a permutation of `0..P-1` in each row.
        count: int. How many patches are visible, `K`.

    Returns:
        Boolean tensor `(B, P)`, `True` where a patch is hidden, in the order of the sequence.

    Example:

    >>> hidden_patches(ops.array([[2, 0, 1]]), 1).numpy().tolist()
    [[True, True, False]]
    """
    return ops.argsort(order, axis=1) >= count


def take_rows(inputs, indices):
    """Takes positions out of each sequence of a batch.

    Args:
        inputs: tensor `(B, T, hidden_dim)`.
        indices: int tensor `(B, K)`, from 0 to `T - 1`.

    Returns:
        Tensor `(B, K, hidden_dim)`.

    Example:

    >>> take_rows(ops.array([[[5.0], [7.0]]]), ops.array([[1, 1, 0]])).numpy().ravel().tolist()
    [7.0, 7.0, 5.0]
    """
    batch, length, hidden_dim = ops.shape(inputs)
    starts = ops.arange(batch, dtype="int32")[:, None] * length
    rows = ops.reshape(inputs, (batch * length, hidden_dim))
    return ops.take(rows, ops.cast(indices, "int32") + starts, axis=0)


@keras.saving.register_keras_serializable(package="kerasformer")
class RandomMasking(keras.layers.Layer):
    """Keeps a random part of each sequence, of a size that is the same for all.

    What is left out costs nothing in the layers behind. `MaskTokens` fills the gaps again.

    Args:
        mask_ratio: float between 0 and 1. Share of the patches that is left out.
        seed: int or `None`. Start of the random numbers.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, P, hidden_dim)`, `P` known when a graph is made.
        order: int tensor `(B, P)`, a permutation of `0..P-1` in each row, of which the first
            `visible_count(P, mask_ratio)` are kept, in this order; `None` for that of `draw_order`.
            Who needs to know it calls this method first.

    Returns:
        Float tensor `(B, K, hidden_dim)`.

    Masking: takes and produces no mask; every patch is real.

    Raises:
        ValueError: when the ratio hides none or all of the patches, or their number is unknown.

    Example:

    >>> layer = RandomMasking(mask_ratio=0.75)
    >>> tuple(layer(ops.ones((2, 8, 3))).shape)
    (2, 2, 3)
    >>> patches = ops.reshape(ops.arange(4.0), (1, 4, 1))
    >>> layer(patches, order=ops.array([[2, 0, 3, 1]])).numpy().ravel().tolist()
    [2.0]

    References:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3
    """

    def __init__(self, mask_ratio=0.75, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(mask_ratio, numbers.Real) or not 0 < mask_ratio < 1:
            raise ValueError(
                f"Expected mask_ratio to be between 0 and 1, received mask_ratio={mask_ratio!r}."
            )
        self.mask_ratio = mask_ratio
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape):
        """Makes nothing: there are no weights."""

    def call(self, inputs, *, order=None, training=None):
        count = visible_count(inputs.shape[1], self.mask_ratio)
        if order is None:
            order = self.draw_order(*ops.shape(inputs)[:2], training=training)
        return take_rows(inputs, order[:, :count])

    def draw_order(self, batch_size, length, training=None):
        """Draws an order of the patches of each row while training; else it is always the same.

        Args:
            batch_size: int or scalar int tensor, `B`.
            length: int. Number of patches, `P`.
            training: bool or `None`. Whether each row of each call gets another order; if not, all
                of them have one that `seed` decides.

        Returns:
            int32 tensor `(B, P)`.
        """
        shape = (batch_size if training else 1, length)
        seed = self.seed_generator if training else self.seed or 0
        order = ops.argsort(keras.random.uniform(shape, dtype="float32", seed=seed), axis=1)
        return ops.broadcast_to(order, (batch_size, length))

    def compute_output_shape(self, inputs_shape):
        batch, length, hidden_dim = inputs_shape
        return (batch, visible_count(length, self.mask_ratio), hidden_dim)

    def get_config(self):
        return {**super().get_config(), "mask_ratio": self.mask_ratio, "seed": self.seed}


@keras.saving.register_keras_serializable(package="kerasformer")
class MaskTokens(keras.layers.Layer):
    """Puts visible patches back where they were, with a learned token in place of the hidden ones.

    Args:
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, K, hidden_dim)`, what became of the patches that `RandomMasking`
            kept.
        order: int tensor `(B, P)`, the order with which it kept them.

    Returns:
        Float tensor `(B, P, hidden_dim)`.

    Masking: takes and produces no mask; every patch is real.

    Example:

    >>> order = ops.array([[2, 0, 3, 1]])
    >>> outputs = MaskTokens()(ops.array([[[5.0], [7.0]]]), order=order)[0, :, 0]
    >>> float(outputs[2]), float(outputs[0]), bool(outputs[1] == outputs[3])
    (5.0, 7.0, True)

    References:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3
    """

    def build(self, inputs_shape):
        self.token = self.add_weight(
            name="token",
            shape=(1, inputs_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, inputs, *, order):
        batch, count, hidden_dim = ops.shape(inputs)
        token = ops.broadcast_to(ops.cast(self.token, inputs.dtype), (batch, 1, hidden_dim))
        # The token stands behind the visible patches, and every hidden one reads it there.
        rows = ops.minimum(ops.argsort(order, axis=1), count)
        return take_rows(ops.concatenate([inputs, token], axis=1), rows)

    def compute_output_shape(self, inputs_shape, order_shape):
        return (inputs_shape[0], order_shape[1], inputs_shape[-1])

    def get_config(self):
        return super().get_config()
