"""What models of one text have, whatever they say about it: vectors of tokens, and an encoder.

Letters: `B` batch, `T` length.
"""

import numbers

import keras

from kerasformer.layers.activations import serialize_activation
from kerasformer.layers.children import Composite, child_seed
from kerasformer.layers.embeddings.tokens import TokenEmbedding
from kerasformer.layers.initializers import clone_initializer, serialize_initializer
from kerasformer.layers.positions.sequences import LearnedPositionEmbedding
from kerasformer.layers.stacks import Encoder


class TextModel(Composite, keras.Model):
    """Owns `token_embedding`, `positions`, `dropout_layer` and `encoder`.

    A subclass calls `make_parts` in its constructor, and writes `build` and `call`.

    Args:
        vocabulary_size: int. Number of token ids.
        num_layers: int. Number of blocks.
        hidden_dim: int. Size of the sequence.
        num_heads: int. Number of attention heads.
        intermediate_dim: int. Inner size of the feed-forward layers.
        max_length: int or `None`. Number of learned positions; `None` for none.
        dropout: float. Rate after the embeddings and each sublayer.
        attention_dropout: float. Rate of the attention probabilities.
        activation: str or callable. Activation of the feed-forward layers.
        epsilon: float. Added to the variance by each normalisation.
        pad_id: int. The id of padding.
        kernel_initializer: Keras initializer, its name or its config, of all vectors and kernels;
            `None` means a truncated normal distribution with a standard deviation of 0.02.
        seed: int or `None`. From it each dropout derives a random stream of its own.
        name, trainable, dtype: as in `keras.Model`.
        **block_arguments: the other arguments of `EncoderBlock`; but no `mixer`.

    Raises:
        ValueError: for an id outside the vocabulary, a mixer, or an unknown variant.
    """

    VARIANTS: dict[str, dict] = {}

    def __init__(
        self,
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
        name=None,
        trainable=True,
        dtype=None,
        **block_arguments,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.max_length = max_length
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation = activation
        self.epsilon = epsilon
        self.pad_id = pad_id
        self.kernel_initializer = kernel_initializer
        self.seed = seed
        self.block_arguments = block_arguments
        self.check_ids("pad_id")
        if "mixer" in block_arguments:
            raise ValueError(
                "Expected no mixer, because texts need attention with its masks, received "
                f"mixer={block_arguments['mixer']!r}."
            )

    def check_ids(self, *names):
        """Refuses arguments that are no ids of the vocabulary.

        Raises:
            ValueError: naming the first.
        """
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or not 0 <= value < self.vocabulary_size:
                raise ValueError(
                    f"Expected {name} of 0 to {self.vocabulary_size - 1}, in the vocabulary, "
                    f"received {name}={value}."
                )

    def make_parts(self, **block_arguments):
        """Makes the layers that all models of a text have.

        Args:
            **block_arguments: of the encoder, unless the constructor was given others.
        """
        policy = self.dtype_policy
        self.token_embedding = self.make_embedding("token_embedding", self.vocabulary_size)
        self.positions = None
        if self.max_length is not None:
            self.positions = LearnedPositionEmbedding(
                self.max_length, self.make_initializer(), name="positions", dtype=policy
            )
        self.dropout_layer = keras.layers.Dropout(
            self.dropout,
            seed=child_seed(self.seed, "dropout_layer"),
            name="dropout_layer",
            dtype=policy,
        )
        self.encoder = Encoder(
            self.num_layers,
            self.hidden_dim,
            self.num_heads,
            self.intermediate_dim,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation=self.activation,
            epsilon=self.epsilon,
            kernel_initializer=self.make_initializer(),
            **{**block_arguments, **self.block_arguments},
            seed=child_seed(self.seed, "encoder"),
            name="encoder",
            dtype=policy,
        )

    def make_initializer(self):
        """Returns an initializer for one more weight."""
        if self.kernel_initializer is None:
            return keras.initializers.TruncatedNormal(stddev=0.02)
        return clone_initializer(self.kernel_initializer)

    def make_embedding(self, name, count):
        """Makes a table of `count` vectors."""
        return TokenEmbedding(
            count,
            self.hidden_dim,
            use_scale=False,
            mask_zero=False,  # `compute_mask` of the model makes the mask, of `pad_id`.
            embeddings_initializer=self.make_initializer(),
            name=name,
            dtype=self.dtype_policy,
        )

    def build_parts(self):
        """Builds the layers of `make_parts`."""
        self.token_embedding.build((None, None))
        for layer in (self.positions, self.encoder):
            if layer is not None:
                layer.build((None, None, self.hidden_dim))

    def add_positions(self, inputs, positions=None):
        """Adds the vectors of positions, where there are any, to a sequence."""
        return inputs if self.positions is None else self.positions(inputs, positions=positions)

    # Traced, because vectors and logits are float32 under any dtype policy.
    compute_output_spec = keras.Operation.compute_output_spec

    def get_config(self):
        stack = self.encoder.get_config()
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "max_length": self.max_length,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation": serialize_activation(self.activation),
            "epsilon": self.epsilon,
            "pad_id": self.pad_id,
            "kernel_initializer": serialize_initializer(self.kernel_initializer),
            "seed": self.seed,
            **{name: stack[name] for name in self.block_arguments},
        }
