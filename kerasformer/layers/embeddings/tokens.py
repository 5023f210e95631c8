"""Front doors: layers that turn raw input into a sequence `(B, T, hidden_dim)` with a mask."""

import keras
from keras import ops

from kerasformer.layers.masks import padding_mask


@keras.saving.register_keras_serializable(package="kerasformer")
class TokenEmbedding(keras.layers.Layer):
    """Looks up token ids, and read backwards projects a sequence to the vocabulary.

    `embeddings` has the shape `(vocabulary_size, hidden_dim)`; vectors are drawn from
    `N(0, 1/hidden_dim)`, so that scaled ones and logits both have unit variance. Weights are tied
    by sharing the layer, never by sharing a variable.

    Args:
        vocabulary_size: int. Number of ids.
        hidden_dim: int. Size of a vector.
        use_scale: bool. Whether looked-up vectors are multiplied by `sqrt(hidden_dim)`.
        mask_zero: bool. Whether id 0 is padding, masked for the layers that follow.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: int tensor `(B, T)`; with `reverse=True` float tensor `(B, T, hidden_dim)`.
        reverse: bool. Whether to project to logits.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `reverse=True` logits `(B, T, vocabulary_size)`
        in float32 at least.

    Masking: produces the mask `inputs != 0` when `mask_zero`; logits carry the mask of the
    sequence.

    Example:

    >>> layer = TokenEmbedding(vocabulary_size=11, hidden_dim=4)
    >>> sequence = layer(ops.array([[3, 5, 0]]))
    >>> tuple(sequence.shape), tuple(layer(sequence, reverse=True).shape)
    ((1, 3, 4), (1, 3, 11))

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.4
        - [Press and Wolf, 2017](https://arxiv.org/abs/1608.05859), tied embeddings
    """

    def __init__(self, vocabulary_size, hidden_dim, use_scale=True, mask_zero=True, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_dim = hidden_dim
        self.use_scale = use_scale
        self.mask_zero = mask_zero
        self.supports_masking = True
        self.autocast = False  # 16 bits would merge ids that come as floats, and coarsen logits

    def build(self, inputs_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary_size, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(stddev=self.hidden_dim**-0.5),
            autocast=False,
        )

    def call(self, inputs, *, reverse=False):
        if reverse:
            dtype = keras.backend.result_type(self.compute_dtype, "float32")
            kernel = ops.transpose(ops.cast(self.embeddings, dtype))
            return ops.matmul(ops.cast(inputs, dtype), kernel)
        # Looked up first and cast after: casting the table would cost its whole size.
        x = ops.take(self.embeddings, ops.cast(inputs, "int32"), axis=0)
        x = ops.cast(x, self.compute_dtype)
        return x * self.hidden_dim**0.5 if self.use_scale else x

    def compute_mask(self, inputs, previous_mask=None):
        # Ids may be floats too: `keras.Sequential` makes them so. A sequence has one axis more.
        if keras.backend.is_float_dtype(inputs.dtype) and len(inputs.shape) > 2:
            return previous_mask
        return padding_mask(inputs) if self.mask_zero else None

    def compute_output_spec(self, inputs, reverse=False):
        shape = self.compute_output_shape(inputs.shape, reverse)
        dtype = self.compute_dtype
        if reverse:
            dtype = keras.backend.result_type(dtype, "float32")
        return keras.KerasTensor(shape, dtype=dtype)

    def compute_output_shape(self, inputs_shape, reverse=False):
        if reverse:
            return (*inputs_shape[:-1], self.vocabulary_size)
        return (*inputs_shape, self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "hidden_dim": self.hidden_dim,
            "use_scale": self.use_scale,
            "mask_zero": self.mask_zero,
        }
