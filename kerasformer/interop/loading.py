"""One door for models of other libraries."""

import os
from typing import NamedTuple

import keras

from kerasformer.interop import huggingface, keras_hub, timm
from kerasformer.interop.description import Description
from kerasformer.interop.files import CONFIG, fetch, read_json


class Loaded(NamedTuple):
    """A model of another library, and what it needs to be used."""

    model: keras.Model
    description: Description


def load(source: str | os.PathLike) -> Loaded:
    """Makes a model of ours with the weights of another library.

    Reads folders of transformers and of timm, with a `config.json` and safetensors files, and ViT
    presets of keras-hub. Nothing in them is run or unpickled.

    Args:
        source: path of a folder, `"hf://owner/name"` for a repository of the Hugging Face hub, or
            `"timm://name"`; `@revision` may follow. What was downloaded once is kept.

    Returns:
        `Loaded`, a named tuple of `model`, a Keras model, and `description`, a `Description` of
        its preprocessing, labels and tokenizer files.

    Raises:
        ImportError: where safetensors, or huggingface_hub for a repository, is missing.
        ValueError: when the source cannot be read, no model of ours can be what it says, a tensor
            lacks, or one is left over.

    Example:

    >>> import tempfile
    >>> from kerasformer.interop import huggingface
    >>> from kerasformer.models import VisionTransformer
    >>> model = VisionTransformer.from_variant("Ti/16", 32, num_classes=3, num_layers=1)
    >>> model.build()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     huggingface.save(model, folder)
    ...     again, description = load(folder)
    >>> again.count_params() == model.count_params(), description.config["model_type"]
    (True, 'vit')
    """
    folder = fetch(source)
    config = read_json(folder / CONFIG)
    library = huggingface
    if "architecture" in config and "model_type" not in config:
        library = timm
    elif "class_name" in config:
        library = keras_hub
    try:
        return Loaded(*library.load(folder, config))
    except KeyError as error:
        raise ValueError(f"Cannot read {folder}: its config lacks the key {error}.") from error
    except (ArithmeticError, AttributeError, IndexError, MemoryError, TypeError) as error:
        reason = f"a value in its config is wrong: {error}"
        raise ValueError(f"Cannot read {folder}: {reason}.") from error
