"""`Encoder` and `Decoder`: stacks of blocks, from a sequence to a sequence.

Nothing here knows whether a sequence came from words or from pixels. Letters: `B` batch, `T`
length, `S` context length, `N` heads, `R` decoded rows.
"""

import numbers

import keras

from kerasformer.layers.block_arguments import BlockArguments
from kerasformer.layers.blocks import DecoderBlock, EncoderBlock
from kerasformer.layers.children import child_seed, clone_with_seeds, copy_config, serialize_child
from kerasformer.layers.mixers.contract import check_mixer
from kerasformer.layers.residual import make_normalization


@keras.saving.register_keras_serializable(package="kerasformer")
class Encoder(BlockArguments):
    """Applies a stack of encoder blocks: a sequence into a sequence.

    A pre-norm stack ends with one more normalisation, unless told otherwise. With a causal mask, or
    a mixer that is causal by itself, it is the decoder-only model of language models, and decodes
    by `step`.

    Args:
        num_layers: int. Number of blocks.
        hidden_dim: int. Size of the sequence.
        num_heads: int or `None`. Number of query heads; `None` beside a mixer.
        intermediate_dim: int or `None`. Inner size of the feed-forward layers; `None` for none.
        mixer: Keras layer, list of layers or `None`. What mixes the positions of each block, see
            `EncoderBlock`; those of a list take turns, and block `i` gets `mixer[i % len(mixer)]`.
        use_final_norm: bool. Whether a pre-norm stack ends with one more normalisation.
        **kwargs: the other arguments of `EncoderBlock`, `name` and `dtype` included;
            `stochastic_depth` is the rate of the last block and falls linearly to 0 in the first,
            or a list of the rate of each block.

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask, inputs_mask, attention_mask, use_causal_mask, positions: as in `EncoderBlock`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        a list with the attention probabilities `(B, N, T, T)` of each block.

    Masking: as in `EncoderBlock`.

    Raises:
        ValueError: as `EncoderBlock`, or for a list of no mixers or of more than `num_layers`, or
            of other than `num_layers` rates.

    Example:

    >>> from keras import ops
    >>> encoder = Encoder(num_layers=2, hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(encoder(ops.ones((2, 5, 6))).shape)
    (2, 5, 6)
    >>> cache = encoder.init_cache(batch_size=2, max_length=9)
    >>> outputs, cache = encoder.step(ops.ones((2, 5, 6)), cache, ops.array([0, 0]))  # a prompt
    >>> outputs, cache = encoder.step(ops.ones((2, 1, 6)), cache, ops.array([5, 5]))  # a token
    >>> tuple(outputs.shape)
    (2, 1, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    block_class = EncoderBlock

    def __init__(
        self,
        num_layers,
        hidden_dim,
        num_heads=None,
        intermediate_dim=None,
        *,
        mixer=None,
        use_final_norm=True,
        **kwargs,
    ):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        self.num_layers = num_layers
        self.use_final_norm = use_final_norm
        if not isinstance(num_layers, numbers.Integral) or num_layers < 0:
            raise ValueError(
                f"Expected num_layers to be an integer of at least 0, received {num_layers=}."
            )
        self._depth_rates = self._rates_of_blocks()
        is_list = isinstance(mixer, (list, tuple))
        mixers = mixer if is_list else [mixer]
        if not 1 <= len(mixers) <= max(num_layers, 1):
            raise ValueError(
                "Expected a list of 1 to num_layers mixers, received "
                f"len(mixer)={len(mixers)} and num_layers={num_layers}."
            )
        if is_list:
            for mixer in mixers:
                check_mixer(mixer)
        configs = [serialize_child(mixer) for mixer in mixers]
        self._mixer_config = configs if is_list else configs[0]
        self.blocks = [
            self._make_block(index, mixers[index % len(mixers)]) for index in range(num_layers)
        ]
        self.final_norm = (
            make_normalization(self.normalization, self.epsilon, "final_norm", self.dtype_policy)
            if self.norm_first and use_final_norm
            else None
        )

    def _rates_of_blocks(self):
        """Lists the stochastic depth of each block."""
        rates = self.stochastic_depth
        if isinstance(rates, numbers.Real):
            # Linear from 0 in the first block to the rate in the last, as Huang et al. found best.
            last = max(self.num_layers - 1, 1)
            return [rates * (index / last) for index in range(self.num_layers)]
        if not isinstance(rates, (list, tuple)) or len(rates) != self.num_layers:
            raise ValueError(
                "Expected stochastic_depth to be a rate or a list of one for each of "
                f"{self.num_layers} blocks, received stochastic_depth={rates!r}."
            )
        return list(rates)

    def _make_block(self, index, mixer):
        arguments = self.block_arguments()
        arguments["stochastic_depth"] = self._depth_rates[index]
        name = f"block_{index}"
        arguments["seed"] = child_seed(self.seed, name)
        if self.seed is None and isinstance(mixer, keras.layers.Layer):
            # The seeds of a pattern would be the same in each block.
            mixer = clone_with_seeds(mixer, name)
        return self.block_class(**arguments, mixer=mixer, name=name, dtype=self.dtype_policy)

    def build(self, inputs_shape):
        self._build_blocks(inputs_shape)

    def _build_blocks(self, *shapes):
        for block in self.blocks:
            block.build(*shapes)
        if self.final_norm is not None:
            self.final_norm.build(shapes[0])

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
        return self._apply_blocks(
            inputs,
            return_attention_scores=return_attention_scores,
            mask=inputs_mask if mask is None else mask,
            attention_mask=attention_mask,
            use_causal_mask=use_causal_mask,
            positions=positions,
        )

    def _apply_blocks(self, x, *context, return_attention_scores, **keywords):
        all_scores = []
        for block in self.blocks:
            x = block(x, *context, return_attention_scores=return_attention_scores, **keywords)
            if return_attention_scores:
                x, scores = x
                all_scores.append(scores)
        x = self._finish(x)
        return (x, all_scores) if return_attention_scores else x

    def _finish(self, x):
        return x if self.final_norm is None else self.final_norm(x)

    def step(self, inputs, cache, positions):
        """Reads the next tokens of each row; `cache` holds an entry a block.

        Args:
            inputs: float tensor `(R, T, hidden_dim)`: one new token a row, or a whole prompt, as in
                `EncoderBlock.step`.
            cache: list from `init_cache` or from the step before.
            positions: int tensor `(R,)`, the position of each row's first token of these.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the new cache.
        """
        if not self.built:  # A step may come before the first call.
            self.build(inputs.shape)
        return self._step_blocks(inputs, cache, positions, [()] * self.num_layers)

    def _step_blocks(self, x, cache, positions, contexts):
        new_cache = []
        for block, block_cache, context in zip(self.blocks, cache, contexts, strict=True):
            x, block_cache = block.step(x, block_cache, positions, *context)
            new_cache.append(block_cache)
        return self._finish(x), new_cache

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step`, an entry a block.

        Args:
            batch_size: int or scalar int tensor. Number of rows, `R`.
            max_length: int. Number of tokens that it has room for; 0 for one that will grow.

        Returns:
            A list of what the blocks return.
        """
        return [block.init_cache(batch_size, max_length) for block in self.blocks]

    def grow_cache(self, cache):
        """Makes room for one more token of each row in a cache."""
        return [block.grow_cache(x) for block, x in zip(self.blocks, cache, strict=True)]

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "mixer": copy_config(self._mixer_config),
            "use_final_norm": self.use_final_norm,
        }


@keras.saving.register_keras_serializable(package="kerasformer")
class Decoder(Encoder):
    """Applies a stack of decoder blocks: a sequence and a context into a sequence.

    A pre-norm stack ends with one more normalisation, unless told otherwise.

    Args:
        num_layers: int. Number of blocks.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of query heads.
        intermediate_dim: int or `None`. Inner size of the feed-forward layers; `None` for none.
        mixer: Keras layer, list of layers or `None`. What stands for self-attention in each block,
            see `DecoderBlock`; those of a list take turns.
        **kwargs: the other arguments of `Encoder`, `name` and `dtype` included.

    Call arguments:
        inputs, context, inputs_mask, context_mask: as in `DecoderBlock`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        a list with the probabilities `(B, N, T, S)` of each block's attention to the context.

    Masking: as in `DecoderBlock`.

    Example:

    >>> from keras import ops
    >>> decoder = Decoder(num_layers=2, hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(decoder(ops.ones((2, 5, 6)), ops.ones((2, 4, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    block_class = DecoderBlock

    def __init__(
        self, num_layers, hidden_dim, num_heads, intermediate_dim=None, *, mixer=None, **kwargs
    ):
        super().__init__(num_layers, hidden_dim, num_heads, intermediate_dim, mixer=mixer, **kwargs)

    def build(self, inputs_shape, context_shape):
        self._build_blocks(inputs_shape, context_shape)

    def call(
        self,
        inputs,
        context,
        *,
        inputs_mask=None,
        context_mask=None,
        return_attention_scores=False,
    ):
        return self._apply_blocks(
            inputs,
            context,
            return_attention_scores=return_attention_scores,
            inputs_mask=inputs_mask,
            context_mask=context_mask,
        )

    def step(self, inputs, cache, positions, context_cache, context_mask=None):
        """Reads the next tokens of each row; both caches hold an entry a block.

        Args:
            inputs: float tensor `(R, T, hidden_dim)`, `R` a multiple of `B`, batch-major.
            cache: list from `init_cache` or from the step before.
            positions: int tensor `(R,)`, the position of each row's first token of these.
            context_cache: list from `project_context`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Tuple of the outputs `(R, T, hidden_dim)` and the new cache.
        """
        contexts = [(block_context, context_mask) for block_context in context_cache]
        return self._step_blocks(inputs, cache, positions, contexts)

    def project_context(self, context):
        """Computes each block's keys and values of the context once for all steps."""
        if not self.built:  # Decoding may come before the first call.
            self.build((None, None, self.hidden_dim), context.shape)
        return [block.project_context(context) for block in self.blocks]
