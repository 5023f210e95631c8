"""What a config of timm and the shapes of its tensors say of a model."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from kerasformer.layers.sizes import pair

Shapes = Mapping[str, tuple[int, ...]]

# Arguments of models of timm that tensors tell, or that matter in training alone.
FREE = {
    "num_classes",
    "in_chans",
    "img_size",
    "patch_size",
    "embed_dim",
    "mlp_ratio",
    "init_values",
    "global_pool",
    "dynamic_img_size",
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "nlhb",
}
# What others have to be.
NEUTRAL = {
    "act_layer": "gelu",
    "norm_layer": "layernorm",
    "qkv_bias": True,
    "proj_bias": True,
    "final_norm": True,
    "pos_embed": "learn",
}

HEADS = ("head.weight", "head.fc.weight")


class Source(NamedTuple):
    """What a config of timm and the shapes of its tensors say of a model.

    Attributes:
        architecture: str, the name in timm.
        image_size: tuple of int, `(height, width)`.
        num_classes: int or `None`.
        pool: str, `global_pool`; `""` where the config does not say.
        arguments: dict, the arguments that the model was made with in place of those of its name.
        shapes: dict of the shapes of the tensors by name.
    """

    architecture: str
    image_size: tuple[int, int]
    num_classes: int | None
    pool: str
    arguments: Mapping[str, Any]
    shapes: Shapes

    def count(self, prefix: str) -> int:
        """Counts the blocks whose tensors begin with a prefix and a number.

        Raises:
            ValueError: when a number is left out.
        """
        found = (re.match(rf"{re.escape(prefix)}(\d+)[.]", name) for name in self.shapes)
        numbers = {int(match[1]) for match in found if match}
        if numbers != set(range(len(numbers))):
            raise ValueError(
                f"Expected blocks {prefix}0 to {prefix}{len(numbers) - 1}, received "
                f"{prefix}{max(numbers)}."
            )
        return len(numbers)

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Returns the shape of a tensor.

        Raises:
            ValueError: when there is none of this name and rank.
        """
        shape = self.shapes.get(name)
        if shape is None or len(shape) != rank:
            raise ValueError(
                f"Expected a tensor {name!r} of {rank} axes in a {self.architecture}, received "
                f"{'none' if shape is None else shape}."
            )
        return shape

    def patches(self, name: str) -> tuple[int, int, int]:
        """Returns channels, features and side of the patches that a convolution cuts.

        Raises:
            ValueError: for patches that are no squares.
        """
        features, channels, height, width = self.shape(name, 4)
        if height != width:
            raise ValueError(f"Expected square patches, received {name!r} of {(height, width)}.")
        return channels, features, height

    def grid(self, patch_size: int) -> tuple[int, int]:
        """Returns rows and columns of the patches."""
        return self.image_size[0] // patch_size, self.image_size[1] // patch_size

    def require(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuses a tensor of another shape than the sizes of the config ask for.

        Raises:
            ValueError: naming it.
        """
        if self.shape(name, len(shape)) != shape:
            raise ValueError(
                f"Expected {name!r} to have the shape {shape} for image_size={self.image_size}, "
                f"received {self.shapes[name]}."
            )

    def check_arguments(self, known: Collection[str] = (), pools: Collection[str] = ()) -> None:
        """Refuses arguments that would change what a model of ours computes.

        Args:
            known: those that the family reads.
            pools: the values of `global_pool` that it knows.

        Raises:
            ValueError: naming the first of them.
        """
        for key, value in self.arguments.items():
            neutral = NEUTRAL.get(key)
            if key not in {*FREE, *known} and value not in (None, neutral or False):
                raise ValueError(
                    f"No model of ours is a {self.architecture} with model_args.{key}={value!r}."
                )
        if pools and self.pool not in ("", *pools):
            raise ValueError(
                f"Expected a {self.architecture} with global_pool of {sorted(pools)}, received "
                f"global_pool={self.pool!r}."
            )


def read_source(config: Mapping[str, Any], shapes: Shapes) -> Source:
    """Reads a `config.json` of timm.

    Raises:
        ValueError: when it does not say the size of the images, or the head has other classes.
    """
    arguments, pretrained = config.get("model_args") or {}, config.get("pretrained_cfg") or {}
    size = arguments.get("img_size") or (pretrained.get("input_size") or ())[1:]
    if not size:
        raise ValueError("Expected pretrained_cfg.input_size in config.json, received none.")
    size = tuple(size) if isinstance(size, list) else size
    classes = config.get("num_classes", pretrained.get("num_classes"))
    for name in HEADS:
        if classes and shapes.get(name, (classes,))[0] != classes:
            raise ValueError(
                f"Expected {name} for num_classes={classes}, as the config says, received the "
                f"shape {shapes[name]}."
            )
    return Source(
        config["architecture"].partition(".")[0],
        pair("input_size", size),
        classes or None,
        config.get("global_pool") or arguments.get("global_pool") or "",
        arguments,
        shapes,
    )
