"""Token embeddings: token ids to a sequence, and a sequence to logits over the vocabulary.

Letters: `B` batch, `T` length.
"""

import keras
from keras import ops

from kerasformer.layers.initializers import serialize_initializer
from kerasformer.layers.masks import padding_mask


def check_token_ids(token_ids, vocabulary_size):
    """Refuses ids outside the vocabulary, where their values are known.

    Values are known outside compiled functions. Inside one, nothing is checked, because that
    would wait for the device.

    Args:
        token_ids: int tensor of any shape, or a float tensor of whole numbers.
        vocabulary_size: int. Number of ids.

    Raises:
        ValueError: when an id is negative, too large, or no whole number.

    Example:

    >>> check_token_ids(ops.array([[3, 5, 0]]), vocabulary_size=11)
    """
    # torch refuses them in the look-up, and could not compile a branch that depends on values.
    if keras.backend.backend() == "torch":
        return
    try:
        values = ops.convert_to_numpy(token_ids)
    except (TypeError, ValueError, RuntimeError):  # a symbol: each backend raises its own error
        return
    wrong = values[~((values >= 0) & (values < vocabulary_size) & (values % 1 == 0))]
    if wrong.size:
        raise ValueError(
            f"Expected token ids from 0 to {vocabulary_size - 1}, "
            f"received token_id={wrong[0]} and vocabulary_size={vocabulary_size}."
        )


@keras.saving.register_keras_serializable(package="kerasformer")
class TokenEmbedding(keras.layers.Layer):
    """Looks up token ids, and in reverse projects a sequence to logits over the vocabulary.

    `embeddings` has the shape `(vocabulary_size, hidden_dim)`. By default its vectors are drawn
    from `N(0, 1/hidden_dim)`, so that scaled vectors and logits both have unit variance. Tie
    weights by sharing the layer, never by sharing a variable.

    An id outside the vocabulary is an error wherever the layer is called with known values. In a
    compiled function it is not checked: the vector is then NaN on JAX, zeros on TensorFlow's GPU,
    and the backend's own error on TensorFlow's CPU and on torch.

    Args:
        vocabulary_size: int. Number of ids.
        hidden_dim: int. Size of a vector.
        use_scale: bool. Whether looked-up vectors are multiplied by `sqrt(hidden_dim)`.
        mask_zero: bool. Whether id 0 is padding, masked for the layers that follow.
        use_logits_bias: bool. Whether logits get a bias, which starts at zero.
        embeddings_initializer: str, dict or initializer of the vectors; `None` means
            `N(0, 1/hidden_dim)`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: int tensor `(B, T)`; with `reverse=True` float tensor `(B, T, hidden_dim)`.
        reverse: bool. Whether to project to logits.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `reverse=True` logits `(B, T, vocabulary_size)`
        in float32 at least.

    Masking: produces the mask `inputs != 0` when `mask_zero`; logits carry the mask of the
    sequence.

    Raises:
        ValueError: when an id is known to lie outside the vocabulary, when floats of rank 3 come
            without `reverse=True`, or with it a sequence of another width.

    Example:

    >>> layer = TokenEmbedding(vocabulary_size=11, hidden_dim=4)
    >>> sequence = layer(ops.array([[3, 5, 0]]))
    >>> tuple(sequence.shape), tuple(layer(sequence, reverse=True).shape)
    ((1, 3, 4), (1, 3, 11))

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.4
        - [Press and Wolf, 2017](https://arxiv.org/abs/1608.05859), tied embeddings
    """

    def __init__(
        self,
        vocabulary_size,
        hidden_dim,
        use_scale=True,
        mask_zero=True,
        use_logits_bias=False,
        embeddings_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_dim = hidden_dim
        self.use_scale = use_scale
        self.mask_zero = mask_zero
        self.use_logits_bias = use_logits_bias
        self.embeddings_initializer = embeddings_initializer
        self.supports_masking = True
        self.autocast = False  # 16 bits would merge ids that come as floats, and coarsen logits

    def build(self, inputs_shape=None):
        initializer = self.embeddings_initializer
        if initializer is None:
            initializer = keras.initializers.RandomNormal(stddev=self.hidden_dim**-0.5)
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary_size, self.hidden_dim),
            initializer=initializer,
            autocast=False,
        )
        if self.use_logits_bias:
            self.logits_bias = self.add_weight(
                name="logits_bias",
                shape=(self.vocabulary_size,),
                initializer="zeros",
                autocast=False,
            )

    def call(self, inputs, *, reverse=False):
        return self._project(inputs) if reverse else self._look_up(inputs)

    def _project(self, inputs):
        if inputs.shape[-1] != self.hidden_dim:
            raise ValueError(
                f"Expected a sequence of width hidden_dim={self.hidden_dim} with reverse=True, "
                f"received shape={tuple(inputs.shape)}."
            )
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        kernel = ops.transpose(ops.cast(self.embeddings, dtype))
        logits = ops.matmul(ops.cast(inputs, dtype), kernel)
        return logits + ops.cast(self.logits_bias, dtype) if self.use_logits_bias else logits

    def _look_up(self, token_ids):
        if _is_sequence(token_ids):
            raise ValueError(
                "Expected token ids of shape (B, T) without reverse=True, received floats of "
                f"shape={tuple(token_ids.shape)}."
            )
        check_token_ids(token_ids, self.vocabulary_size)
        if keras.backend.backend() == "torch":
            # Keras would count negative ids from the end, and round fractions.
            is_id = ops.logical_and(token_ids >= 0, token_ids % 1 == 0)
            token_ids = ops.where(is_id, token_ids, self.vocabulary_size)
        # Looked up first and cast after, because casting the table would cost its whole size.
        x = ops.take(self.embeddings, ops.cast(token_ids, "int32"), axis=0)
        x = ops.cast(x, self.compute_dtype)
        return x * self.hidden_dim**0.5 if self.use_scale else x

    def compute_mask(self, inputs, previous_mask=None):
        if _is_sequence(inputs):
            return previous_mask
        return padding_mask(inputs) if self.mask_zero else None

    # Traced, because logits have a dtype of their own.
    compute_output_spec = keras.Operation.compute_output_spec

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
            "use_logits_bias": self.use_logits_bias,
            "embeddings_initializer": serialize_initializer(self.embeddings_initializer),
        }


def _is_sequence(inputs):
    """Tells a sequence from token ids, which `keras.Sequential` makes floats too."""
    return keras.backend.is_float_dtype(inputs.dtype) and len(inputs.shape) > 2
