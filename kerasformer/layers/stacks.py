"""`Encoder` and `Decoder`: stacks of blocks, from a sequence to a sequence.

Nothing here knows whether a sequence came from words or from pixels. Letters: `B` batch, `T`
length, `S` context length, `N` heads, `R` decoded rows.
"""

import keras

from kerasformer.layers.blocks import BlockArguments, DecoderBlock, EncoderBlock
from kerasformer.layers.residual import make_normalization


class _Stack(BlockArguments):
    """Stacks blocks; a pre-norm stack ends with one more normalisation."""

    _block_class = None

    def __init__(self, num_layers, hidden_dim, num_heads, intermediate_dim, **kwargs):
        super().__init__(hidden_dim, num_heads, intermediate_dim, **kwargs)
        self.num_layers = num_layers
        self.blocks = [self._block(index) for index in range(num_layers)]
        self.final_norm = (
            make_normalization(self.normalization, self.epsilon, "final_norm", self.dtype_policy)
            if self.norm_first
            else None
        )

    def _block(self, index):
        arguments = self.block_arguments()
        # Linear from 0 in the first block to the rate in the last, as Huang et al. found best.
        arguments["stochastic_depth"] *= index / max(self.num_layers - 1, 1)
        return self._block_class(**arguments, name=f"block_{index}", dtype=self.dtype_policy)

    def build(self, *shapes):
        for block in self.blocks:
            block.build(*shapes)
        if self.final_norm is not None:
            self.final_norm.build(shapes[0])

    def _finish(self, x):
        return x if self.final_norm is None else self.final_norm(x)

    def get_config(self):
        return {**super().get_config(), "num_layers": self.num_layers}


@keras.saving.register_keras_serializable(package="kerasformer")
class Encoder(_Stack):
    """Applies a stack of encoder blocks: a sequence into a sequence.

    Args:
        num_layers: int. Number of blocks.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of query heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        **kwargs: the other arguments of `EncoderBlock`, `name` and `dtype` included;
            `stochastic_depth` is the rate of the last block and falls linearly to 0 in the first.

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        mask: boolean tensor `(B, T)`, `True` = real.
        inputs_mask: boolean tensor `(B, T)`, what Keras fills; `mask`, if given, replaces it.
        attention_mask: boolean tensor `(B, T, T)` or `(B, N, T, T)`, `True` = attend.
        use_causal_mask: bool. Whether a position may not look at later ones.
        positions: int tensor `(T,)`, `(B, T)` or `(1 or B, T, A)`, for `use_rotary`; `None` means
            `0..T-1`.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        a list with the attention probabilities `(B, N, T, T)` of each block.

    Masking: the mask hides keys and is kept; Keras fills it by itself, as `mask` when `inputs`
    is the only tensor, as `inputs_mask` when there are other tensors.

    Example:

    >>> from keras import ops
    >>> encoder = Encoder(num_layers=2, hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(encoder(ops.ones((2, 5, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    _block_class = EncoderBlock

    def build(self, inputs_shape):
        super().build(inputs_shape)

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
        x, all_scores = inputs, []
        for block in self.blocks:
            x, scores = block(
                x,
                mask=inputs_mask if mask is None else mask,
                attention_mask=attention_mask,
                use_causal_mask=use_causal_mask,
                positions=positions,
                return_attention_scores=True,
            )
            all_scores.append(scores)
        x = self._finish(x)
        return (x, all_scores) if return_attention_scores else x


@keras.saving.register_keras_serializable(package="kerasformer")
class Decoder(_Stack):
    """Applies a stack of decoder blocks: a sequence and a context into a sequence.

    Args:
        num_layers: int. Number of blocks.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of query heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        **kwargs: the other arguments of `EncoderBlock`, `name` and `dtype` included;
            `stochastic_depth` is the rate of the last block and falls linearly to 0 in the first.

    Call arguments:
        inputs: float tensor `(B, T, hidden_dim)`.
        context: float tensor `(B, S, context_dim)`.
        inputs_mask: boolean tensor `(B, T)`, `True` = real.
        context_mask: boolean tensor `(B, S)`, `True` = real.
        return_attention_scores: bool. Whether to return `(outputs, scores)`.

    Returns:
        Float tensor `(B, T, hidden_dim)`; with `return_attention_scores=True` a tuple of it and
        a list with the probabilities `(B, N, T, S)` of each block's attention to the context.

    Masking: both masks hide keys; Keras fills them by itself; `inputs_mask` is kept.

    Example:

    >>> from keras import ops
    >>> decoder = Decoder(num_layers=2, hidden_dim=6, num_heads=3, intermediate_dim=7)
    >>> tuple(decoder(ops.ones((2, 5, 6)), ops.ones((2, 4, 6))).shape)
    (2, 5, 6)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1
    """

    _block_class = DecoderBlock

    def build(self, inputs_shape, context_shape):
        super().build(inputs_shape, context_shape)

    def call(
        self,
        inputs,
        context,
        *,
        inputs_mask=None,
        context_mask=None,
        return_attention_scores=False,
    ):
        x, all_scores = inputs, []
        for block in self.blocks:
            x, scores = block(
                x,
                context,
                inputs_mask=inputs_mask,
                context_mask=context_mask,
                return_attention_scores=True,
            )
            all_scores.append(scores)
        x = self._finish(x)
        return (x, all_scores) if return_attention_scores else x

    def step(self, inputs, cache, positions, context_cache, context_mask=None):
        """Decodes one new token a row; `cache` and `context_cache` hold an entry a block.

        Args:
            inputs: float tensor `(R, 1, hidden_dim)`.
            cache: list from `init_cache`.
            positions: int tensor `(R,)`, the position of each row's token.
            context_cache: list from `project_context`.
            context_mask: boolean tensor `(B, S)` or `None`.

        Returns:
            Tuple of the outputs `(R, 1, hidden_dim)` and the new cache.
        """
        x, new_cache = inputs, []
        for block, block_cache, block_context in zip(
            self.blocks, cache, context_cache, strict=True
        ):
            x, block_cache = block.step(x, block_cache, positions, block_context, context_mask)
            new_cache.append(block_cache)
        return self._finish(x), new_cache

    def init_cache(self, batch_size, max_length):
        """Makes the empty cache of `step` for `batch_size` rows of `max_length` tokens."""
        return [block.init_cache(batch_size, max_length) for block in self.blocks]

    def project_context(self, context):
        """Computes each block's keys and values of the context once for all steps."""
        return [block.project_context(context) for block in self.blocks]
