"""What single units of a model answer to: channels of a convolution, neurons of an MLP, heads.

Letters: `B` batch, `U` units of a layer, `k` strongest answers.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasformer.explain.maps import attention_maps, grid_of
from kerasformer.layers.children import named_layers

SHOWN = 8  # layers that an error names; it counts the rest


class Strongest(NamedTuple):
    """The strongest answers of each unit, strongest first; of an image only its strongest place.

    Attributes:
        values: float32 array `(U, k)`.
        images: int array `(U, k)`, the number of the image.
        rows, columns: int arrays `(U, k)`, the place on the grid of the layer.
    """

    values: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def find_layer(model: keras.Model, path: str) -> keras.layers.Layer:
    """Finds a layer of a model by its name and, as far as necessary, those of the layers around it.

    Args:
        model: built Keras model.
        path: str, such as `"encoder/block_1/feed_forward"`, or its end, if no other layer has it.

    Returns:
        A Keras layer.

    Raises:
        ValueError: when no layer has this path, or several have this end.

    Example:

    >>> find_layer(keras.Sequential([keras.layers.Dense(3, name="a")]), "a").units
    3
    """
    layers = named_layers(model)
    exact = [layer for name, layer in layers if name == path]
    named = exact or [layer for name, layer in layers if name.endswith(f"/{path}")]
    if len(named) == 1:
        return named[0]
    last = path.rpartition("/")[2]
    near = [name for name, _ in layers if name.rpartition("/")[2] == last]
    shown = near or [name for name, _ in layers]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    raise ValueError(
        f"Expected the path of one layer, such as {', '.join(shown[:SHOWN])}{more}, received "
        f"{path!r}, which {len(named) or 'none'} of them {'have' if named else 'has'}."
    )


@contextlib.contextmanager
def recorded(layers: Iterable[keras.layers.Layer]) -> Iterator[dict[int, Any]]:
    """Keeps what layers return while a model is called, for a `with` block.

    It is not for two threads at once, because the layers themselves are changed meanwhile.

    Args:
        layers: Keras layers inside of a model.

    Returns:
        Context of a dict that each call of the model fills: the outputs of the last call of each
        layer, by its `id`, in the order in which the layers returned.

    Example:

    >>> model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(5)])
    >>> with recorded(model.layers[:1]) as outputs:
    ...     _ = model(ops.ones((2, 4)))
    >>> tuple(outputs[id(model.layers[0])].shape)
    (2, 3)
    """
    outputs: dict[int, Any] = {}

    def keeping(layer):
        call = layer.call

        @functools.wraps(call)
        def keep(*args, **kwargs):
            result = call(*args, **kwargs)
            outputs.pop(id(layer), None)
            outputs[id(layer)] = result
            return result

        return keep

    changed = []
    try:
        for layer in {id(layer): layer for layer in layers}.values():
            layer.call = keeping(layer)
            changed.append(layer)
        yield outputs
    finally:
        for layer in changed:
            del layer.call


def unit_maps(model: keras.Model, layer: keras.layers.Layer, images: Any) -> Any:
    """Computes how strongly each unit of a layer answers to each place of images.

    The units are the channels of a layer's outputs. Those of an attention layer are its heads: a
    head answers to a patch by the share of the attention that it gives it, as in `attention_maps`.

    Args:
        model: Keras model of images.
        layer: a layer inside of it, from `find_layer`.
        images: float tensor `(B, height, width, channels)`, normalised as in training.

    Returns:
        Float tensor `(B, rows, columns, U)`: the outputs `(B, rows, columns, U)` of a convolution;
        those of a sequence `(B, T, U)`, without the tokens before the patches; or those of a layer
        that sees the whole image `(B, U)`, with one row and one column.

    Raises:
        ValueError: when the layer is not called, or its outputs have no place on the image.

    Example:

    >>> from kerasformer.models import VisionTransformer
    >>> model = VisionTransformer.from_variant("CCT-2/3x2", image_size=32)
    >>> attention = find_layer(model, "encoder/block_1/self_attention/attention")
    >>> neurons = find_layer(model, "block_0/feed_forward/feed_forward/inner_dense")
    >>> [tuple(unit_maps(model, x, ops.ones((1, 32, 32, 3))).shape) for x in (attention, neurons)]
    [(1, 8, 8, 2), (1, 8, 8, 128)]
    """
    block = _block_of(model, layer)
    if block is not None:
        return ops.moveaxis(attention_maps(model, images)[1][:, block], 1, -1)
    with recorded([layer]) as outputs:
        model(images, training=False)
    if id(layer) not in outputs:
        raise ValueError(f"Expected a layer that the model calls, received layer={layer.name}.")
    maps = on_grid(model, outputs[id(layer)], images.shape)
    if maps is None:
        raise ValueError(
            "Expected a layer whose outputs lie on the image, (B, rows, columns, units), or "
            f"(B, positions, units), received layer={layer.name} with outputs of shape "
            f"{tuple(outputs[id(layer)].shape)}."
        )
    return maps


def layers_on_grid(model: keras.Model, images: Any) -> dict[str, tuple[int, int, int]]:
    """Lists the layers of a model whose units have places on an image.

    Args:
        model: Keras model of images.
        images: float tensor `(B, height, width, channels)`.

    Returns:
        Dict of rows, columns and the number of units, by the path of the layer, in the order in
        which the layers return; without layers of one place alone.

    Example:

    >>> from kerasformer.models import ConvolutionalNetwork
    >>> model = ConvolutionalNetwork("LeNet-5", image_size=32)
    >>> layers_on_grid(model, ops.ones((1, 32, 32, 1)))["trunk/convolution_1"]
    (10, 10, 16)
    """
    if not model.built:  # Some models make their layers then.
        model(images, training=False)
    layers = {id(layer): (path, layer) for path, layer in named_layers(model)}
    with recorded([layer for _, layer in layers.values()]) as outputs:
        model(images, training=False)
    found = {}
    for key, output in outputs.items():
        path, layer = layers[key]
        maps = on_grid(model, output, images.shape)
        if maps is not None and max(maps.shape[1:3]) > 1:
            has_heads = _block_of(model, layer) is not None
            units = layer.num_heads if has_heads else maps.shape[3]
            found[path] = (*maps.shape[1:3], units)
    return found


def on_grid(model: keras.Model, outputs: Any, image_shape: Sequence[int]) -> Any:
    """Arranges the outputs of a layer by their places on an image.

    Args:
        model: Keras model of images.
        outputs: what one of its layers returned, of which the first tensor counts.
        image_shape: shape of the images, `(B, height, width, channels)`.

    Returns:
        Tensor `(B, rows, columns, U)`, or `None` where the outputs have no places, as attention
        scores `(B, N, T, T)` have none.

    Example:

    >>> tuple(on_grid(keras.Sequential(), ops.ones((2, 7)), (2, 32, 32, 3)).shape)
    (2, 1, 1, 7)
    """
    outputs = outputs[0] if isinstance(outputs, (tuple, list)) and outputs else outputs
    shape = tuple(getattr(outputs, "shape", ()))
    if not 2 <= len(shape) <= 4 or shape[0] != image_shape[0]:
        return None
    if len(shape) == 2:
        return outputs[:, None, None]
    rows, columns = grid_of(model, image_shape) or (0, 0)
    prefixes = (0, getattr(model, "num_prefix_tokens", 0))
    if len(shape) == 4:
        are_scores = shape[2] == shape[3] and rows and shape[2] - rows * columns in prefixes
        return None if are_scores else outputs
    before = shape[1] - rows * columns
    if not rows or before not in prefixes:
        return None
    return ops.reshape(outputs[:, before:], (-1, rows, columns, shape[2]))


def _block_of(model, layer):
    """Returns the number of the block that an attention layer with scores mixes for, or None."""
    if not getattr(model, "has_attention_scores", False):
        return None
    mixers = [block.self_attention.sublayer for block in model.encoder.blocks]
    return next((index for index, mixer in enumerate(mixers) if mixer is layer), None)


def strongest(batches: Iterable[Any], count: int = 9) -> Strongest:
    """Finds to what each unit answers most among many images.

    An image counts once, with its strongest place, so that the answers are of different images.

    Args:
        batches: float arrays or tensors `(B, rows, columns, U)` one after the other, such as
            `unit_maps` computes them. One batch is held at a time.
        count: int. How many answers are kept of each unit; fewer where there are fewer images.

    Returns:
        `Strongest`. Of equal answers the one of the earlier image, and of the earlier place, comes
        first.

    Raises:
        ValueError: when there are no images, or `count` is below 1.

    Example:

    >>> maps = np.array([[[[0.0], [5.0]]], [[[7.0], [1.0]]]])  # Two images of one row, one unit.
    >>> found = strongest([maps], count=2)
    >>> found.values.tolist(), found.images.tolist(), found.columns.tolist()
    ([[7.0, 5.0]], [[1, 0]], [[0, 1]])

    References:
        - [Zeiler and Fergus, 2013](https://arxiv.org/abs/1311.2901), figure 2
        - [Yosinski et al., 2015](https://arxiv.org/abs/1506.06579)
    """
    values, places, columns = [], [], 1
    for batch in batches:
        maps = ops.convert_to_numpy(ops.cast(batch, "float32"))
        length, rows, columns, units = maps.shape
        maps = maps.reshape(length, rows * columns, units)
        places.append(maps.argmax(axis=1))
        values.append(maps.max(axis=1))
    if not sum(map(len, values)) or count < 1:
        raise ValueError(
            f"Expected images and a count of at least 1, received {len(values)} batches with "
            f"{sum(map(len, values))} images and count={count}."
        )
    peaks, places = (np.concatenate(x).T for x in (values, places))
    images = np.argsort(-peaks, axis=1, kind="stable")[:, :count]
    peaks, places = (np.take_along_axis(x, images, axis=1) for x in (peaks, places))
    return Strongest(peaks, images, places // columns, places % columns)
