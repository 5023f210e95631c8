"""How a layer makes, copies, seeds and stores the layers inside it."""

import re
import zlib

import keras


class Composite(keras.layers.Layer):
    """Stores with its `dtype` which of the layers inside it are quantised.

    A composite makes the layers inside it with its own dtype policy. When some of them have been
    quantised, its config holds a `DTypePolicyMap` from their paths to their policies, so that a
    composite made from the config has them quantised too: with `int8`, `int4` or `float8`.

    Three things are not possible. A `QuantizationConfig` of a user's own quantizers is not stored.
    The layers inside a user's own mixer need a `name`, because automatic ones are counted on. And a
    model loaded with `int8` or `int4` cannot be saved to `.keras` again, because `Dense` of Keras
    3.15 stores no scale under a policy map.
    """

    def get_config(self):
        config = super().get_config()
        start = f"{self.path}/"
        policies = {}
        for child in layers_inside(self):
            if child.quantization_mode is not None and (child.path or "").startswith(start):
                # Whatever is around a composite puts its own name before the path.
                path = re.escape(f"{self.name}/{child.path.removeprefix(start)}")
                policies[f"(.*/)?{path}"] = _policy_of(child)
        if policies:
            policy_map = keras.dtype_policies.DTypePolicyMap(_policy_of(self), policies)
            config["dtype"] = keras.dtype_policies.serialize(policy_map)
        return config


def _policy_of(layer):
    """Returns the dtype policy of a built layer, also where it shares a map with other layers."""
    policy = layer.dtype_policy
    is_map = isinstance(policy, keras.dtype_policies.DTypePolicyMap)
    return policy[layer.path] if is_map else policy


def layers_inside(layer):
    """Lists all layers below one, each once.

    Args:
        layer: Keras layer or model.

    Returns:
        List of Keras layers.

    Example:

    >>> [type(x).__name__ for x in layers_inside(keras.Sequential([keras.layers.Dense(3)]))]
    ['Dense']
    """
    return [child for _, child in named_layers(layer)]


def named_layers(layer):
    """Lists all layers below one, each once, with their names and those of the layers around them.

    Args:
        layer: Keras layer or model.

    Returns:
        List of pairs of a path, such as `"encoder/block_0/feed_forward"`, and a Keras layer.

    Example:

    >>> [path for path, _ in named_layers(keras.Sequential([keras.layers.Dense(3, name="a")]))]
    ['a']
    """
    found = {}

    def collect(layer, start):
        for value in vars(layer).values():
            for child in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(child, keras.layers.Layer) and id(child) not in found:
                    path = f"{start}{child.name}"
                    found[id(child)] = path, child
                    collect(child, f"{path}/")

    collect(layer, "")
    return list(found.values())


def clone(layer, name, dtype, seed=None):
    """Makes a new, unbuilt layer with the arguments of another.

    Args:
        layer: Keras layer that has `get_config`; it stays as it is.
        name: str. Name of the copy.
        dtype: str or dtype policy of the copy, and of each layer inside it that had the dtype of
            the other.
        seed: int, from which the copy and each layer inside it that takes a seed get one; or `None`
            to keep theirs.

    Returns:
        A Keras layer of the same class.

    Example:

    >>> dense = keras.layers.Dense(3, use_bias=False)
    >>> copy = clone(dense, "copy", "mixed_bfloat16")
    >>> copy.name, copy.units, copy.use_bias, copy.compute_dtype
    ('copy', 3, False, 'bfloat16')
    """
    # As a file would hold it, which every layer reads, whether it has a `get_config` or not.
    dtype = keras.dtype_policies.serialize(keras.dtype_policies.get(dtype))
    config = layer.get_config()
    old_dtype = copy_config(config.get("dtype"))

    def replace(path, key, value):
        if key == "dtype":
            return dtype if value == old_dtype else value
        if seed is None:
            return value
        return child_seed(seed, path) if path else seed

    return type(layer).from_config({**copy_config(config, replace), "name": name, "dtype": dtype})


def clone_with_seeds(layer, name):
    """Makes a new, unbuilt layer like another; each seed inside derives from the old and a name.

    Blocks that copy one pattern draw other random numbers that way.

    Args:
        layer: Keras layer that has `get_config`; it stays as it is.
        name: str. Other names make other seeds.

    Returns:
        A Keras layer of the same class. What has no seed gets none.

    Example:

    >>> clone_with_seeds(keras.layers.Dropout(0.1, seed=3), "block_0").seed == 3
    False
    """

    def replace(path, key, value):
        return child_seed(value, name) if key == "seed" else value

    return type(layer).from_config(copy_config(layer.get_config(), replace))


def copy_config(config, replace=lambda path, key, value: value, path=""):
    """Copies a config as plain dicts and lists, so that nobody changes the original.

    Keras marks an object that it serialises twice, and gives whoever reads both marks one object.
    The marks are left out, because each block has layers of its own.

    Args:
        config: dict, list or any other value of a config.
        replace: function from the path of a dict in the config, a key of it and the value to the
            value of the copy, for each `seed` and `dtype` outside of initializers.
        path: str. Path of `config` itself.

    Returns:
        The copy.

    Example:

    >>> copy_config({"layer": {"units": 3, "seed": 5}}, lambda path, key, value: f"{path} {key}")
    {'layer': {'units': 3, 'seed': '/layer seed'}}
    """
    if isinstance(config, (list, tuple)):
        copies = [copy_config(x, replace, f"{path}/{index}") for index, x in enumerate(config)]
        return tuple(copies) if isinstance(config, tuple) else copies
    if not isinstance(config, dict):
        return config
    copy = {}
    for key, value in config.items():
        if key in ("seed", "dtype"):
            copy[key] = replace(path, key, copy_config(value))
        elif str(key).endswith("initializer"):
            copy[key] = copy_config(value)
        elif key != "shared_object_id":
            copy[key] = copy_config(value, replace, f"{path}/{key}")
    return copy


def child_seed(seed, name):
    """Derives the seed of a child, so that children of other names draw other random numbers.

    Args:
        seed: int, or `None` for a random start.
        name: str. Name of the child.

    Returns:
        int below 2 ** 31, or `None`.

    Example:

    >>> child_seed(7, "block_0") == child_seed(7, "block_1")
    False
    """
    return None if seed is None else zlib.crc32(f"{seed}/{name}".encode()) % 2**31


def serialize_child(layer):
    """Makes a layer fit for the `get_config` of the layer around it.

    Args:
        layer: Keras layer or `None`.

    Returns:
        Dict that JSON can hold, or `None`.

    Example:

    >>> serialize_child(keras.layers.Dense(3))["class_name"]
    'Dense'
    """
    config = keras.saving.serialize_keras_object(layer)
    if config is not None:
        # The layer around it builds it, under a path of its own.
        config.pop("build_config", None)
    return copy_config(config)


def deserialize_child(config):
    """Makes the layer that `serialize_child` described.

    Args:
        config: dict or `None`.

    Returns:
        An unbuilt Keras layer, or `None`.

    Example:

    >>> deserialize_child(serialize_child(keras.layers.Dense(3))).units
    3
    """
    return keras.saving.deserialize_keras_object(config)
