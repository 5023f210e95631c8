"""What a mixer is, and how blocks call it.

A mixer is any Keras layer from `(B, T, hidden_dim)` to the same. Its `call` takes those of the
keywords `mask`, `attention_mask`, `use_causal_mask`, `positions` and `return_attention_scores` that
it has a use for; with the last it returns `(outputs, scores)`.

One that decodes token by token has three methods besides. The cache is its own secret: only the
first axis of each tensor in it must be the rows, `R`.

- `init_cache(batch_size, max_length)` makes an empty cache for `max_length` tokens; 0 for one that
  will grow.
- `step(inputs, cache, positions)` reads the next `T` tokens `(R, T, hidden_dim)` of each row, the
  first of which has the position `positions` `(R,)`. It returns the outputs, in which no token
  depends on a later one, and the new cache.
- `grow_cache(cache)` makes room for one more token of each row.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from kerasformer.layers.masks import check_attention_mask, check_key_mask, fits


def takes(mixer: keras.layers.Layer, keyword: str) -> bool:
    """Tells whether the `call` of a mixer names a keyword."""
    return _takes(type(mixer), keyword)


def check_mixer(mixer: keras.layers.Layer) -> None:
    """Refuses what no block can call with one sequence.

    Raises:
        ValueError: when the mixer is no layer, or its `call` needs more than its first argument.

    Example:

    >>> check_mixer(keras.layers.LSTM(8, return_sequences=True))
    """
    if not isinstance(mixer, keras.layers.Layer):
        raise ValueError(
            "Expected a mixer to be a Keras layer, such as MultiHeadAttention(hidden_dim, "
            f"num_heads), received mixer={mixer!r}."
        )
    parameters = list(inspect.signature(mixer.call).parameters.values())[1:]
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in optional]
    if needed:
        raise ValueError(
            "Expected a mixer that is called with one sequence, received "
            f"mixer={type(mixer).__name__}, which needs {needed[0]} too."
        )


def call_mixer(mixer: keras.layers.Layer, inputs: Any, **keywords) -> Any:
    """Calls a mixer with those keywords that say something: neither `None` nor `False`.

    Keras fills the mask by itself, and whether it or the caller has done so looks the same. That is
    why a mixer that takes no mask simply does not get it.

    Raises:
        ValueError: when the mixer does not take another keyword, or returns another shape.
    """
    given = {k: v for k, v in keywords.items() if v is not None and v is not False}
    batch, length = inputs.shape[:2]
    for name, check in (("mask", check_key_mask), ("attention_mask", check_attention_mask)):
        # Checked here, because a mixer of another library may take any shape without an error.
        if name in given:
            given[name] = check(given[name], (batch, None, length, length))
    if not takes(mixer, "mask"):
        given.pop("mask", None)
    for name in given:
        if not takes(mixer, name):
            raise ValueError(
                f"Expected a mixer whose call takes {name}, received "
                f"mixer={type(mixer).__name__} and a value for {name}."
            )
    result = mixer(inputs, **given)
    results = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    count = 2 if "return_attention_scores" in given else 1
    if len(results) != count:
        raise ValueError(
            f"Expected a mixer that returns {('one tensor', '(outputs, scores)')[count - 1]}, "
            f"received mixer={type(mixer).__name__} and {len(results)} outputs."
        )
    shape = results[0].shape
    if not fits(shape, inputs.shape):
        raise ValueError(
            f"Expected a mixer that returns the shape of its inputs, {tuple(inputs.shape)}, "
            f"received mixer={type(mixer).__name__} and outputs of shape={tuple(shape)}."
        )
    return results if count == 2 else results[0]


def decoding_method(mixer: keras.layers.Layer, name: str) -> Callable:
    """Finds `init_cache`, `step` or `grow_cache` of a mixer.

    Raises:
        ValueError: when the mixer cannot decode token by token.
    """
    if not hasattr(mixer, name):
        raise ValueError(
            "Expected a mixer with init_cache, step and grow_cache to decode token by token, "
            f"received mixer={type(mixer).__name__} without {name}."
        )
    return getattr(mixer, name)


@functools.cache
def _takes(layer_class, keyword):
    # By its name alone: what takes any keyword, such as `keras.Sequential`, may well ignore it.
    return keyword in inspect.signature(layer_class.call).parameters
