"""The models that a translation config may name. Nothing else in the task knows their names."""

from collections.abc import Collection
from typing import Any, NamedTuple

import keras
import ml_collections

from kerasformer.models import Seq2SeqRNN, Seq2SeqTransformer

# Arguments of a Transformer, which a config may hold whatever its model: see `Family.unread`.
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
        unread: arguments of `Seq2SeqTransformer` that configs often hold and that say nothing to
            this family, so that one config serves several families. All others are refused.
    """

    model: Any
    small: str
    large: str
    learning_rates: tuple[float, float]
    unread: Collection[str] = ()


DEFAULT = "transformer"
MODELS = {
    DEFAULT: Family(Seq2SeqTransformer, "tiny", "base", (0.004, 0.0007)),
    "recurrent": Family(Seq2SeqRNN, "multi30k", "bahdanau", (0.002, 0.0005), OF_TRANSFORMER),
}


def family(config: ml_collections.ConfigDict) -> Family:
    """Returns the family that a config names; one of an older version names none.

    Raises:
        ValueError: for an unknown name.
    """
    name = config.model.get("name", DEFAULT)
    if name not in MODELS:
        raise ValueError(
            f"Expected model.name to be one of {', '.join(MODELS)}, received model.name={name!r}."
        )
    return MODELS[name]


def check_variant(config: ml_collections.ConfigDict) -> None:
    """Refuses an unknown name, and a variant that the named family does not have.

    Raises:
        ValueError: naming it.
    """
    variants, variant = family(config).model.VARIANTS, config.model.get("variant")
    if variant not in variants:
        raise ValueError(
            f"Expected model.variant to be one of {', '.join(variants)} with "
            f"model.name={config.model.name!r}, received model.variant={variant!r}."
        )


def left_out(config: ml_collections.ConfigDict) -> list[str]:
    """Lists the keys of `config.model` that say nothing to the named family."""
    return [key for key in config.model if key in family(config).unread]


def make(config: ml_collections.ConfigDict, **vocabulary) -> keras.Model:
    """Makes the model that a config describes, unbuilt, with fresh weights.

    Args:
        config: the resolved config; `model` holds `name`, `variant` and any argument of the named
            model, and `train.precision` is its dtype policy.
        **vocabulary: arguments that follow from the tokenizers.

    Returns:
        A Keras model.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    arguments = {k: v for k, v in config.model.items() if k not in left_out(config)}
    try:
        return family(config).model.from_variant(
            dtype=config.train.precision, **vocabulary, **arguments
        )
    except TypeError as error:
        raise ValueError(f"config.model={config.model.to_dict()} is wrong: {error}.") from error
