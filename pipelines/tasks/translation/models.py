"""The models that a translation config may name. Nothing else in the task knows their names."""

import dataclasses

from kerasformer.models import Seq2SeqRNN, Seq2SeqTransformer
from pipelines.runs.families import Families, Family

# Arguments of a Transformer, which a config may hold whatever its model.
OF_TRANSFORMER = (
    "norm_first",
    "num_heads",
    "intermediate_dim",
    "attention_dropout",
    "activation_dropout",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translators(Family):
    """A family of translators: models with `encode`, `decode` and the steps of `start_decoding`.

    The small variant is for less than 100,000 pairs, the large one for more.

    Attributes:
        learning_rates: of both, in batches of 4,096 tokens.
    """

    learning_rates: tuple[float, float]


MODELS = Families(
    transformer=Translators(Seq2SeqTransformer, "tiny", "base", learning_rates=(0.004, 0.0007)),
    recurrent=Translators(
        Seq2SeqRNN, "multi30k", "bahdanau", OF_TRANSFORMER, learning_rates=(0.002, 0.0005)
    ),
)
