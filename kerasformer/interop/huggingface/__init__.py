"""Models of Hugging Face transformers: their folders in, and folders for them out.

A family is a module with `TYPES`, the values of `model_type` in a config that it knows, `MODEL`,
the class of ours, and three functions: `make(config)` makes a built model, `names(config)` is the
table of its weights, and `config_of(model)` makes the config of a model of ours. Where more files
than the config say what a model is, there are two more: `arguments_of(folder, config, shapes)`
reads them, and what it returns is handed to `make`; `write_beside(model, folder)` writes them.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from kerasformer.interop.description import PREPROCESSOR, Description, describe
from kerasformer.interop.files import CONFIG, INDEX, Tensors, write_tensors
from kerasformer.interop.huggingface import bert, gpt2, marian, sentences, vit
from kerasformer.interop.names import check_shapes, read_weights, written_weights

FAMILIES = (bert, gpt2, marian, vit)
BY_TYPE = {name: family for family in FAMILIES for name in family.TYPES}


def load(folder: Path, config: dict[str, Any]) -> tuple[keras.Model, Description]:
    """Makes a model of a folder that transformers wrote.

    Args:
        folder: path.
        config: dict, the content of its `config.json`.

    Returns:
        Tuple of a Keras model with its weights, and its `Description`.

    Raises:
        ImportError: where safetensors is missing.
        ValueError: for a family that is not known, a config that no model of ours can be, or
            tensors that do not fit.
    """
    family = BY_TYPE.get(config.get("model_type"))
    if family is None:
        raise ValueError(
            f"Expected a model_type of {sorted(BY_TYPE)}, received "
            f"model_type={config.get('model_type')!r} in {os.fspath(folder)!r}."
        )
    try:
        names = family.names(config)
        tensors = Tensors(folder, names.aliases)
        check_shapes(tensors.shapes(), names)
        others = {}
        if hasattr(family, "arguments_of"):
            others = family.arguments_of(folder, config, tensors.shapes())
        model = family.make(config, **others)
        read_weights(model, tensors, names)
        description = describe(folder, config)
        if not getattr(model, "num_classes", None):  # Those of another head, now left out.
            description = description._replace(labels=None)
        return model, description
    except ValueError as error:
        raise ValueError(f"Cannot read {folder}: {error}") from error


def save(model, folder, description: Description | None = None):
    """Writes a folder from which transformers loads the same model.

    Args:
        model: built Keras model of a class that `load` returns.
        folder: path, which is made. Files of another model in it are overwritten.
        description: `Description` or `None`. Labels, preprocessing and tokenizer files to write
            beside the weights.

    Raises:
        ImportError: where safetensors is missing.
        ValueError: for a model that no family of transformers can be, or that is not built. What
            was in the folder stays as it was.

    Example:

    >>> import tempfile
    >>> from kerasformer.models import VisionTransformer
    >>> model = VisionTransformer.from_variant("Ti/16", 32, num_classes=3, num_layers=1)
    >>> model.build()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, folder)
    ...     sorted(os.listdir(folder))
    ['config.json', 'model.safetensors']
    """
    family = next((one for one in FAMILIES if isinstance(model, one.MODEL)), None)
    if family is None:
        known = sorted(one.MODEL.__name__ for one in FAMILIES)
        raise ValueError(f"Expected a model of {known}, received {type(model).__name__}.")
    if not model.built:
        raise ValueError(f"Expected a model that is built, received {type(model).__name__}.")
    config = family.config_of(model)
    if description is not None and description.labels is not None:
        count = len(config.get("id2label", ()))
        if len(description.labels) != count:
            raise ValueError(
                f"Expected a label for each of {count} outputs, received "
                f"{len(description.labels)} labels."
            )
        config.update(description.label_config())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".save-", dir=folder) as made:
        write_tensors(written_weights(model, family.names(config)), made)
        if hasattr(family, "write_beside"):
            family.write_beside(model, Path(made))
        if description is not None:
            description.write(made)
        # A folder without a config is no model, so that nobody reads one that is half there.
        for name in (CONFIG, INDEX, PREPROCESSOR, sentences.MODULES):
            (folder / name).unlink(missing_ok=True)
        shutil.copytree(made, folder, dirs_exist_ok=True)
        text = json.dumps({**config, "dtype": "float32"}, indent=2)
        Path(made, CONFIG).write_text(text + "\n", encoding="utf-8")
        os.replace(Path(made, CONFIG), folder / CONFIG)
