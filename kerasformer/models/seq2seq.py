"""What every encoder-decoder of token ids has, whatever stands between its embeddings.

Letters: `B` batch, `S` source length, `T` target length, `V` target vocabulary.
"""

import keras

from kerasformer.layers.children import Composite
from kerasformer.layers.embeddings.tokens import TokenEmbedding
from kerasformer.layers.initializers import clone_initializer, serialize_initializer
from kerasformer.layers.masks import text_mask


class Seq2Seq(Composite, keras.Model):
    """Owns the embeddings of both sides, the special ids and the mask of the target.

    A subclass makes what is between: `encode(source)` returns a context and its mask,
    `decode(target, context, context_mask)` the logits, and `start_decoding(source, max_length)`
    what the searches of `kerasformer.decoding` take first. What a context holds is the model's own.

    Args:
        vocabulary_size: int. Number of source ids (and of target ids, unless told otherwise).
        target_vocabulary_size: int or `None`. Number of target ids, when the embeddings are not
            shared.
        share_embeddings: bool. Whether source and target use one embedding matrix.
        tie_output: bool. Whether the output projection is the target embedding's transpose.
        start_id, end_id, pad_id: int. See `special_ids`.
        use_logits_bias: bool. Whether the logits get a bias, one number for each target id.
        embeddings_initializer: Keras initializer, its name or its config, for the vectors of both
            sides; `None` means `N(0, 1/size)`.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Raises:
        ValueError: when sizes or sharing contradict each other, or for an unknown variant.
    """

    VARIANTS: dict[str, dict] = {}

    def __init__(
        self,
        vocabulary_size,
        target_vocabulary_size,
        share_embeddings,
        tie_output,
        start_id,
        end_id,
        pad_id,
        use_logits_bias,
        embeddings_initializer,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if share_embeddings and target_vocabulary_size not in (None, vocabulary_size):
            raise ValueError(
                "Expected one vocabulary with share_embeddings=True, received "
                f"vocabulary_size={vocabulary_size} and "
                f"target_vocabulary_size={target_vocabulary_size}."
            )
        self.vocabulary_size = vocabulary_size
        self.target_vocabulary_size = target_vocabulary_size
        self.share_embeddings = share_embeddings
        self.tie_output = tie_output
        self.start_id = start_id
        self.end_id = end_id
        self.pad_id = pad_id
        self.use_logits_bias = use_logits_bias
        self.embeddings_initializer = embeddings_initializer
        self._check_ids()

    def _check_ids(self):
        target_size = self.target_vocabulary_size or self.vocabulary_size
        least_size = min(self.vocabulary_size, target_size)
        sizes = {"start_id": target_size, "end_id": target_size, "pad_id": least_size}
        for name, size in sizes.items():
            if not 0 <= getattr(self, name) < size:
                raise ValueError(
                    f"Expected {name} of 0 to {size - 1}, in the vocabulary, received "
                    f"{name}={getattr(self, name)}."
                )

    def make_embeddings(self, embedding_dim, output_dim, use_scale=True):
        """Makes the layers `source_embedding`, `target_embedding` and `output_embedding`.

        Those that are shared or tied are one layer.

        Args:
            embedding_dim: int. Size of the vectors of source and target.
            output_dim: int. Size of the vectors that `output_embedding` turns into logits.
            use_scale: bool. Whether vectors that are looked up are scaled, see `TokenEmbedding`.
        """
        target_size = self.target_vocabulary_size or self.vocabulary_size
        # The bias belongs to the embedding that is read backwards.
        self.target_embedding = self._embedding(
            "target_embedding",
            target_size,
            embedding_dim,
            use_scale,
            self.use_logits_bias and self.tie_output,
        )
        self.source_embedding = self.output_embedding = self.target_embedding
        if not self.share_embeddings:
            self.source_embedding = self._embedding(
                "source_embedding", self.vocabulary_size, embedding_dim, use_scale
            )
        if not self.tie_output:
            self.output_embedding = self._embedding(
                "output_embedding", target_size, output_dim, use_scale, self.use_logits_bias
            )

    def _embedding(self, name, vocabulary_size, size, use_scale, use_logits_bias=False):
        return TokenEmbedding(
            vocabulary_size,
            size,
            use_scale=use_scale,
            mask_zero=False,  # Not by value: `compute_mask` makes the mask of the target.
            use_logits_bias=use_logits_bias,
            embeddings_initializer=clone_initializer(self.embeddings_initializer),
            name=name,
            dtype=self.dtype_policy,
        )

    @classmethod
    def from_variant(cls, variant, vocabulary_size, **overrides):
        """Makes a published model.

        Args:
            variant: str. One of `VARIANTS`, the arguments of each by its name.
            vocabulary_size: int. Number of ids.
            **overrides: any argument of the constructor.

        Returns:
            A model of this class.

        Raises:
            ValueError: for an unknown variant.
        """
        if variant not in cls.VARIANTS:
            raise ValueError(
                f"Expected variant to be one of {sorted(cls.VARIANTS)}, received "
                f"variant={variant!r}."
            )
        return cls(vocabulary_size, **{**cls.VARIANTS[variant], **overrides})

    @property
    def special_ids(self):
        """The ids of start, end and padding, as rules of the searches of `kerasformer.decoding`.

        Example:

        >>> from kerasformer.models import Seq2SeqTransformer
        >>> model = Seq2SeqTransformer(7, 1, 4, 2, 3, start_id=6, end_id=0, pad_id=6)
        >>> model.special_ids
        {'start_id': 6, 'end_id': 0, 'pad_id': 6}
        """
        return {"start_id": self.start_id, "end_id": self.end_id, "pad_id": self.pad_id}

    def build_embeddings(self):
        """Builds the layers of `make_embeddings`."""
        self.target_embedding.build((None, None))
        if not self.share_embeddings:
            self.source_embedding.build((None, None))
        if not self.tie_output:
            self.output_embedding.build((None, None))

    def call(self, inputs, training=None):
        context, context_mask = self.encode(inputs["source"], training=training)
        return self.decode(inputs["target"], context, context_mask, training=training)

    def target_mask(self, target):
        """Marks the tokens `(B, T)` up to the last that is not padding, and the first in any case.

        The decoding step looks at every token so far, whatever its id. So does this mask.
        """
        return text_mask(target, self.pad_id)

    def compute_mask(self, inputs, previous_mask=None):
        return self.target_mask(inputs["target"])

    # Traced, because the logits are float32 under any dtype policy.
    compute_output_spec = keras.Operation.compute_output_spec

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape["target"], self.output_embedding.vocabulary_size)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "target_vocabulary_size": self.target_vocabulary_size,
            "share_embeddings": self.share_embeddings,
            "tie_output": self.tie_output,
            "start_id": self.start_id,
            "end_id": self.end_id,
            "pad_id": self.pad_id,
            "use_logits_bias": self.use_logits_bias,
            "embeddings_initializer": serialize_initializer(self.embeddings_initializer),
        }
