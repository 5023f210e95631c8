"""MLP-Mixer, ResMLP and gMLP of timm: `mixer_b16_224`, `resmlp_24_224`, `gmlp_s16_224`, ..."""

import re

import keras

from kerasformer.interop.names import Names
from kerasformer.interop.timm.source import Source
from kerasformer.models import GMLP, MLPMixer

PATTERN = re.compile(r"(mixer_[sbl]\d+|resmlp_(big_)?\d+|gmlp_(ti|s|b)\d+)_224")
PATCHES = "stem.proj.weight"


def make(source: Source) -> keras.Model:
    """Makes the model of a source, built.

    Raises:
        ValueError: for a source that no `MLPMixer` or `GMLP` can be.
    """
    source.check_arguments(("num_blocks",), ("avg",))
    channels, hidden_dim, patch_size = source.patches(PATCHES)
    rows, columns = source.grid(patch_size)
    sizes = {
        "num_layers": source.count("blocks."),
        "hidden_dim": hidden_dim,
        "patch_size": patch_size,
        "name": source.architecture.partition("_")[0],
    }
    positions, inner = _sizes(source)
    if positions != rows * columns:
        raise ValueError(
            f"Expected blocks for {rows * columns} patches of image_size={source.image_size}, "
            f"received blocks for {positions}."
        )
    place = source.image_size, source.num_classes
    if source.architecture.startswith("gmlp"):
        model = GMLP.from_variant("S/16", *place, **sizes, intermediate_dim=inner)
    elif source.architecture.startswith("resmlp"):
        model = MLPMixer.from_variant("ResMLP-24/16", *place, **sizes, intermediate_dim=inner)
    else:
        token_dim = source.shape("blocks.0.mlp_tokens.fc1.weight", 2)[0]
        sizes |= {"intermediate_dim": inner, "token_dim": token_dim}
        model = MLPMixer.from_variant("S/16", *place, **sizes)
    model.build((None, *source.image_size, channels))
    return model


def _sizes(source):
    """Returns the number of patches, and the inner size of the layers over channels."""
    inner = source.shape("blocks.0.mlp_channels.fc1.weight", 2)[0]
    kind = source.architecture.partition("_")[0]
    name = {"gmlp": "mlp_channels.gate.proj", "resmlp": "linear_tokens"}.get(kind, "mlp_tokens.fc1")
    return source.shape(f"blocks.0.{name}.weight", 2)[1], inner


def names(source: Source) -> Names:
    """Returns the table of the weights of a source."""
    shared = (
        ("patch_embedding/dense", "stem/proj"),
        ("encoder/block_", "blocks/"),
        ("encoder/final_norm", "norm"),
    )
    if source.architecture.startswith("gmlp"):
        return Names(
            pairs=(
                *shared,
                ("self_attention/norm", "norm"),
                ("self_attention/mixer/inner_dense", "mlp_channels/fc1"),
                ("self_attention/mixer/output_dense", "mlp_channels/fc2"),
                ("self_attention/mixer/norm", "mlp_channels/gate/norm"),
                ("self_attention/mixer", "mlp_channels/gate/proj"),
            ),
            shapes={PATCHES: source.shapes[PATCHES]},
        )
    return Names(
        pairs=(
            *shared,
            ("self_attention/norm", "norm1"),
            ("feed_forward/norm", "norm2"),
            ("norm(.?)/scale", r"norm\1.alpha"),
            ("norm(.?)/shift", r"norm\1.beta"),
            ("self_attention/scale", "ls1"),
            ("feed_forward/scale", "ls2"),
            ("self_attention/mixer/network/inner_dense", "mlp_tokens/fc1"),
            ("self_attention/mixer/network/output_dense", "mlp_tokens/fc2"),
            ("self_attention/mixer/network", "linear_tokens"),
            ("feed_forward/feed_forward/inner_dense", "mlp_channels/fc1"),
            ("feed_forward/feed_forward/output_dense", "mlp_channels/fc2"),
        ),
        shapes={PATCHES: source.shapes[PATCHES]},
    )
