"""Linear attention by random features, FAVOR+: the memory and the time grow as the length does.

Letters: `B` batch, `T` length, `N` heads, `K` size of a head, `M` random features, `C` length of a
chunk, `R` decoded rows.
"""

import math
import random

import keras
from keras import ops

from kerasformer.layers.masks import check_key_mask
from kerasformer.layers.mixers.heads import AttentionHeads, check_sequence_shape
from kerasformer.layers.sizes import check_sizes

KERNELS = ("softmax", "relu")
# The first is far below the features of real keys, and far above float32's smallest number, 1e-38.
SOFTMAX_EPSILON, RELU_EPSILON = 1e-26, 1e-3
# Sums of exponentials up to this one stay far below the largest number of float32, exp(88).
LARGEST_EXPONENT = 60.0
CHUNK = 64


def orthogonal_features(num_features, key_dim, seed=None):
    """Draws vectors like Gaussian ones, of which each `key_dim` in a row are orthogonal.

    Their lengths are those of independent Gaussian vectors, so that each alone is one.

    Args:
        num_features: int, `M`.
        key_dim: int, `K`.
        seed: int or `None`. With an int the draw can be repeated.

    Returns:
        float32 tensor `(M, K)`.

    Example:

    >>> x = orthogonal_features(5, 3, seed=1)
    >>> tuple(x.shape), float(ops.round(ops.abs(ops.sum(x[0] * x[2])), 5))
    ((5, 3), 0.0)

    References:
        - [Choromanski et al., 2020](https://arxiv.org/abs/2009.14794), section 2.4
    """
    blocks = -(-num_features // key_dim)
    seed = random.randrange(2**31) if seed is None else seed
    gaussian = keras.random.normal((2, blocks, key_dim, key_dim), dtype="float32", seed=seed)
    q, r = ops.qr(gaussian[0])
    # With these signs all directions are equally probable.
    q = q * ops.sign(ops.diagonal(r, axis1=1, axis2=2))[:, None]
    directions = ops.reshape(ops.swapaxes(q, 1, 2), (-1, key_dim))
    lengths = ops.sqrt(ops.sum(ops.square(ops.reshape(gaussian[1], (-1, key_dim))), axis=1))
    return (lengths[:, None] * directions)[:num_features]


def softmax_features(x, features, is_query):
    """Maps queries or keys to positive features whose products tend to `exp(q · k / sqrt(K))`.

    `phi(x) = exp(w · x - |x|² / 2)` for each row `w` of the features, where `x` is divided by
    `K ** (1/4)`. Queries are divided by their largest feature, which cancels in the attention.
    Keys get `1e-26` more, so that no sum of weights is zero. Keys so long that all of their
    features are smaller, with `|x|²` far above 100, weigh alike.

    The published code divides the keys by the largest feature of all keys, and adds to queries too.
    The largest depends on later keys and on padding, and so do the results. Here keys are not
    divided, because their features are 1 on average; only exponents above 60 are cut off.

    Args:
        x: float tensor `(..., K)`.
        features: float tensor `(M, K)`.
        is_query: bool. Whether these are queries.

    Returns:
        Float tensor `(..., M)`, of float32 at least.

    Example:

    >>> x = ops.zeros((1, 4))
    >>> float(ops.round(softmax_features(x, ops.ones((3, 4)), is_query=False)[0, 0], 3))
    1.0

    References:
        - [Choromanski et al., 2020](https://arxiv.org/abs/2009.14794), lemma 1
    """
    x = x / x.shape[-1] ** 0.25
    exponents = ops.matmul(x, ops.transpose(features))
    exponents = exponents - ops.sum(ops.square(x), axis=-1, keepdims=True) / 2.0
    if is_query:
        if 0 in exponents.shape:  # Keras refuses the maximum of no tokens.
            return exponents
        return ops.exp(exponents - ops.stop_gradient(ops.max(exponents, axis=-1, keepdims=True)))
    return ops.exp(ops.minimum(exponents, LARGEST_EXPONENT)) + SOFTMAX_EPSILON


def relu_features(x, features):
    """Maps queries or keys to `relu(w · x / sqrt(M)) + 1e-3` for each row `w` of the features.

    Args:
        x: float tensor `(..., K)`.
        features: float tensor `(M, K)`.

    Returns:
        Float tensor `(..., M)`.

    Example:

    >>> x = relu_features(ops.ones((1, 2)), ops.array([[1.0, 1.0], [-1.0, 0.0]]))
    >>> x.numpy().round(3).tolist()
    [[1.4149999618530273, 0.0010000000474974513]]

    References:
        - [Choromanski et al., 2020](https://arxiv.org/abs/2009.14794), section 4, the code
    """
    x = ops.matmul(x, ops.transpose(features)) / features.shape[0] ** 0.5
    return ops.relu(x) + RELU_EPSILON


def linear_attention(query, key, value, mask=None):
    """Averages the values of all keys with weights that are products of features.

    Args:
        query: float tensor `(B, N, T, M)`, the features of the queries.
        key: float tensor `(B, N, T, M)`, the features of the keys.
        value: float tensor `(B, N, T, K)`.
        mask: boolean tensor `(B, T)`, the real keys, or `None`.

    Returns:
        Float tensor `(B, N, T, K)`; zeros where there is no key.

    Example:

    >>> x, value = ops.ones((1, 1, 2, 3)), ops.array([[[[1.0], [3.0]]]])
    >>> linear_attention(x, x, value).numpy().ravel().tolist()
    [2.0, 2.0]
    """
    key, value = _masked(key, mask), _with_ones(value)
    return _divided(ops.matmul(query, ops.matmul(ops.swapaxes(key, -1, -2), value)))


def causal_linear_attention(query, key, value, mask=None, state=None, chunk=CHUNK):
    """Averages the values of the keys up to each query, by sums over chunks of the sequence.

    Within a chunk the weights are computed as they are, `C x C`; what came before is known by the
    sum of `key ⊗ value` over the chunks before. So the memory is `O(T M)` and not `O(T M K)`. No
    result depends on a later key in any bit.

    Args:
        query: float tensor `(B, N, T, M)`, the features of the queries.
        key: float tensor `(B, N, T, M)`, the features of the keys.
        value: float tensor `(B, N, T, K)`.
        mask: boolean tensor `(B, T)`, the real keys, or `None`.
        state: float tensor `(B, N, M, K + 1)`, what an earlier call returned, or `None`.
        chunk: int, `C`.

    Returns:
        Tuple of the outputs `(B, N, T, K)`, zeros where there is no key, and the new state.

    Example:

    >>> x, value = ops.ones((1, 1, 2, 3)), ops.array([[[[1.0], [3.0]]]])
    >>> causal_linear_attention(x, x, value)[0].numpy().ravel().tolist()
    [1.0, 2.0]
    """
    key, value = _masked(key, mask), _with_ones(value)
    length = ops.shape(query)[2]
    chunk = max(1, min(chunk, length)) if isinstance(length, int) else chunk
    chunks = (length + chunk - 1) // chunk
    query, key, value = (_cut(x, chunks, chunk) for x in (query, key, value))
    sums = ops.matmul(ops.swapaxes(key, -1, -2), value)  # (B, N, chunks, M, K + 1)
    if state is None:
        state = ops.zeros((*ops.shape(key)[:2], key.shape[-1], value.shape[-1]), key.dtype)
    sums = ops.cumsum(ops.concatenate([state[:, :, None], sums], axis=2), axis=2)
    weights = ops.tril(ops.matmul(query, ops.swapaxes(key, -1, -2)))
    outputs = ops.matmul(weights, value) + ops.matmul(query, sums[:, :, :-1])
    batch, heads, _, _, width = ops.shape(outputs)
    outputs = ops.reshape(outputs, (batch, heads, chunks * chunk, width))
    return _divided(outputs[:, :, :length]), sums[:, :, -1]


def _masked(key, mask):
    return key if mask is None else key * ops.cast(mask, key.dtype)[:, None, :, None]


def _with_ones(value):
    """Appends a 1 to each value, so that the sum of the weights comes with that of the values."""
    return ops.concatenate([value, ops.ones_like(value[..., :1])], axis=-1)


def _divided(sums):
    values, weights = sums[..., :-1], sums[..., -1:]
    has_keys = weights > 0
    # Scaled first, because gradients of a quotient may square what divides, out of float32's range.
    scale = ops.stop_gradient(ops.where(has_keys, weights, 1.0))
    return values / scale / ops.where(has_keys, weights / scale, 1.0)


def _cut(x, chunks, chunk):
    """Cuts `(B, N, T, a)` to `(B, N, chunks, C, a)`; zeros fill the last chunk."""
    batch, heads, length, width = ops.shape(x)
    rest = chunks * chunk - length
    if not isinstance(rest, int) or rest:
        x = ops.pad(x, [(0, 0), (0, 0), (0, rest), (0, 0)])
    return ops.reshape(x, (batch, heads, chunks, chunk, width))


@keras.saving.register_keras_serializable(package="kerasformer")
class LinearAttention(AttentionHeads):
    """Approximates softmax attention by random features, in time and memory linear in the length.

    Queries and keys become `M` positive features each, by FAVOR+ of the Performer. The product of
    two is `exp(q · k / sqrt(K))` on average over draws of the features, with an error that falls
    as `1 / sqrt(M)`. All keys and values are then summed up once for all queries.

    The features are a weight that does not train. `redraw` draws others; the Performer's authors
    do so about every 1000 steps, so that a model does not fit itself to one draw:

        class Redraw(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                step = int(self.model.optimizer.iterations)
                if step % 1000 == 0:
                    for index, block in enumerate(self.model.encoder.blocks):
                        block.self_attention.sublayer.redraw(seed=step + index)

    Args:
        hidden_dim: int. Size of the outputs.
        num_heads: int. Number of query heads, `N`.
        num_features: int or `None`. Number of random features, `M`; `None` means `K ln K`.
        kernel: str. `"softmax"`, or `"relu"`: features `relu(w · x)`, an attention of its own that
            approximates no softmax.
        dropout: float in `[0, 1)`. Rate at which the outputs of the heads are dropped, as in the
            TensorFlow Model Garden: there are no probabilities.
        seed: int or `None`. Seed of the features and of the dropout.
        **kwargs: the other arguments of `MultiHeadAttention`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, input_dim)`.
        mask: boolean tensor `(B, T)`, the real positions of `inputs`.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        use_causal_mask: bool. Whether a position may not look at later ones.
        positions: int tensor as `rotate` takes it, for `use_rotary`; `None` means `0..T-1`.

    Returns:
        Float tensor `(B, T, hidden_dim)`. Features and sums are computed in float32 at least.

    Masking: the mask hides keys, never queries, and is kept. A query that may look at no key gets
    zeros before the output projection. There is no `attention_mask` and there are no scores,
    because no query meets a key alone.

    Decoding: the cache is the sum over the tokens so far, of a fixed size. Each row's tokens must
    come in order, and prompts must be of one length.

    Raises:
        ValueError: as `MultiHeadAttention`, and for an unknown `kernel`. A block that is given an
            `attention_mask` or asked for scores says that this mixer takes none.

    Example:

    >>> layer = LinearAttention(hidden_dim=6, num_heads=3, num_features=7)
    >>> tuple(layer(ops.ones((2, 5, 6)), use_causal_mask=True).shape)
    (2, 5, 6)

    References:
        - [Choromanski et al., 2020](https://arxiv.org/abs/2009.14794)
    """

    def __init__(self, hidden_dim, num_heads, num_features=None, kernel="softmax", **kwargs):
        super().__init__(hidden_dim, num_heads, **kwargs)
        check_sizes(num_features=num_features)
        if kernel not in KERNELS:
            raise ValueError(f"Expected kernel to be one of {KERNELS}, received {kernel=}.")
        self.num_features = num_features
        self.kernel = kernel
        count = max(1, round(self._head_dim * math.log(self._head_dim)))
        self._features_shape = (num_features or count, self._head_dim)

    def build(self, inputs_shape):
        check_sequence_shape("inputs", inputs_shape)
        self._build_own(inputs_shape)
        self._width = inputs_shape[-1]
        self.features = self.add_weight(
            name="features",
            shape=self._features_shape,
            initializer=lambda shape, dtype: ops.cast(
                orthogonal_features(*shape, self.seed), dtype
            ),
            trainable=False,
            autocast=False,
        )

    def redraw(self, seed=None):
        """Draws other features, between two steps of training.

        Args:
            seed: int or `None`. With an int, such as the number of the step, the draw can be
                repeated: by a training that resumes, or on another replica.
        """
        self.features.assign(orthogonal_features(*self._features_shape, seed))

    def call(
        self,
        inputs,
        *,
        mask=None,
        inputs_mask=None,
        use_causal_mask=False,
        positions=None,
        training=None,
    ):
        self._check_inputs("inputs", inputs, self._width)
        self._check_positions(positions)
        mask = inputs_mask if mask is None else mask
        if mask is not None:
            mask = check_key_mask(mask, (inputs.shape[0], None, None, inputs.shape[1]))
        query, key, value = self._project_features(inputs, positions)
        if use_causal_mask:
            outputs, _ = causal_linear_attention(query, key, value, mask)
        else:
            outputs = linear_attention(query, key, value, mask)
        return self._finish(outputs, training)

    def _project_features(self, inputs, positions):
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        projected = self._project_inputs(inputs, positions)
        query, key, value = (ops.cast(x, dtype) for x in projected)
        features = ops.cast(self.features, dtype)
        if self.kernel == "relu":
            query, key = relu_features(query, features), relu_features(key, features)
        else:
            query = softmax_features(query, features, is_query=True)
            key = softmax_features(key, features, is_query=False)
        copies = self.num_heads // self._groups
        if copies > 1:  # The heads of a group read the same keys and values.
            key, value = ops.repeat(key, copies, axis=1), ops.repeat(value, copies, axis=1)
        return query, key, value

    def _finish(self, outputs, training=None):
        outputs = ops.cast(self._join_heads(outputs), self.compute_dtype)
        drop = self._dropout_function(training)
        return self.output_dense(outputs if drop is None else drop(outputs))

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step`, which has room for any number of tokens.

        Args:
            batch_size: int or scalar int tensor, `R`.
            max_length: int. Not used.

        Returns:
            Float tensor `(R, N, M, K + 1)`, of float32 at least.
        """
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        features, width = self._features_shape
        return ops.zeros((batch_size, self.num_heads, features, width + 1), dtype)

    def grow_cache(self, cache):
        """Returns the cache: it need not grow."""
        return cache

    def step(self, inputs, cache, positions):
        """Attends from the next tokens of each row to themselves and the tokens before them.

        Args:
            inputs: float tensor `(R, T, input_dim)`, all of them real.
            cache: float tensor `(R, N, M, K + 1)`, as `init_cache` made it.
            positions: int tensor `(R,)`, the position of each row's first token of these, which
                only `use_rotary` reads.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the cache with the tokens added.
        """
        positions = ops.cast(positions, "int32")[:, None]
        positions = positions + ops.arange(ops.shape(inputs)[1], dtype="int32")
        query, key, value = self._project_features(inputs, positions)
        outputs, cache = causal_linear_attention(query, key, value, state=cache)
        return self._finish(outputs), cache

    def get_config(self):
        return {
            **super().get_config(),
            "num_features": self.num_features,
            "kernel": self.kernel,
        }
