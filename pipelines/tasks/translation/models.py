"""The models that a translation config may name. Nothing else in the task knows their names."""

from collections.abc import Collection
from typing import Any, NamedTuple

import ml_collections

from kerasformer.models import Seq2SeqRNN, Seq2SeqTransformer
from pipelines.runs.families import Families

# Arguments of a Transformer, which a config may hold whatever its model.
OF_TRANSFORMER = (
    "norm_first",
    "num_heads",
    "intermediate_dim",
    "attention_dropout",
    "activation_dropout",
)


class Family(NamedTuple):
    """A family of models.

    Attributes:
        model: what has `VARIANTS` and `from_variant(variant, vocabulary_size, **overrides)`, which
            makes a Keras model with `encode`, `decode`, `decode_step` and `start_decoding` as
            `Seq2SeqTransformer` has them.
        small: the variant for less than 100,000 pairs.
        large: the variant for more.
        learning_rates: of both, in batches of 4,096 tokens.
        unread: see `pipelines.runs.families.Family`.
    """

    model: Any
    small: str
    large: str
    learning_rates: tuple[float, float]
    unread: Collection[str] = ()


MODELS = Families(
    transformer=Family(Seq2SeqTransformer, "tiny", "base", (0.004, 0.0007)),
    recurrent=Family(Seq2SeqRNN, "multi30k", "bahdanau", (0.002, 0.0005), OF_TRANSFORMER),
)


def settle(config: ml_collections.ConfigDict) -> list[str]:
    """Fits a config to the family that it names; see `Task.settle`."""
    return MODELS.settle(config)
