"""How a layer makes, copies, seeds and stores the layers inside it."""

import re
import zlib

import keras


class Composite(keras.layers.Layer):
    """Stores with its `dtype` which of the layers inside it are quantised.

    A composite makes the layers inside it with its own dtype policy. When some of them have been
    quantised, its config holds a `DTypePolicyMap` from their paths to their policies, so that a
    composite made from the config has them quantised too. `int8`, `int4` and `float8` are stored;
    a `QuantizationConfig` of a user's own quantizers is not. What was loaded
    from such a file computes the same, but int8 cannot be saved to `.keras` a second time, because
    `Dense` of Keras 3.15 stores no scale under a policy map.
    """

    def get_config(self):
        config = super().get_config()
        start = f"{self.path}/"
        policies = {}
        for child in _layers_inside(self, {}):
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


def _layers_inside(layer, seen):
    """Lists all layers below one, each once; `seen` is filled on the way."""
    for value in vars(layer).values():
        for child in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(child, keras.layers.Layer) and id(child) not in seen:
                seen[id(child)] = child
                _layers_inside(child, seen)
    return list(seen.values())


def clone(layer, name, dtype, seed=None):
    """Makes a new, unbuilt layer with the arguments of another.

    Args:
        layer: Keras layer that has `get_config`; it stays as it is.
        name: str. Name of the copy.
        dtype: str or dtype policy of the copy.
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
    config = {**layer.get_config(), "name": name, "dtype": dtype}
    if seed is not None:
        config = _replace_seeds(config, lambda path, _: child_seed(seed, path) if path else seed)
    return type(layer).from_config(config)


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
    config = _replace_seeds(layer.get_config(), lambda _, seed: child_seed(seed, name))
    return type(layer).from_config(config)


def _replace_seeds(config, make_seed, path=""):
    """Replaces each `seed` in a config by `make_seed(path, seed)`, except those of initializers."""
    if isinstance(config, list):
        config = dict(enumerate(config))
        return list(_replace_seeds(config, make_seed, path).values())
    if not isinstance(config, dict):
        return config
    return {
        key: make_seed(path, value)
        if key == "seed"
        else value
        if str(key).endswith("initializer")
        else _replace_seeds(value, make_seed, f"{path}/{key}")
        for key, value in config.items()
    }


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
    return config


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
