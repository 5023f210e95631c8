"""Sheets of the gradients of an image: what moves the answer of a model, or of its units."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from kerasformer import explain
from kerasformer.explain import Panel
from pipelines.images.module import ImageModule
from pipelines.images.unit_sheets import Units

NORM, UNITS = "norm", "units"  # targets that are no classes
LISTED = 20  # classes in an error


def class_names(module: ImageModule) -> list[str]:
    """Lists the classes that the model of a module answers with; none, if it has no head."""
    has_head = getattr(module.model, "num_classes", None)
    return list(module.description["class_names"]) if has_head else []


def answer(module: ImageModule, image: np.ndarray) -> tuple[int, float]:
    """Returns the number of the most probable class of an image, and its probability."""
    logits = module.model(module.normalize(image[None]), training=False)[0]
    is_multi = module.description.get("labels") == "multi"
    shares = (tf.nn.sigmoid if is_multi else tf.nn.softmax)(logits).numpy()
    return int(shares.argmax()), float(shares.max())


def check_target(module: ImageModule, target: str) -> None:
    """Refuses what saliency cannot be of.

    Raises:
        ValueError: for what is neither a class of the model nor another target.
    """
    names = class_names(module)
    if target not in ("", NORM, UNITS, *names):
        listed = ", ".join(names[:LISTED]) + ", ..." * (len(names) > LISTED)
        raise ValueError(
            f"Expected --target to be {NORM}, {UNITS} or the name of a class "
            f"({listed or 'of which this model has none'}), received --target={target}."
        )


class Saliency:
    """Draws which pixels move a score, by its gradient.

    Args:
        module: that of the model.
        target: the score: the logit of a class by its name; `NORM`, the norm of the features;
            `UNITS`, the strongest answer of each unit; or `""`, the logit of the most probable
            class, and of a model without classes as `NORM`.
        units: the units for `UNITS`.
    """

    def __init__(self, module: ImageModule, target: str, units: Units | None):
        self._module, self._target, self._units = module, target, units
        # Compiled once for all images.
        self._gradient = functools.cache(self._make_gradient)

    def lines(self, image: np.ndarray) -> list[list[Panel]]:
        """Lists the panels of an image, uint8 `(h, w, c)`, a line for each score."""
        normalized, lines = self._module.normalize(image[None]), []
        for title, key in self._scores(image):
            gradient = self._gradient(*key)
            maps = gradient(normalized), explain.smoothed(gradient, normalized)
            plain, smooth = (explain.saliency(x).numpy()[0] for x in maps)
            lines.append(
                [
                    Panel(image, title),
                    Panel(image, "gradient", _capped(plain), opacity=1.0),
                    Panel(image, "smoothed", _capped(smooth), opacity=1.0),
                ]
            )
        return lines

    def _scores(self, image: np.ndarray) -> list[tuple[str, tuple[str, int]]]:
        """Lists pairs of a title and the arguments of `_make_gradient`."""
        names, target = class_names(self._module), self._target
        if target in names or (names and not target):
            number = names.index(target) if target else answer(self._module, image)[0]
            return [(f"class {names[number]}", ("class", number))]
        if target == UNITS and self._units:
            return [(f"unit {number}", (UNITS, number)) for number in self._units.numbers]
        return [("norm of the features", (NORM, 0))]

    def _make_gradient(self, kind: str, number: int) -> Callable[[Any], Any]:
        score: Callable[[Any], Any]
        if kind == UNITS and self._units:
            score = partial(self._units.score, number)
        elif kind == NORM:
            score = self._norm
        else:
            score = partial(self._logit, number)
        return tf.function(partial(explain.input_gradient, score))

    def _norm(self, images: Any) -> Any:
        return ops.norm(self._module.model.features(images), axis=-1)

    def _logit(self, number: int, images: Any) -> Any:
        return self._module.model(images, training=False)[:, number]


def _capped(values: np.ndarray) -> np.ndarray:
    """Caps the largest values, single points beside which all others would be dark."""
    return np.minimum(values, np.percentile(values, 99))
