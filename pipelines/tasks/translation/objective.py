"""The model of a translation run, its loss and its metrics."""

import keras
import ml_collections
from keras import ops

from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer
from pipelines.tasks.translation.vocabulary import load_tokenizers


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the model with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    arguments, tokenizers = config.model.to_dict(), load_tokenizers(workdir)
    if not tokenizers.are_shared:
        arguments["target_vocabulary_size"] = tokenizers.target.vocabulary_size
        arguments.setdefault("share_embeddings", False)
    try:
        model = Seq2SeqTransformer.from_variant(
            arguments.pop("variant"),
            vocabulary_size=tokenizers.source.vocabulary_size,
            name="transformer",
            dtype=config.train.precision,
            **arguments,
        )
    except TypeError as error:
        raise ValueError(f"config.model={config.model.to_dict()} is wrong: {error}.") from error
    model.build()
    return model


def loss(model: keras.Model, batch: dict, config: ml_collections.ConfigDict):
    """Computes the smoothed cross-entropy of a training batch.

    Returns:
        Tuple of its sum over the real target tokens and their number, float32 scalars.
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=True)
    real = ops.cast(batch["labels"] != 0, "float32")
    losses = smoothed_cross_entropy(batch["labels"], logits, config.train.label_smoothing)
    return ops.sum(losses * real), ops.sum(real)


def metrics(model: keras.Model, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes what a validation reports, as (sum, count) over real target tokens.

    Returns:
        Dict with `loss` (nats a token, not smoothed) and `accuracy` (of the next token).
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=False)
    real = ops.cast(batch["labels"] != 0, "float32")
    right = ops.cast(ops.argmax(logits, axis=-1) == batch["labels"], "float32")
    losses = smoothed_cross_entropy(batch["labels"], logits)
    count = ops.sum(real)
    return {"loss": (ops.sum(losses * real), count), "accuracy": (ops.sum(right * real), count)}
