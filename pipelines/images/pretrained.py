"""Runs of images that begin with weights of another library, `start.weights`.

The source decides what the model is and how images become its inputs. Both are written to the
config of the run, so that the run needs the source no more once it has begun.
"""

from collections.abc import Sequence
from typing import Any

import keras
import ml_collections

from kerasformer import interop
from kerasformer.layers.sizes import pair
from kerasformer.models import ConvMixer, GCViT, VisionTransformer
from pipelines.data.sources import expanded
from pipelines.images.fine_tuning import copy_weights, keep_classes
from pipelines.runs.choice import AUTO, Choice

NAME = "pretrained"
# Values with which a config says nothing, because they are those of every config.
UNSAID = {
    "model.name": "vit",
    "model.variant": "ViT-Lite-7/4",
    "model.image_size": 32,
    "data.mean": None,
    "data.deviation": None,
    "data.interpolation": "bicubic",
    "serve.crop": 1.0,
}
# Arguments that a run may choose, because weights do not depend on them.
FREE = ("image_size", "dropout", "attention_dropout", "stochastic_depth")


class Pretrained:
    """Makes the model of a source from its arguments, as a run keeps them."""

    VARIANTS = {model.__name__: model for model in (VisionTransformer, ConvMixer, GCViT)}

    @classmethod
    def from_variant(
        cls, variant, image_size, num_classes=None, arguments=None, name=None, **overrides
    ):
        """Makes a model, unbuilt, with fresh weights.

        Args:
            variant: str. A key of `VARIANTS`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`, for a model without a head.
            arguments: dict, what `adopt` wrote to `config.model`, the model's name among them.
            name: str. The name of the family, which is none of a model.
            **overrides: arguments to change, among them `dtype`.

        Returns:
            A Keras model.

        Raises:
            ValueError: without arguments, which `start.weights` gives.
        """
        if arguments is None:
            raise ValueError(
                f"Expected start.weights with model.name={NAME!r}, received none, so that there is "
                "no model."
            )
        arguments = _with_dtype(arguments, overrides.get("dtype", "float32"))
        size = {"image_size": image_size, "num_classes": num_classes}
        return cls.VARIANTS[variant].from_config({**arguments, **size, **overrides})


def leave_to_source(config: ml_collections.ConfigDict) -> None:
    """Gives the value `"auto"` to keys of which a config with `start.weights` says nothing."""
    for key, value in UNSAID.items():
        part, _, name = key.partition(".")
        if config[part].get(name, value) == value:
            with config.ignore_type():
                config[part][name] = AUTO


def adopt(config: ml_collections.ConfigDict) -> None:
    """Fills a config with what its source says, and prints what that is.

    Args:
        config: the config, which `leave_to_source` has changed and which takes values of any type.

    Raises:
        ValueError: when there is no such source, it is no model of images, or the config
            contradicts it.
    """
    source = config.start.weights
    model, description = interop.load(expanded(source))
    kind, how = type(model).__name__, description.preprocessing
    if kind not in Pretrained.VARIANTS:
        raise ValueError(
            "Expected start.weights to hold a model of images, received "
            f"start.weights={source!r}, which holds a {kind}."
        )
    arguments = _plain_lists(model.get_config())
    said: dict[str, Any] = {"name": NAME, "variant": kind}
    for key, value in config.model.items():
        if key in FREE or value == AUTO or value == said.get(key, arguments.get(key, AUTO)):
            continue
        raise ValueError(
            f"Expected model.{key} to be left to start.weights={source!r}, received "
            f"model.{key}={value!r}."
        )
    size = pair("image_size", model.image_size)
    choice = Choice(config)
    side = size[0] if size[0] == size[1] else list(size)
    said["image_size"] = side
    choice.take({f"model.{key}": value for key, value in said.items()})
    config.model.arguments = arguments
    choice.take({"data.channels": _channels(model)})
    if how is None:
        choice.take({key: UNSAID[key] for key in UNSAID if not key.startswith("model.")})
    else:
        choice.take(
            {
                "data.mean": [255 * value for value in how.mean],
                "data.deviation": [255 * value for value in how.std],
                "data.interpolation": how.interpolation,
                "serve.crop": 1.0 if how.resized is None else min(how.image_size) / how.resized,
            }
        )
    choice.tell(f"start.weights={source}, which holds a {kind}")


def begin(model: keras.Model, source: str, class_names: Sequence[str]) -> None:
    """Gives a new model the weights of its source, and prints which classes its head knows.

    Args:
        model: built model that `Pretrained` made.
        source: `start.weights`.
        class_names: the classes of the run.

    Raises:
        ValueError: when the source is not there, or does not fit.
    """
    first, description = interop.load(expanded(source))
    copy_weights(first, model, with_heads=False, origin=f"start.weights={source!r}")
    labels = description.labels or ()
    kept = []
    if len(labels) == first.num_classes:
        kept = keep_classes(first, model, labels, class_names)
    print(
        f"The head begins with the weights of {len(kept)} of {len(class_names)} classes, whose "
        "names are labels of start.weights."
        if kept
        else "The head is new: no class has the name of a label of start.weights.",
        flush=True,
    )


def _channels(model):
    """Returns the channels of the images of a built model."""
    trunk = getattr(model, "trunk", None)
    if trunk is not None:
        return trunk.input_shape[-1]
    if isinstance(model, GCViT):
        return model.stem.convolution.kernel.shape[-2]
    height, width = pair("patch_size", model.patch_size)
    return model.patch_embedding.dense.kernel.shape[0] // (height * width)


def _plain_lists(value: Any) -> Any:
    """Makes what `get_config` returns equal to what JSON makes of it."""
    if isinstance(value, dict):
        return {key: _plain_lists(part) for key, part in value.items()}
    return [_plain_lists(part) for part in value] if isinstance(value, list | tuple) else value


def _with_dtype(value: Any, dtype: str) -> Any:
    """Gives all layers of a config a dtype policy."""
    if isinstance(value, ml_collections.ConfigDict):
        value = value.to_dict()
    if isinstance(value, dict):
        return {
            key: dtype if key == "dtype" else _with_dtype(part, dtype)
            for key, part in value.items()
        }
    return (
        [_with_dtype(part, dtype) for part in value] if isinstance(value, list | tuple) else value
    )
