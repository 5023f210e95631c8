"""Language models such as GPT-2: stacks that read a text from left to right and go on with it.

Letters: `B` batch, `T` length, `V` vocabulary, `R` decoded rows.
"""

import keras
from keras import ops

from kerasformer.layers.masks import text_mask
from kerasformer.models.texts import TextModel
from kerasformer.models.vit_variants import published


def _gpt2(num_layers, hidden_dim, num_heads):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads,
        "intermediate_dim": 4 * hidden_dim,
        "attention_dropout": 0.1,
    }


# Radford et al. 2019, table 2.
VARIANTS = {
    "GPT-2": _gpt2(12, 768, 12),
    "GPT-2 medium": _gpt2(24, 1024, 16),
    "GPT-2 large": _gpt2(36, 1280, 20),
    "GPT-2 XL": _gpt2(48, 1600, 25),
}


@keras.saving.register_keras_serializable(package="kerasformer")
class LanguageModel(TextModel):
    """Predicts each token of a text from those before it.

    It is an `Encoder` with a causal mask between an embedding and the same embedding read
    backwards. The defaults are those of GPT-2; `max_length=None` with `use_rotary=True`,
    `normalization="rms"`, `use_gate=True`, `use_bias=False` and `activation="silu"` is what came
    after it.

    Args:
        vocabulary_size: int. Number of token ids, `V`.
        num_layers: int. Number of blocks.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of attention heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        max_length: int or `None`. Number of learned positions, which no text may exceed; `None` for
            no such positions.
        tie_output: bool. Whether the output projection is the embedding's transpose.
        dropout: float. Rate after the embeddings and each sublayer.
        attention_dropout: float. Rate of the attention probabilities.
        activation: str or callable. Activation of the feed-forward layers.
        epsilon: float. Added to the variance by each normalisation.
        start_id: int. The id that a text begins with where there is no prompt, see `special_ids`.
        end_id: int. The id that a text ends with, see `special_ids`.
        pad_id: int. The id of padding. All three may be the same.
        kernel_initializer: Keras initializer, its name or its config, of all vectors and kernels;
            `None` means a truncated normal distribution with a standard deviation of 0.02.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        **others: `name`, `trainable` and `dtype` of `keras.Model`, and the other arguments of
            `EncoderBlock`, such as `use_rotary`; but no `mixer`.

    Call arguments:
        inputs: int tensor `(B, T)`, token ids padded on the right.

    Returns:
        float32 logits `(B, T, V)`: row `t` predicts the token after `inputs[:, :t + 1]`.

    Masking: a text ends with its last token other than `pad_id`, and its first token is always
    real; logits carry this mask. What stands behind a text never reaches it, because no token looks
    at later ones.

    Raises:
        ValueError: for special ids outside the vocabulary, a mixer, an unknown variant, or a text
            longer than `max_length`.

    Example:

    >>> model = LanguageModel(11, num_layers=1, hidden_dim=4, num_heads=2, intermediate_dim=8)
    >>> tuple(model(ops.array([[5, 7, 2]])).shape)
    (1, 3, 11)

    References:
        - [Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)
    """

    VARIANTS = VARIANTS

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        hidden_dim,
        num_heads,
        intermediate_dim,
        max_length=1024,
        tie_output=True,
        dropout=0.1,
        attention_dropout=0.0,
        activation="gelu_tanh",
        epsilon=1e-5,
        start_id=1,
        end_id=2,
        pad_id=0,
        kernel_initializer=None,
        seed=None,
        **others,
    ):
        super().__init__(
            vocabulary_size,
            num_layers,
            hidden_dim,
            num_heads,
            intermediate_dim,
            max_length,
            dropout,
            attention_dropout,
            activation,
            epsilon,
            pad_id,
            kernel_initializer,
            seed,
            **others,
        )
        self.tie_output = tie_output
        self.start_id = start_id
        self.end_id = end_id
        self.check_ids("start_id", "end_id")
        self.make_parts()
        self.output_embedding = self.token_embedding
        if not tie_output:
            self.output_embedding = self.make_embedding("output_embedding", vocabulary_size)

    @classmethod
    def from_variant(cls, variant, vocabulary_size=50257, **overrides):
        """Makes a published model, with new weights.

        Args:
            variant: str. A key of `VARIANTS`, such as `"GPT-2"`.
            vocabulary_size: int. Number of token ids, that of GPT-2 by default. The last of them
                begins, ends and fills up texts, unless told otherwise.
            **overrides: any argument of the constructor.

        Returns:
            A `LanguageModel`.

        Raises:
            ValueError: for an unknown variant.
        """
        # One token stands before, behind and between texts.
        last = {key: vocabulary_size - 1 for key in ("start_id", "end_id", "pad_id")}
        return cls(vocabulary_size, **{**published(cls.VARIANTS, variant), **last, **overrides})

    @property
    def special_ids(self):
        """The ids of start, end and padding, as rules of the searches of `kerasformer.decoding`.

        Example:

        >>> LanguageModel.from_variant("GPT-2", num_layers=0).special_ids
        {'start_id': 50256, 'end_id': 50256, 'pad_id': 50256}
        """
        return {"start_id": self.start_id, "end_id": self.end_id, "pad_id": self.pad_id}

    def build(self, inputs_shape=None):
        self.build_parts()
        if not self.tie_output:
            self.output_embedding.build((None, None))

    def call(self, inputs, training=None):
        x = self.dropout_layer(self.add_positions(self.token_embedding(inputs)), training=training)
        x = self.encoder(x, use_causal_mask=True, training=training)
        return self.output_embedding(x, reverse=True)

    def start_decoding(self, prompts, max_length):
        """Reads prompts, ready for a search that goes on with them.

        All but the last token of each prompt are read at once; the last is the first that the
        search reads.

        Args:
            prompts: int tensor `(B, T)`, padded on the right with `pad_id`; the first token of each
                is real. Without a prompt, `T` is 1 and the token `start_id`.
            max_length: int. How many tokens the search may add; it is given the same.

        Returns:
            Tuple `(step, state, context, start_ids)` as the searches of `kerasformer.decoding` take
            it. They also take `**special_ids`, when these are other than the defaults.

        Raises:
            ValueError: when there are not as many positions.

        Example:

        >>> from kerasformer import decoding
        >>> model = LanguageModel(11, 1, 4, 2, 8)
        >>> begin = model.start_decoding(ops.array([[5, 7, 3], [9, 0, 0]]), max_length=4)
        >>> found = decoding.sample(*begin, 4, seed=3, top_p=0.9, **model.special_ids)
        >>> tuple(found.token_ids.shape)
        (2, 1, 4)
        """
        if not self.built:
            self.build()
        prompts = ops.convert_to_tensor(prompts)
        rows, length = ops.shape(prompts)
        # The last token of all is predicted, and never read.
        if self.max_length is not None and length + max_length - 1 > self.max_length:
            raise ValueError(
                f"Expected prompts and what follows to have {self.max_length} tokens at most, "
                f"received prompts of length={length} and max_length={max_length}."
            )
        cache = self.encoder.init_cache(rows, length + max_length)
        if length > 1:
            start = ops.zeros((rows,), dtype="int32")
            x = self.add_positions(self.token_embedding(prompts[:, :-1]))
            _, cache = self.encoder.step(x, cache, start)
        # A row with a shorter prompt writes over what its padding left in the cache.
        is_token = text_mask(prompts, self.pad_id)
        last = ops.sum(ops.cast(is_token, "int32"), axis=1) - 1
        start_ids = ops.take_along_axis(prompts, last[:, None], axis=1)[:, 0]

        def step(token_ids, state, context):
            cache, positions = state
            logits, cache = self.decode_step(token_ids, cache, positions)
            return logits, (cache, positions + 1)

        return step, (cache, last), (), start_ids

    def decode_step(self, token_ids, cache, positions):
        """Predicts the token after one new token a row.

        Args:
            token_ids: int tensor `(R,)`.
            cache: list from `encoder.init_cache`, with what came before in it.
            positions: int tensor `(R,)`, the position of each row's token.

        Returns:
            Tuple of the float32 logits `(R, V)` and the new cache.
        """
        x = self.add_positions(self.token_embedding(token_ids[:, None]), positions[:, None])
        x, cache = self.encoder.step(x, cache, positions)
        return self.output_embedding(x, reverse=True)[:, 0], cache

    def compute_mask(self, inputs, previous_mask=None):
        return text_mask(inputs, self.pad_id)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape, self.vocabulary_size)

    def get_config(self):
        return {
            **super().get_config(),
            "tie_output": self.tie_output,
            "start_id": self.start_id,
            "end_id": self.end_id,
        }
