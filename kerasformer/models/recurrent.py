"""Recurrent encoder-decoders: Bahdanau's, Luong's, and the one of 2014 without attention.

Letters: `B` batch, `S` source length, `T` target length, `V` target vocabulary, `R` decoded rows.
"""

import keras
from keras import ops

from kerasformer.layers.children import child_seed
from kerasformer.layers.masks import padding_mask
from kerasformer.layers.recurrent import RecurrentDecoder, RecurrentEncoder
from kerasformer.layers.sizes import check_sizes
from kerasformer.models.seq2seq import Seq2Seq

ATTENTIONS = ("additive", "dot", "general", "concat", None)
# Sutskever et al. 2014, section 3.4, and Luong et al. 2015, section 4.1.
_DEEP = {"cell": "lstm", "num_layers": 4, "hidden_dim": 1000, "bidirectional": False}
_APART = {"share_embeddings": False, "tie_output": False}
VARIANTS = {
    # Bahdanau et al. 2014, appendix A.2.3.
    "bahdanau": {
        "num_layers": 1,
        "hidden_dim": 1000,
        "embedding_dim": 620,
        "output_dim": 500,
        "dropout": 0.0,
        **_APART,
    },
    "luong": {**_DEEP, **_APART, "attention": "general", "input_feeding": True, "dropout": 0.2},
    "seq2seq": {**_DEEP, **_APART, "attention": None, "reverse_source": True, "dropout": 0.0},
    # Ours, for the 29,000 pairs of Multi30k.
    "multi30k": {"num_layers": 1, "hidden_dim": 256, "dropout": 0.3},
}


@keras.saving.register_keras_serializable(package="kerasformer")
class Seq2SeqRNN(Seq2Seq):
    """Predicts each target token from the source and the target tokens before it, by recurrence.

    It takes the place of `Seq2SeqTransformer`: same inputs and outputs, same methods. What looks at
    the source decides which decoder it is:

    - `attention="additive"`: Bahdanau's. The state before a token looks at the source; what it sees
      is read with the token, and a maxout of state, token and what was seen predicts the next one.
    - `"dot"`, `"general"`, `"concat"`: Luong's. The state behind a token looks at the source, and
      `tanh(W [seen; state])` predicts the next token. With `input_feeding` it is also read with
      the next token, which makes training a loop over tokens as Bahdanau's is.
    - `None`: nothing looks. The last state of the encoder is all that the decoder has.

    The states of a bidirectional encoder begin the decoder through `tanh(W s)`, `s` being those
    of the backward direction; those of one direction begin it as they are.

    Args:
        vocabulary_size: int. Number of source ids (and of target ids, unless told otherwise).
        num_layers: int. Recurrent layers of the encoder, and of the decoder.
        hidden_dim: int. Size of their states.
        embedding_dim: int or `None`. Size of the tokens' vectors; `None` means `hidden_dim`.
        output_dim: int or `None`. Size of the vectors that predict; `None` means `embedding_dim`.
        cell: str. `"gru"` or `"lstm"`.
        bidirectional: bool. Whether the encoder reads in both directions.
        attention: str or `None`. `"additive"`, `"dot"`, `"general"`, `"concat"` or `None`.
        input_feeding: bool. Whether the vector that predicted a token is read with it, as in
            Luong's.
        reverse_source: bool. Whether the encoder reads from the end to the beginning.
        dropout: float. Rate of the tokens' vectors, between layers, of the annotations of the
            source, and of the vectors that predict.
        target_vocabulary_size: int or `None`. Number of target ids, when the embeddings are not
            shared.
        share_embeddings: bool. Whether source and target use one embedding matrix.
        tie_output: bool. Whether the output projection is the target embedding's transpose.
        start_id: int. The id that each target begins with, see `special_ids`.
        end_id: int. The id that each target ends with, see `special_ids`.
        pad_id: int. The id of padding on either side. It may be `start_id` too.
        use_logits_bias: bool. Whether the logits get a bias, one number for each target id.
        embeddings_initializer: Keras initializer, its name or its config, for the vectors of both
            sides; `None` means `N(0, 1/size)`.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        name: str or `None`. Name of the model.
        trainable: bool. Whether training changes the weights.
        dtype: str, dtype policy or `None`. Dtype of the computation.

    Call arguments:
        inputs: dict of int tensors: `"source"` `(B, S)`, padded on either side, and `"target"`
            `(B, T)`, the target behind its start token, padded on the right.

    Returns:
        float32 logits `(B, T, V)`: row `t` predicts the token after `target[:, :t + 1]`.

    Masking: as in `Seq2SeqTransformer`.

    Raises:
        ValueError: when sizes or sharing contradict each other, for an unknown cell, attention or
            variant, or input feeding where nothing of the kind is fed.

    Example:

    >>> model = Seq2SeqRNN.from_variant("multi30k", vocabulary_size=11)
    >>> ids = ops.array([[5, 7, 2]])
    >>> tuple(model({"source": ids, "target": ids}).shape)
    (1, 3, 11)

    References:
        - [Sutskever et al., 2014](https://arxiv.org/abs/1409.3215)
        - [Bahdanau et al., 2014](https://arxiv.org/abs/1409.0473)
        - [Luong et al., 2015](https://arxiv.org/abs/1508.04025)
    """

    VARIANTS = VARIANTS

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        hidden_dim,
        embedding_dim=None,
        output_dim=None,
        cell="gru",
        bidirectional=True,
        attention="additive",
        input_feeding=False,
        reverse_source=False,
        dropout=0.1,
        target_vocabulary_size=None,
        share_embeddings=True,
        tie_output=True,
        start_id=1,
        end_id=2,
        pad_id=0,
        use_logits_bias=False,
        embeddings_initializer=None,
        seed=None,
        name=None,
        trainable=True,
        dtype=None,
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
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.embedding_dim = embedding_dim
        self.output_dim = output_dim
        self.cell = cell
        self.bidirectional = bidirectional
        self.attention = attention
        self.input_feeding = input_feeding
        self.reverse_source = reverse_source
        self.dropout = dropout
        self.seed = seed
        self._vector_dim = embedding_dim or hidden_dim
        self._check_arguments()
        self.make_embeddings(self._vector_dim, output_dim or self._vector_dim)
        self.dropout_layer = keras.layers.Dropout(
            dropout,
            seed=child_seed(seed, "dropout_layer"),
            name="dropout_layer",
            dtype=self.dtype_policy,
        )
        self._make_stacks()

    def _check_arguments(self):
        check_sizes(
            num_layers=self.num_layers,
            hidden_dim=self.hidden_dim,
            embedding_dim=self.embedding_dim,
            output_dim=self.output_dim,
        )
        for name, choices in (("cell", ("gru", "lstm")), ("attention", ATTENTIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected {name} to be one of {list(choices)}, received "
                    f"{name}={getattr(self, name)!r}."
                )
        if self.input_feeding and self.attention in ("additive", None):
            raise ValueError(
                "Expected input_feeding with attention 'dot', 'general' or 'concat', because "
                "additive attention feeds what it sees, received "
                f"input_feeding={self.input_feeding} and attention={self.attention!r}."
            )
        if self.attention == "dot" and self.bidirectional:
            raise ValueError(
                "Expected bidirectional=False with attention='dot', which compares states of one "
                f"size, received bidirectional={self.bidirectional}."
            )
        if self.tie_output and self.output_dim not in (None, self._vector_dim):
            raise ValueError(
                "Expected output_dim to be the size of the target's vectors with tie_output=True, "
                f"received output_dim={self.output_dim} and embedding_dim={self._vector_dim}."
            )

    def _make_stacks(self):
        arguments = {
            "cell": self.cell,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "dtype": self.dtype_policy,
        }
        self.encoder = RecurrentEncoder(
            reverse_source=self.reverse_source,
            seed=child_seed(self.seed, "encoder"),
            name="encoder",
            **arguments,
        )
        self.decoder = RecurrentDecoder(
            output_dim=self.output_dim or self._vector_dim,
            attention=self.attention,
            input_feeding=self.input_feeding,
            seed=child_seed(self.seed, "decoder"),
            name="decoder",
            **arguments,
        )

    def build(self, inputs_shape=None):
        self.build_embeddings()
        self.encoder.build((None, None, self._vector_dim))
        self.decoder.build((None, None, self._vector_dim))

    def encode(self, source, training=None):
        """Reads the source.

        Args:
            source: int tensor `(B, S)`, padded with `pad_id`.
            training: bool or `None`. Whether dropout is active.

        Returns:
            Tuple of the context, itself a tuple of tensors for `decode`, and its mask `(B, S)`.
        """
        if not self.built:  # When `start_decoding` comes before the first call.
            self.build()
        mask = padding_mask(source, self.pad_id)
        x = self.dropout_layer(self.source_embedding(source), training=training)
        annotations, *states = self.encoder(x, mask=mask, training=training)
        return (self.dropout_layer(annotations, training=training), *states), mask

    def decode(self, target, context, context_mask, training=None, return_attention_scores=False):
        """Predicts the token after each target token.

        Args:
            target: int tensor `(B, T)` that begins with the start token, padded with `pad_id`.
            context: tuple of float tensors from `encode`.
            context_mask: boolean tensor `(B, S)` from `encode`.
            training: bool or `None`. Whether dropout is active.
            return_attention_scores: bool. Whether to return `(logits, scores)`.

        Returns:
            float32 logits `(B, T, V)`; with `return_attention_scores=True` a tuple of them and a
            list of one tensor `(B, 1, T, S)`, as a Transformer of one block with one head gives
            it. Without attention it is the same for each real source token.
        """
        x = self.dropout_layer(self.target_embedding(target), training=training)
        x = self.decoder(
            x,
            context,
            context_mask=context_mask,
            return_attention_scores=return_attention_scores,
            training=training,
        )
        x, scores = x if return_attention_scores else (x, None)
        x = self.dropout_layer(x, training=training)
        logits = self.output_embedding(x, reverse=True)
        return (logits, [scores[:, None]]) if return_attention_scores else logits

    def start_decoding(self, source, max_length):
        """Prepares the search for translations of a batch, a state a row.

        Args:
            source: int tensor `(B, S)`, padded with `pad_id`.
            max_length: int, or scalar int32 tensor. The longest translation, end token included;
                the search is given the same.

        Returns:
            Tuple `(step, state, context)` as the searches of `kerasformer.decoding` take it. They
            also take `**special_ids`, when these are other than the defaults.

        Example:

        >>> from kerasformer import decoding
        >>> model = Seq2SeqRNN(7, num_layers=1, hidden_dim=4)
        >>> source, start_ids = ops.array([[3, 5, 0]]), ops.array([model.start_id])
        >>> begin = (*model.start_decoding(source, max_length=4), start_ids, 4)
        >>> tuple(decoding.beam_search(*begin, **model.special_ids).token_ids.shape)
        (1, 1, 4)
        """
        context, context_mask = self.encode(source, training=False)
        state = (self.decoder.init_cache(context), ops.zeros_like(source[:, 0]))

        def step(token_ids, state, context):
            cache, positions = state
            logits, cache = self.decode_step(token_ids, cache, positions, *context)
            return logits, (cache, positions + 1)

        return step, state, (self.decoder.project_context(context), context_mask)

    def decode_step(self, token_ids, cache, positions, context_cache, context_mask):
        """Predicts the token after one new token a row.

        Args:
            token_ids: int tensor `(R,)`, `R` a multiple of `B`.
            cache: list from `decoder.init_cache` or from the step before.
            positions: int tensor `(R,)`, which a recurrent model has no use for.
            context_cache: list from `decoder.project_context`.
            context_mask: boolean tensor `(B, S)` from `encode`.

        Returns:
            Tuple of the float32 logits `(R, V)` and the new cache.
        """
        x = self.target_embedding(token_ids[:, None])
        x, cache = self.decoder.step(x, cache, context_cache, context_mask)
        return self.output_embedding(x, reverse=True)[:, 0], cache

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "embedding_dim": self.embedding_dim,
            "output_dim": self.output_dim,
            "cell": self.cell,
            "bidirectional": self.bidirectional,
            "attention": self.attention,
            "input_feeding": self.input_feeding,
            "reverse_source": self.reverse_source,
            "dropout": self.dropout,
            "seed": self.seed,
        }
