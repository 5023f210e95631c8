"""The model of a translation run, its loss and its metrics."""

from typing import Any

import keras
import ml_collections
from keras import ops

from kerasformer.losses import smoothed_cross_entropy
from pipelines.data.sources import expanded
from pipelines.runs.config import complete, read_config
from pipelines.runs.weights import load_model
from pipelines.tasks.translation import foreign
from pipelines.tasks.translation.config import default_config
from pipelines.tasks.translation.models import MODELS
from pipelines.tasks.translation.vocabulary import load_tokenizers


def build(config: ml_collections.ConfigDict, workdir: str) -> keras.Model:
    """Builds the model with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the model does not take.
    """
    tokenizers = load_tokenizers(workdir)
    of = tokenizers.target
    vocabulary: dict[str, Any] = {"vocabulary_size": tokenizers.source.vocabulary_size}
    vocabulary |= {"start_id": of.start_id, "end_id": of.end_id, "pad_id": of.pad_id}
    if not tokenizers.are_shared:
        vocabulary["target_vocabulary_size"] = tokenizers.target.vocabulary_size
        vocabulary |= {} if "share_embeddings" in config.model else {"share_embeddings": False}
    model = MODELS.make(config, **vocabulary)
    model.build()
    return model


def begin(
    model: keras.Model, config: ml_collections.ConfigDict, workdir: str, is_new: bool
) -> keras.Model:
    """Copies the weights of `start.workdir` or `start.weights`, if there is one, into a new run.

    Raises:
        ValueError: when that one has another model.
    """
    if config.start.workdir and is_new:
        folder = expanded(config.start.workdir)
        first_config = read_config(folder)
        complete(first_config, default_config())
        first = load_model(build, first_config, folder, first_config.weights)
        _copy_weights(first, model, f"start.workdir={config.start.workdir!r}")
    elif config.start.weights and is_new:
        first = foreign.load(config, model)
        _copy_weights(first, model, f"start.weights={config.start.weights!r}")
    return model


def _copy_weights(first, model, source):
    # Without the names of the models, and random states, whose paths differ between two models.
    weights, values = (
        {v.path.partition("/")[2]: v for v in x.variables if v.name != "seed_generator_state"}
        for x in (model, first)
    )
    for path in {**weights, **values}:
        shape, other = (path in w and tuple(w[path].shape) for w in (weights, values))
        if shape != other:
            raise ValueError(
                f"Expected the model of {source} to have {path} of shape {shape or None}, received "
                f"{other or None}."
            )
    for path, variable in weights.items():
        variable.assign(values[path])


def loss(model: keras.Model, batch: dict, config: ml_collections.ConfigDict):
    """Computes the smoothed cross-entropy of a training batch.

    Returns:
        Tuple of its sum over the real target tokens and their number, float32 scalars.
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=True)
    real = ops.cast(batch["labels"] != model.pad_id, "float32")
    losses = smoothed_cross_entropy(batch["labels"], logits, config.train.label_smoothing)
    return ops.sum(losses * real), ops.sum(real)


def metrics(model: keras.Model, batch: dict, config: ml_collections.ConfigDict) -> dict:
    """Computes what a validation reports, as (sum, count) over real target tokens.

    Returns:
        Dict with `loss` (nats a token, not smoothed), `accuracy` (of the next token) and, where
        labels are smoothed, `smoothed_loss`, which is comparable with the training's.
    """
    logits = model({"source": batch["source"], "target": batch["target"]}, training=False)
    real = ops.cast(batch["labels"] != model.pad_id, "float32")
    right = ops.cast(ops.argmax(logits, axis=-1) == batch["labels"], "float32")
    values = {"loss": smoothed_cross_entropy(batch["labels"], logits), "accuracy": right}
    smoothing = config.train.label_smoothing
    if smoothing:
        values["smoothed_loss"] = smoothed_cross_entropy(batch["labels"], logits, smoothing)
    return {name: (ops.sum(value * real), ops.sum(real)) for name, value in values.items()}
