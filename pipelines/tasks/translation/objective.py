"""The model of a translation run, its loss and its metrics."""

import keras
import ml_collections
from keras import ops

from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models import Seq2SeqTransformer
from pipelines.tasks.translation.data import load_tokenizer


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the model with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    arguments = config.model.to_dict()
    try:
        model = Seq2SeqTransformer.from_variant(
            arguments.pop("variant"),
            vocabulary_size=load_tokenizer(workdir).vocabulary_size,
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
        Dict with `loss` (nats a token, not smoothed), `accuracy` (of the next token) and, where
        labels are smoothed, `smoothed_loss`, which is comparable with the training's.
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=False)
    real = ops.cast(batch["labels"] != 0, "float32")
    right = ops.cast(ops.argmax(logits, axis=-1) == batch["labels"], "float32")
    values = {"loss": smoothed_cross_entropy(batch["labels"], logits), "accuracy": right}
    smoothing = config.train.label_smoothing
    if smoothing:
        values["smoothed_loss"] = smoothed_cross_entropy(batch["labels"], logits, smoothing)
    return {name: (ops.sum(value * real), ops.sum(real)) for name, value in values.items()}
