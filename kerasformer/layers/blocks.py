"""Encoder and decoder blocks: a mixer of positions and a feed-forward layer, each in a `Residual`.

Nothing here knows whether a sequence came from words or from pixels. Letters: `B` batch, `T`
length, `S` context length, `N` heads, `R` decoded rows.
"""

import inspect

import keras

from kerasformer.layers.block_arguments import BlockArguments
from kerasformer.layers.children import child_seed, clone, copy_config, serialize_child
from kerasformer.layers.feed_forward import FeedForward, GatedFeedForward
from kerasformer.layers.initializers import clone_initializer
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.mixers.contract import call_mixer, check_mixer, decoding_method, takes
from kerasformer.layers.residual import Residual

# The arguments of the attention that stands where no mixer is given.
ROTARY = ("use_rotary", "rotary_max_wavelength", "rotary_scaling")
FEED_FORWARD = ("activation_dropout", "use_gate")
PRODUCTS = ("use_bias", "kernel_initializer", "bias_initializer")
ATTENTION = ("num_heads", "num_key_value_heads", "key_dim", "attention_dropout", *ROTARY)


@keras.saving.register_keras_serializable(package="kerasformer")
class EncoderBlock(BlockArguments):
    """Applies a mixer, self-attention unless told otherwise, and a feed-forward layer.

        inputs --+-- norm -- mixer -- + --+-- norm -- feed_forward -- + -- outputs
                 |____________________|   |___________________________|

    That is pre-norm; with `norm_first=False` each norm stands behind its addition.

    A mixer is any Keras layer from `(B, T, hidden_dim)` to the same; `mixers/contract.py` says what
    else it may do. It is a pattern: the block makes a copy with the same arguments, its own weights
    and its own dtype, and calls it with the keywords that the block was given, and no others.

    Args:
        hidden_dim: int. Size of the sequence.
        num_heads: int or `None`. Number of query heads; `None` beside a mixer.
        intermediate_dim: int or `None`. Inner size of the feed-forward layer; `None` for a block
            without one.
        mixer: Keras layer or `None`. What mixes the positions; `None` for a `MultiHeadAttention`
            of `num_heads`, `num_key_value_heads`, `key_dim`, `attention_dropout` and the rotary
            arguments, which must be left out beside a mixer.
        dropout: float. Rate at which the output of each sublayer is dropped.
        attention_dropout: float. Rate at which attention probabilities are dropped.
        activation_dropout: float. Rate at which inner feed-forward activations are dropped.
        activation: str or callable. Activation of the feed-forward layer (of its gate).
        norm_first: bool. Pre-norm, or the post-norm of 2017.
        normalization: str. `"layer"`, `"rms"` or `"affine"` (a scale and a shift alone).
        epsilon: float. Added to the variance by each normalisation.
        num_key_value_heads: int or `None`. Fewer heads for keys and values (grouped queries).
        key_dim: int or `None`. Size of a head; `None` means `hidden_dim // num_heads`.
        use_bias: bool. Whether products add a bias.
        use_rotary: bool. Whether self-attention turns queries and keys by their positions.
        rotary_max_wavelength: float. Base of the wavelengths, for `use_rotary`.
        rotary_scaling: `("linear", factor)`, `("ntk", factor)` or `None`, for `use_rotary`.
        use_gate: bool. Whether the feed-forward layer is a `GatedFeedForward`.
        stochastic_depth: float. Rate at which a sublayer is left out, for each example alone.
        layer_scale: float or `None`. Start of learned factors of each sublayer; `None` for none.
        kernel_initializer: Keras initializer, its name or its config, for the kernels of attention
            and feed-forward layer.
        bias_initializer: Keras initializer, its name or its config, for their biases.
        seed: int or `None`. From it each dropout derives a random stream of its own, also each
            layer with a `seed` inside a mixer, whose own seeds hold only where this is `None`.
        **kwargs: passed to `keras.layers.Layer` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        attention_mask: boolean tensor `(T, T)`, `(B, T, T)` or `(B, N, T, T)`, `True` = attend.
        use_causal_mask: bool. Whether a position may not look at later ones.
        positions: int tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`, for `use_rotary`; `None` means
            `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the attention probabilities `(B, N, T, T)`, or whatever the mixer calls its scores.

    Masking: the mask hides keys and is kept; Keras fills it by itself, as `mask` when `inputs`
    is the only tensor, as `inputs_mask` when there are other tensors. A mixer whose `call` takes
    no `mask` does not get it and reads padding like everything else, as a `Conv1D` does.

    Raises:
        ValueError: when arguments contradict each other, when the mixer lacks a keyword that the
            block is given, or when it is asked to decode and cannot.

    Example:

    >>> from keras import ops
    >>> block = EncoderBlock(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(block(ops.ones((2, 5, 6))).shape)
    (2, 5, 6)
    >>> recurrent = keras.layers.LSTM(6, return_sequences=True)
    >>> block = EncoderBlock(hidden_dim=6, intermediate_dim=7, mixer=recurrent)
    >>> tuple(block(ops.ones((2, 5, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
        - [Yu et al., 2022](https://arxiv.org/abs/2111.11418), blocks with any mixer
    """

    # Arguments that the mixer alone reads, and the cross-attention does not.
    mixer_arguments = ATTENTION
    has_cross_attention = False

    def __init__(self, hidden_dim, num_heads=None, intermediate_dim=None, *, mixer=None, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        self._check_mixer(mixer)
        self._mixer_config = serialize_child(mixer)
        # This attribute holds any mixer, attention or not: files name the weights after it.
        self.self_attention = self._residual("self_attention", self._make_mixer(mixer))
        self.cross_attention = self.feed_forward = None
        if self.has_cross_attention:
            attention = self._make_attention("cross_attention")
            self.cross_attention = self._residual("cross_attention", attention)
        if intermediate_dim is not None:
            self.feed_forward = self._residual("feed_forward", self._make_feed_forward())

    def _check_mixer(self, mixer):
        needs_heads = mixer is None or self.has_cross_attention
        if needs_heads and self.num_heads is None:
            raise ValueError(f"Expected num_heads, received num_heads=None and mixer={mixer}.")
        if mixer is not None:
            check_mixer(mixer)
            self._check_unused(self.mixer_arguments, "beside a mixer")
        if self.intermediate_dim is None:
            self._check_unused(FEED_FORWARD, "with intermediate_dim=None")
            if not needs_heads:
                self._check_unused(PRODUCTS, "with a mixer and intermediate_dim=None")

    def _check_unused(self, names, where):
        """Refuses arguments that no part of the block reads."""
        parameters = inspect.signature(BlockArguments.__init__).parameters
        for name in names:
            value = getattr(self, name)
            if value != parameters[name].default:
                raise ValueError(
                    f"Expected {name} to be left out {where}, received {name}={value!r}."
                )

    def _residual(self, name, sublayer):
        return Residual(
            sublayer,
            norm_first=self.norm_first,
            normalization=self.normalization,
            epsilon=self.epsilon,
            dropout=self.dropout,
            stochastic_depth=self.stochastic_depth,
            layer_scale=self.layer_scale,
            seed=child_seed(self.seed, name),
            name=name,
            dtype=self.dtype_policy,
        )

    def _make_mixer(self, mixer):
        if mixer is None:
            rotary = {name: getattr(self, name) for name in ROTARY}
            return self._make_attention("self_attention", **rotary)
        return clone(mixer, "mixer", self.dtype_policy, child_seed(self.seed, "mixer"))

    def _make_attention(self, residual, **rotary):
        return MultiHeadAttention(
            self.hidden_dim,
            self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            key_dim=self.key_dim,
            dropout=self.attention_dropout,
            **rotary,
            **self._shared_arguments(f"{residual}/attention"),
            name="attention",
        )

    def _make_feed_forward(self):
        return (GatedFeedForward if self.use_gate else FeedForward)(
            self.hidden_dim,
            self.intermediate_dim,
            activation=self.activation,
            dropout=self.activation_dropout,
            **self._shared_arguments("feed_forward/feed_forward"),
            name="feed_forward",
        )

    def _shared_arguments(self, path):
        return {
            "use_bias": self.use_bias,
            "kernel_initializer": clone_initializer(self.kernel_initializer),
            "bias_initializer": clone_initializer(self.bias_initializer),
            "seed": child_seed(self.seed, path),
            "dtype": self.dtype_policy,
        }

    def build(self, inputs_shape):
        if inputs_shape[-1] != self.hidden_dim:
            raise ValueError(
                f"Expected inputs of width hidden_dim={self.hidden_dim}, received "
                f"shape={tuple(inputs_shape)}."
            )
        self.self_attention.build(inputs_shape)
        if self.feed_forward is not None:
            self.feed_forward.build(inputs_shape)

    def call(
        self,
        inputs,
        *,
        mask=None,
        inputs_mask=None,
        attention_mask=None,
        use_causal_mask=False,
        positions=None,
        return_attention_scores=False,
    ):
        mixer = self.self_attention.sublayer
        x = self.self_attention.apply(
            inputs,
            lambda x: call_mixer(
                mixer,
                x,
                mask=inputs_mask if mask is None else mask,
                attention_mask=attention_mask,
                use_causal_mask=use_causal_mask,
                positions=positions,
                return_attention_scores=return_attention_scores,
            ),
        )
        return self._feed(x, return_attention_scores)

    def _feed(self, x, has_scores=False):
        x, *scores = x if has_scores else (x,)
        x = x if self.feed_forward is None else self.feed_forward(x)
        return (x, *scores) if has_scores else x

    def step(self, inputs, cache, positions):
        """Reads the next tokens of each row with a cache of what came before.

        Args:
            inputs: float tensor `(R, T, hidden_dim)`: one new token a row, or a whole prompt.
                Attention takes prompts of several lengths, padded on the right, because each row
                goes on where its prompt ended. `LocalAttention` and mixers that sum up need
                prompts of one length.
            cache: what `init_cache` or the step before returned.
            positions: int tensor `(R,)`, the position of each row's first token of these.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the new cache.
        """
        step = decoding_method(self.self_attention.sublayer, "step")
        if not self.built:  # A step may come before the first call.
            self.build(inputs.shape)
        x, cache = self.self_attention.apply(inputs, lambda x: step(x, cache, positions))
        return self._feed(x), cache

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step`.

        Args:
            batch_size: int or scalar int tensor. Number of rows, `R`.
            max_length: int. Number of tokens that it has room for; 0 for one that will grow.

        Returns:
            A nested structure of tensors, whose first axis is `R`.
        """
        return decoding_method(self.self_attention.sublayer, "init_cache")(batch_size, max_length)

    def grow_cache(self, cache):
        """Makes room for one more token of each row in a cache."""
        return decoding_method(self.self_attention.sublayer, "grow_cache")(cache)

    def get_config(self):
        return {**super().get_config(), "mixer": copy_config(self._mixer_config)}


@keras.saving.register_keras_serializable(package="kerasformer")
class DecoderBlock(EncoderBlock):
    """Puts attention to a context between the two sublayers of a causal `EncoderBlock`.

    A mixer stands for the self-attention; one whose `call` takes no `use_causal_mask` must be
    causal by itself, as an LSTM is. The other attention arguments are those of the cross-attention
    too, and are given beside a mixer.

    Args:
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of query heads.
        intermediate_dim: int or `None`. Inner size of the feed-forward layer; `None` for none.
        mixer: Keras layer or `None`. What stands for self-attention.
        **kwargs: the other arguments of `EncoderBlock`, `name` and `dtype` included.

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        context: float tensor `(B, S, context_dim)`.
        inputs_mask: boolean tensor `(B, T)`, `True` = real.
        context_mask: boolean tensor `(B, S)`, `True` = real.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        the probabilities `(B, N, T, S)` of the attention to the context.

    Masking: both masks hide keys; Keras fills them by itself; `inputs_mask` is kept.

    Example:

    >>> from keras import ops
    >>> block = DecoderBlock(hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(block(ops.ones((2, 5, 6)), ops.ones((2, 4, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    mixer_arguments = ROTARY
    has_cross_attention = True

    def __init__(self, hidden_dim, num_heads, intermediate_dim=None, *, mixer=None, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, mixer=mixer, **kwargs)

    def build(self, inputs_shape, context_shape):
        super().build(inputs_shape)
        self.cross_attention.build(inputs_shape, context_shape)

    def call(
        self,
        inputs,
        context,
        *,
        inputs_mask=None,
        context_mask=None,
        return_attention_scores=False,
    ):
        mixer, attention = self.self_attention.sublayer, self.cross_attention.sublayer
        is_causal = takes(mixer, "use_causal_mask")
        x = self.self_attention.apply(
            inputs,
            lambda x: call_mixer(mixer, x, mask=inputs_mask, use_causal_mask=is_causal),
        )
        x = self.cross_attention.apply(
            x,
            lambda x: attention(
                x,
                context,
                context_mask=context_mask,
                return_attention_scores=return_attention_scores,
            ),
        )
        return self._feed(x, return_attention_scores)

    def step(self, inputs, cache, positions, context_cache, context_mask=None):
        """Reads the next tokens of each row with a cache of what came before.

        Args:
            inputs: float tensor `(R, T, hidden_dim)`, `R` a multiple of `B`, batch-major.
            cache: what `init_cache` or the step before returned.
            positions: int tensor `(R,)`, the position of each row's first token of these.
            context_cache: keys and values of `B` contexts, from `project_context`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the new cache.
        """
        step = decoding_method(self.self_attention.sublayer, "step")
        cross_step = self.cross_attention.sublayer.cross_step
        x, cache = self.self_attention.apply(inputs, lambda x: step(x, cache, positions))
        x = self.cross_attention.apply(x, lambda x: cross_step(x, context_cache, context_mask))
        return self._feed(x), cache

    def project_context(self, context):
        """Computes the keys and values of the context once for all steps."""
        if not self.built:  # Decoding may come before the first call.
            self.build((None, None, self.hidden_dim), context.shape)
        return self.cross_attention.sublayer.project_context(context)
