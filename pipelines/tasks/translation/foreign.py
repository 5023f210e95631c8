"""Weights of another library that a run begins with, `start.weights`: a Marian model's.

The source is read by a new run alone. What it decides is in the run's config from then on, and its
tokenizers lie in the run's folder.
"""

from typing import Any, NamedTuple

import keras
import ml_collections

from kerasformer import interop
from kerasformer.interop.files import fetch, read_json
from kerasformer.interop.huggingface import marian
from kerasformer.interop.marian_tokenizer import MODELS, VOCABULARY, load_marian_tokenizers
from pipelines.data.sources import expanded
from pipelines.runs.choice import AUTO

FILES = (VOCABULARY, *MODELS)
NAME, VARIANT = "transformer", "opus-mt"
# Arguments that fine-tuning may change.
FREE = ("dropout", "attention_dropout", "activation_dropout")
# Arguments that the tokenizers decide.
OF_TOKENIZERS = ("vocabulary_size", "start_id", "end_id", "pad_id")
# Of the course of Hugging Face, which fine-tunes OPUS-MT with them (chapter 7, translation).
TRAINING = {"learning_rate": 2e-5, "epochs": 3}


class Start(NamedTuple):
    """What a source decides in a config.

    Attributes:
        model: dict, the `model` part.
        vocabulary_size: int.
    """

    model: dict[str, Any]
    vocabulary_size: int


def settle(config: ml_collections.ConfigDict, default: ml_collections.ConfigDict) -> None:
    """Leaves what the source decides to `read`, where the config has the defaults.

    Args:
        config: the complete config, which is changed.
        default: the default config.
    """
    for part, key in (("model", "name"), ("model", "variant"), ("tokenizer", "vocabulary_size")):
        if config.start.weights and config[part][key] == default[part][key]:
            with config[part].ignore_type():
                config[part][key] = AUTO


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot be together with `start.weights`.

    Raises:
        ValueError: naming it.
    """
    if not config.start.weights:
        return
    for part, key in (("start", "workdir"), ("tokenizer", "path")):
        if config[part][key]:
            raise ValueError(
                f"Expected no {part}.{key} with start.weights={config.start.weights!r}, whose "
                f"model and tokenizers are taken, received {part}.{key}={config[part][key]!r}."
            )


def read(config: ml_collections.ConfigDict) -> Start:
    """Reads what the source decides.

    Args:
        config: the config, in which values may be `"auto"`.

    Raises:
        ImportError: where the library that downloads is missing.
        ValueError: for a source that is no Marian model, or a value in the config that contradicts
            it.
    """
    check(config)
    source = config.start.weights
    folder = fetch(expanded(source))
    content = read_json(folder / "config.json")
    if content.get("model_type") not in marian.TYPES:
        raise ValueError(
            f"Expected start.weights to be a Marian model, received start.weights={source!r} with "
            f"model_type={content.get('model_type')!r}."
        )
    try:
        arguments = marian.arguments(content)
    except KeyError as error:
        raise ValueError(f"Expected the key {error} in config.json of {folder}.") from error
    size = arguments["vocabulary_size"]
    model = {"name": NAME, "variant": VARIANT, **arguments}
    model = {key: value for key, value in model.items() if key not in OF_TOKENIZERS}
    given = {f"model.{key}": value for key, value in config.model.items() if key not in FREE}
    given["tokenizer.vocabulary_size"] = config.tokenizer.vocabulary_size
    decided = {f"model.{key}": value for key, value in model.items()}
    decided["tokenizer.vocabulary_size"] = size
    for name, value in given.items():
        if value != AUTO and (name not in decided or value != decided[name]):
            expected = f"{name}={decided[name]!r}" if name in decided else f"no {name}"
            raise ValueError(
                f"Expected {expected}, because start.weights={source!r} decides it, received "
                f"{name}={value!r}."
            )
    return Start(model, size)


def read_tokenizers(config: ml_collections.ConfigDict) -> dict[str, bytes]:
    """Reads the files of the tokenizers of a source by their names.

    Raises:
        ValueError: when they cannot be read.
    """
    folder = fetch(expanded(config.start.weights))
    load_marian_tokenizers(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


def load(config: ml_collections.ConfigDict, model: keras.Model) -> keras.Model:
    """Loads the model of a source.

    Args:
        config: the resolved config.
        model: what `build` makes, of the tokenizers.

    Raises:
        ValueError: when it cannot be read, or has other special ids than the tokenizers.
    """
    first = interop.load(expanded(config.start.weights)).model
    if first.special_ids != model.special_ids:
        raise ValueError(
            f"Expected the config of start.weights={config.start.weights!r} to have the special "
            f"ids of its tokenizers, {model.special_ids}, received {first.special_ids}."
        )
    return first
