"""The encoder-decoder Transformer of Vaswani et al. (2017), for token ids on both sides.

Letters: `B` batch, `S` source length, `T` target length, `V` target vocabulary, `R` decoded rows.
"""

import keras
from keras import ops

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import child_seed
from kerasformer.layers.masks import padding_mask
from kerasformer.layers.positions.sequences import SinusoidalPositionEncoding
from kerasformer.layers.stacks import Decoder, Encoder
from kerasformer.models.seq2seq import Seq2Seq

# base and big: Vaswani et al. 2017, table 3; tiny: Wu et al. 2021 (arXiv 2105.14462) on Multi30k;
# opus-mt: Tiedemann and Thottingal 2020, as transformers runs it.
VARIANTS = {
    "tiny": {
        "num_layers": 4,
        "hidden_dim": 128,
        "num_heads": 4,
        "intermediate_dim": 256,
        "dropout": 0.3,
    },
    "base": {
        "num_layers": 6,
        "hidden_dim": 512,
        "num_heads": 8,
        "intermediate_dim": 2048,
        "dropout": 0.1,
    },
    "big": {
        "num_layers": 6,
        "hidden_dim": 1024,
        "num_heads": 16,
        "intermediate_dim": 4096,
        "dropout": 0.3,
    },
    "opus-mt": {
        "num_layers": 6,
        "hidden_dim": 512,
        "num_heads": 8,
        "intermediate_dim": 2048,
        "dropout": 0.1,
        "activation": "silu",
        "position_layout": "concatenated",
        "use_logits_bias": True,
        "epsilon": 1e-5,
    },
}


@keras.saving.register_keras_serializable(package="kerasformer")
class Seq2SeqTransformer(Seq2Seq):
    """Predicts each target token from the source and the target tokens before it.

    With shared embeddings the source, the target and the output use one matrix; without, the
    source has one of its own, and the output is the target's matrix read backwards, or with
    `tie_output=False` a matrix of its own.

    Args:
        vocabulary_size: int. Number of source ids (and of target ids, unless told otherwise).
        num_layers: int. Blocks of the encoder, and of the decoder.
        hidden_dim: int. Size of the sequences.
        num_heads: int. Number of attention heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        target_vocabulary_size: int or `None`. Number of target ids, when the embeddings are not
            shared.
        share_embeddings: bool. Whether source and target use one embedding matrix.
        tie_output: bool. Whether the output projection is the target embedding's transpose.
        dropout: float. Rate after the embeddings and each sublayer.
        attention_dropout: float. Rate of the attention probabilities.
        activation_dropout: float. Rate of the inner feed-forward activations.
        activation: str or callable. Activation of the feed-forward layers.
        norm_first: bool. Pre-norm, or the paper's post-norm.
        position_layout: str. Layout of the sinusoids, see `SinusoidalPositionEncoding`.
        position_start: int. Position of the first token, 0 or 1.
        start_id: int. The id that each target begins with, see `special_ids`.
        end_id: int. The id that each target ends with, see `special_ids`.
        pad_id: int. The id of padding on either side. It may be `start_id` too.
        use_logits_bias: bool. Whether the logits get a bias, one number for each target id.
        embeddings_initializer: Keras initializer, its name or its config, for the vectors of both
            sides; `None` means `N(0, 1/hidden_dim)`.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        name: str or `None`. Name of the model.
        trainable: bool. Whether training changes the weights.
        dtype: str, dtype policy or `None`. Dtype of the computation.
        **block_arguments: the other arguments of `EncoderBlock`, for the blocks of both stacks,
            such as `epsilon` or `use_bias`; but no `mixer`.

    Call arguments:
        inputs: dict of int tensors: `"source"` `(B, S)`, and `"target"` `(B, T)`, the target
            behind its start token. Both are padded on the right.

    Returns:
        float32 logits `(B, T, V)`: row `t` predicts the token after `target[:, :t + 1]`.

    Masking: a target ends with its last token other than `pad_id`, and its first token is always
    real, so that `start_id` and `pad_id` may be the same; logits carry this mask. In a source each
    `pad_id` is padding. What stands in the padding of one side does not reach the other tokens.

    Raises:
        ValueError: when sizes or sharing contradict each other, or for an unknown variant.

    Example:

    >>> model = Seq2SeqTransformer.from_variant("tiny", vocabulary_size=11)
    >>> ids = ops.array([[5, 7, 2]])
    >>> tuple(model({"source": ids, "target": ids}).shape)
    (1, 3, 11)

    References:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)
    """

    VARIANTS = VARIANTS

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        hidden_dim,
        num_heads,
        intermediate_dim,
        target_vocabulary_size=None,
        share_embeddings=True,
        tie_output=True,
        dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation="relu",
        norm_first=False,
        position_layout="interleaved",
        position_start=0,
        start_id=1,
        end_id=2,
        pad_id=0,
        use_logits_bias=False,
        embeddings_initializer=None,
        seed=None,
        name=None,
        trainable=True,
        dtype=None,
        **block_arguments,
    ):
        super().__init__(
            vocabulary_size,
            target_vocabulary_size,
            share_embeddings,
            tie_output,
            start_id,
            end_id,
            pad_id,
            use_logits_bias,
            embeddings_initializer,
            name=name,
            trainable=trainable,
            dtype=dtype,
        )
        if "mixer" in block_arguments:
            raise ValueError(
                "Expected no mixer, because a decoder's must be causal and an encoder's need not, "
                f"received mixer={block_arguments['mixer']!r}."
            )
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.activation = activation
        self.norm_first = norm_first
        self.position_layout = position_layout
        self.position_start = position_start
        self.seed = seed
        self.block_arguments = block_arguments
        self.make_embeddings(hidden_dim, hidden_dim)
        self.positions = SinusoidalPositionEncoding(
            self.position_layout,
            self.position_start,
            name="positions",
            dtype=self.dtype_policy,
        )
        self.dropout_layer = keras.layers.Dropout(
            self.dropout,
            seed=child_seed(self.seed, "dropout_layer"),
            name="dropout_layer",
            dtype=self.dtype_policy,
        )
        self._make_stacks()

    def _make_stacks(self):
        arguments = {
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "activation": self.activation,
            "norm_first": self.norm_first,
            **self.block_arguments,
            "dtype": self.dtype_policy,
        }
        self.encoder = Encoder(**arguments, seed=child_seed(self.seed, "encoder"), name="encoder")
        self.decoder = Decoder(**arguments, seed=child_seed(self.seed, "decoder"), name="decoder")

    def build(self, inputs_shape=None):
        sequence_shape = (None, None, self.hidden_dim)
        self.build_embeddings()
        self.positions.build(sequence_shape)
        self.encoder.build(sequence_shape)
        self.decoder.build(sequence_shape, sequence_shape)

    def encode(self, source, training=None):
        """Reads the source.

        Args:
            source: int tensor `(B, S)`, padded with `pad_id`.
            training: bool or `None`. Whether dropout is active.

        Returns:
            Tuple of the context `(B, S, hidden_dim)` and its mask `(B, S)`.
        """
        if not self.built:  # When `start_decoding` comes before the first call.
            self.build()
        mask = padding_mask(source, self.pad_id)
        x = self.dropout_layer(self.positions(self.source_embedding(source)), training=training)
        return self.encoder(x, mask=mask, training=training), mask

    def decode(self, target, context, context_mask, training=None, return_attention_scores=False):
        """Predicts the token after each target token.

        Args:
            target: int tensor `(B, T)` that begins with the start token, padded with `pad_id`.
            context: float tensor `(B, S, hidden_dim)` from `encode`.
            context_mask: boolean tensor `(B, S)` from `encode`.
            training: bool or `None`. Whether dropout is active.
            return_attention_scores: bool. Whether to return `(logits, scores)`.

        Returns:
            float32 logits `(B, T, V)`; with `return_attention_scores=True` a tuple of them and a
            list of each block's attention to the context `(B, N, T, S)`.
        """
        x = self.dropout_layer(self.positions(self.target_embedding(target)), training=training)
        x = self.decoder(
            x,
            context,
            inputs_mask=self.target_mask(target),
            context_mask=context_mask,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        if return_attention_scores:
            x, scores = x
            return self.output_embedding(x, reverse=True), scores
        return self.output_embedding(x, reverse=True)

    def start_decoding(self, source, max_length):
        """Prepares the cached search for translations of a batch.

        The encoder runs once, and so do the keys and values of its output: they are the context,
        shared by all hypotheses of a sentence. With an int as `max_length` the cache has its whole
        length at once, as XLA and JAX need it; with a tensor, which is meant for graphs of
        TensorFlow, it grows with the translations.

        Args:
            source: int tensor `(B, S)`, padded with `pad_id`.
            max_length: int, or scalar int32 tensor. The longest translation, end token included;
                the search is given the same.

        Returns:
            Tuple `(step, state, context)` as the searches of `kerasformer.decoding` take it. They
            also take `**special_ids`, when these are other than the defaults.

        Example:

        >>> from kerasformer import decoding
        >>> model = Seq2SeqTransformer(7, 1, 4, 2, 3, start_id=6, end_id=0, pad_id=6)
        >>> source, start_ids = ops.array([[3, 5, 0]]), ops.array([model.start_id])
        >>> begin = (*model.start_decoding(source, max_length=4), start_ids, 4)
        >>> tuple(decoding.beam_search(*begin, **model.special_ids).token_ids.shape)
        (1, 1, 4)
        """
        context, context_mask = self.encode(source, training=False)
        grows, batch = ops.is_tensor(max_length), ops.shape(source)[0]
        cache = self.decoder.init_cache(batch, 0 if grows else max_length)
        state = (cache, ops.zeros((batch,), dtype="int32"))

        def step(token_ids, state, context):
            cache, positions = state
            if grows:
                cache = self.decoder.grow_cache(cache)
            logits, cache = self.decode_step(token_ids, cache, positions, *context)
            return logits, (cache, positions + 1)

        return step, state, (self.decoder.project_context(context), context_mask)

    def decode_step(self, token_ids, cache, positions, context_cache, context_mask):
        """Predicts the token after one new token a row.

        Args:
            token_ids: int tensor `(R,)`, `R` a multiple of `B`.
            cache: list from `decoder.init_cache`, with what came before in it.
            positions: int tensor `(R,)`, the position of each row's token.
            context_cache: list from `decoder.project_context`.
            context_mask: boolean tensor `(B, S)` from `encode`.

        Returns:
            Tuple of the float32 logits `(R, V)` and the new cache.
        """
        x = self.positions(self.target_embedding(token_ids[:, None]), positions=positions[:, None])
        x, cache = self.decoder.step(x, cache, positions, context_cache, context_mask)
        return self.output_embedding(x, reverse=True)[:, 0], cache

    def get_config(self):
        stack = self.encoder.get_config()
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "activation": serialize_activation(self.activation),
            "norm_first": self.norm_first,
            "position_layout": self.position_layout,
            "position_start": self.position_start,
            "seed": self.seed,
            **{name: stack[name] for name in self.block_arguments},
        }
