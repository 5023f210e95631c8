"""The published Vision Transformers: for each name, arguments of `VisionTransformer`.

Where `stem` is one of them, it is called with `hidden_dim` to make the layer.
"""

import functools

from kerasformer.layers.embeddings.stems import ConvolutionalStem, ResNetStem


def _sizes(num_layers, hidden_dim, num_heads, intermediate_dim, **others):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads,
        "intermediate_dim": intermediate_dim,
        **others,
    }


def _convolutions(kernel_size, num_layers):
    strides = max(1, kernel_size // 2 - 1)
    return functools.partial(
        ConvolutionalStem, num_layers=num_layers, kernel_size=kernel_size, strides=strides
    )


# Dosovitskiy et al. 2020, table 1; Ti and S: Touvron et al. 2020, table 1.
SIZES = {
    "Ti": _sizes(12, 192, 3, 768),
    "S": _sizes(12, 384, 6, 1536),
    "B": _sizes(12, 768, 12, 3072),
    "L": _sizes(24, 1024, 16, 4096),
    "H": _sizes(32, 1280, 16, 5120),
}
PATCHES = {"Ti": [16], "S": [16], "B": [16, 32], "L": [16, 32], "H": [14]}
DISTILLED = {"patch_size": 16, "distillation": True, "stochastic_depth": 0.1}
# Hassani et al. 2021: sizes by the number of layers, and what their programs drop.
DROPS = {"attention_dropout": 0.1, "stochastic_depth": 0.1}
COMPACT = {
    2: _sizes(2, 128, 2, 128, **DROPS),
    4: _sizes(4, 128, 2, 128, **DROPS),
    6: _sizes(6, 256, 4, 512, **DROPS),
    7: _sizes(7, 256, 4, 512, **DROPS),
    14: _sizes(14, 384, 6, 1152, **DROPS),
}
STEMS = [(2, 3, 2), (4, 3, 2), (6, 3, 1), (6, 3, 2), (7, 3, 1), (7, 3, 2), (7, 7, 2), (14, 7, 2)]
# Not theirs, for CPUs: 16 positions for an image of 32 x 32 pixels, 196 for one of 224 x 224.
STEMS += [(4, 3, 3), (4, 7, 2)]
LITE = [(layers, patch) for layers in (6, 7) for patch in (4, 8)]
VARIANTS = {
    **{f"{name}/{p}": SIZES[name] | {"patch_size": p} for name in SIZES for p in PATCHES[name]},
    **{f"DeiT-{name}/16": SIZES[name] | DISTILLED for name in ("Ti", "S", "B")},
    "R50+B/16": SIZES["B"] | {"stem": ResNetStem},
    **{f"ViT-Lite-{n}/{p}": COMPACT[n] | {"patch_size": p} for n, p in LITE},
    **{f"CVT-{n}/{p}": COMPACT[n] | {"patch_size": p, "pool": "sequence"} for n, p in LITE},
    **{
        f"CCT-{n}/{k}x{c}": COMPACT[n] | {"stem": _convolutions(k, c), "pool": "sequence"}
        for n, k, c in STEMS
    },
}


def published(variants, variant):
    """Finds a variant by its name.

    Args:
        variants: dict by name, such as `VARIANTS`.
        variant: str. A key of `variants`.

    Returns:
        The value of the key.

    Raises:
        ValueError: for an unknown variant.

    Example:

    >>> published(VARIANTS, "S/16")["hidden_dim"]
    384
    """
    if variant not in variants:
        raise ValueError(
            f"Expected variant to be one of {sorted(variants)}, received variant={variant!r}."
        )
    return variants[variant]


def variant_arguments(variants, variant, overrides):
    """Returns the constructor's arguments of a published model.

    Args:
        variants: dict by name, such as `VARIANTS`.
        variant: str. A key of `variants`.
        overrides: dict of arguments that replace those of the variant; another `stem` or
            `patch_size` replaces its front door, whichever that is.

    Returns:
        Dict of arguments, with `stem` as a layer.

    Raises:
        ValueError: for an unknown variant.

    Example:

    >>> variant_arguments(VARIANTS, "S/16", {"dropout": 0.1})["hidden_dim"]
    384
    """
    arguments = dict(published(variants, variant))
    if "stem" in overrides or "patch_size" in overrides:
        arguments = {k: v for k, v in arguments.items() if k not in ("stem", "patch_size")}
    make_stem = arguments.get("stem")
    arguments |= overrides
    if make_stem is not None:
        dtype = overrides.get("dtype")
        arguments["stem"] = make_stem(arguments["hidden_dim"], name="stem", dtype=dtype)
    return arguments
