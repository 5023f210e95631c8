"""ViT presets of keras-hub from a folder, as `save_to_preset` writes it.

Its files are read as they are, by h5py, which comes with Keras: keras-hub need not be installed,
and no code of it is run.
"""

import os
import re
from pathlib import Path

import h5py
import keras
import numpy as np

from kerasformer.interop.description import Description, Preprocessing
from kerasformer.interop.files import inside, read_json
from kerasformer.interop.names import Names, read_weights
from kerasformer.layers.pooling import MeanPooling
from kerasformer.models import VisionTransformer

BACKBONE, TASK = "ViTBackbone", "ViTImageClassifier"
WEIGHTS, HEAD = "model.weights", "task.weights.h5"
# How Keras calls the variables of its layers in a file: by number.
VARIABLES = {
    "layers/vi_t_patching_and_embedding/vars/0": "class_token",
    "layers/vi_t_patching_and_embedding/patch_embedding/vars/0": "patch_embedding.weight",
    "layers/vi_t_patching_and_embedding/patch_embedding/vars/1": "patch_embedding.bias",
    "layers/vi_t_patching_and_embedding/position_embedding/vars/0": "position_embedding",
    "layers/vi_t_encoder/layer_norm/vars/0": "ln.weight",
    "layers/vi_t_encoder/layer_norm/vars/1": "ln.bias",
    "layers/dense/vars/0": "head.weight",
    "layers/dense/vars/1": "head.bias",
}
BLOCK = re.compile(r"layers/vi_t_encoder/encoder_layers/[a-z_]+?(?:_(\d+))?/(.+)/vars/([01])")
NAMES = Names(
    pairs=(
        ("^patch_embedding/dense", "patch_embedding"),
        ("^prefix_tokens/tokens", "class_token"),
        ("^grid_positions/table", "position_embedding"),
        ("^encoder/final_norm", "ln"),
        ("^encoder/", ""),
        ("self_attention/norm", "layer_norm_1"),
        (
            "self_attention/attention/query_key_value_dense",
            "mha/query_dense+key_dense+value_dense",
        ),
        ("self_attention/attention/output_dense", "mha/output_dense"),
        ("feed_forward/norm", "layer_norm_2"),
        ("feed_forward/feed_forward/inner_dense", "mlp/dense_1"),
        ("feed_forward/feed_forward/output_dense", "mlp/dense_2"),
    ),
    has_rows_of_outputs=False,
)


def load(folder, config) -> tuple[keras.Model, Description]:
    """Makes a model of a folder that keras-hub wrote.

    Args:
        folder: path.
        config: dict, the content of its `config.json`.

    Returns:
        Tuple of a Keras model with its weights, which returns logits whatever activation the
        preset has, and its `Description`.

    Raises:
        ValueError: for another backbone than a ViT, one that no model of ours can be, or weights
            that do not fit.
    """
    folder = Path(folder)
    if config.get("class_name") != BACKBONE:
        raise ValueError(
            f"Expected a preset of keras-hub with class_name={BACKBONE!r}, received "
            f"class_name={config.get('class_name')!r} in {os.fspath(folder)!r}."
        )
    try:
        backbone, task = config["config"], _task(folder)
        arrays = _arrays(folder, with_head=bool(task.get("num_classes")))
        model = _make(backbone, task, arrays)
        read_weights(model, arrays, NAMES)
        return model, Description(config, _preprocessing(folder, backbone))
    except KeyError as error:
        raise ValueError(f"Expected the key {error} in config.json of {folder}.") from error
    except ValueError as error:
        raise ValueError(f"Cannot read {os.fspath(folder)!r}: {error}") from error


def _task(folder):
    """Returns what the preset says of its head; nothing, where it has none."""
    if not (folder / "task.json").exists():
        return {}
    task = read_json(folder / "task.json")
    return task.get("config", {}) if task.get("class_name") == TASK else {}


def _make(backbone, task, arrays):
    """Makes the model, built.

    Raises:
        ValueError: for a preset that no `VisionTransformer` can be.
    """
    for key in ("use_mha_bias", "use_mlp_bias", "use_patch_bias"):
        if not backbone.get(key, True):
            raise ValueError(f"Expected {key}=True, received {key}=False.")
    if task.get("intermediate_dim"):
        raise ValueError(
            "Expected a classifier without a layer before its head, received "
            f"intermediate_dim={task['intermediate_dim']}."
        )
    height, width, channels = backbone["image_shape"]
    patch = backbone["patch_size"]
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    tokens, hidden_dim = int(backbone.get("use_class_token", True)), backbone["hidden_dim"]
    positions = (height // patch[0]) * (width // patch[1]) + tokens
    inner = backbone["mlp_dim"]
    shapes = {
        "position_embedding": (positions, hidden_dim),
        "patch_embedding.weight": (*patch, channels, hidden_dim),
        f"block_{backbone['num_layers'] - 1}.mlp.dense_1.weight": (hidden_dim, inner),
    }
    if task.get("num_classes"):
        shapes["head.weight"] = (hidden_dim, task["num_classes"])
    for name, expected in shapes.items():
        found = arrays[name].shape if name in arrays else None
        if found != expected:
            raise ValueError(
                f"Expected {name!r} to have the shape {expected}, as the config says, received "
                f"{found}."
            )
    pool = "class" if tokens else "mean"
    if task.get("pooling") == "gap":
        pool = MeanPooling(name="pooling")  # Of the class token too.
    model = VisionTransformer(
        (height, width),
        num_layers=backbone["num_layers"],
        hidden_dim=hidden_dim,
        num_heads=backbone["num_heads"],
        intermediate_dim=inner,
        num_classes=task.get("num_classes"),
        patch_size=patch,
        pool=pool,
        num_prefix_tokens=tokens,
        dropout=backbone.get("dropout_rate", 0.0),
        attention_dropout=backbone.get("attention_dropout", 0.0),
        epsilon=backbone.get("layer_norm_epsilon", 1e-6),
        name="vit",
    )
    model.build((None, height, width, channels))
    return model


def _arrays(folder, with_head):
    """Reads the weights of a preset: arrays by the names that `NAMES` makes."""
    arrays = {}
    for path in _files(folder) + [folder / HEAD] * with_head:
        try:
            with h5py.File(path) as file:
                found = {}
                file.visititems(lambda name, item, found=found: found.update(_dataset(name, item)))
        except OSError as error:
            raise ValueError(f"Expected weights in {os.fspath(path)!r}: {error}.") from error
        arrays |= {
            _name(name): value for name, value in found.items() if not name.startswith("optimizer")
        }
    for name, value in arrays.items():
        # Heads have an axis of their own there.
        if ".mha." in name and name.endswith("weight"):
            is_output = "output_dense" in name
            value = value.reshape((-1, value.shape[-1]) if is_output else (len(value), -1))
        elif ".mha." in name:
            value = value.reshape(-1)
        arrays[name] = np.asarray(value, "float32")
    return arrays


def _dataset(name, item):
    """Reads an array that lies in the file itself, as large as it says; nothing of a group.

    Raises:
        ValueError: for any other array.
    """
    if not isinstance(item, h5py.Dataset):
        return {}
    if item.external or item.is_virtual or item.id.get_storage_size() < item.nbytes:
        raise ValueError(
            f"Expected the numbers of {name!r} in the file, received {item.nbytes} bytes."
        )
    return {name: item[()]}


def _files(folder):
    """Lists the files of the backbone's weights: one, or the shards of an index."""
    index = folder / f"{WEIGHTS}.json"
    if not index.exists():
        return [folder / f"{WEIGHTS}.h5"]
    names = set()
    for entry in read_json(index).get("weight_map", {}).values():
        names |= {entry} if isinstance(entry, str) else set(entry)
    return [inside(folder, name) for name in sorted(names)]


def _name(path):
    """Returns the name of a variable of a file, as `NAMES` makes it."""
    if path in VARIABLES:
        return VARIABLES[path]
    match = BLOCK.fullmatch(path)
    if match is None:
        return path
    block, layer, number = match.groups()
    return f"block_{block or 0}.{layer.replace('/', '.')}.{('weight', 'bias')[int(number)]}"


def _preprocessing(folder, backbone):
    """Reads how images become inputs; `None` where the preset does not say."""
    path = folder / "image_converter.json"
    if not path.exists():
        return None
    how = read_json(path).get("config", {})
    channels = backbone["image_shape"][-1]
    # x * scale + offset is (x / 255 - mean) / std.
    scale = np.broadcast_to(1.0 if how.get("scale") is None else how["scale"], (channels,))
    offset = np.broadcast_to(0.0 if how.get("offset") is None else how["offset"], (channels,))
    std = 1 / (255 * scale)
    size = tuple(how.get("image_size") or backbone["image_shape"][:2])
    return Preprocessing(
        size,
        tuple((-offset * std).tolist()),
        tuple(std.tolist()),
        how.get("interpolation", "bilinear"),
        min(size) if how.get("crop_to_aspect_ratio", True) else None,
    )
