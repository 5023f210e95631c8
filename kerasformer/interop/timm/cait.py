"""CaiT of timm: `cait_xxs24_224` to `cait_m48_448`."""

import re

import keras

from kerasformer.interop.names import Names
from kerasformer.interop.timm.source import Source
from kerasformer.models import CaiT

PATTERN = re.compile(r"cait_(xxs|xs|s|m)\d+_\d+")
PATCHES = "patch_embed.proj.weight"


def make(source: Source) -> keras.Model:
    """Makes the model of a source, built.

    Raises:
        ValueError: for a source that no `CaiT` can be.
    """
    known = ("depth", "num_heads", "depth_token_only", "mlp_ratio_token_only")
    source.check_arguments(known, ("token",))
    channels, hidden_dim, patch_size = source.patches(PATCHES)
    rows, columns = source.grid(patch_size)
    source.require("pos_embed", (1, rows * columns, hidden_dim))
    inner = source.shape("blocks.0.mlp.fc1.weight", 2)
    source.require("blocks_token_only.0.mlp.fc1.weight", inner)
    model = CaiT.from_variant(
        "S24",
        source.image_size,
        source.num_classes,
        num_layers=source.count("blocks."),
        hidden_dim=hidden_dim,
        num_heads=source.shape("blocks.0.attn.proj_l.weight", 2)[0],
        intermediate_dim=inner[0],
        patch_size=patch_size,
        num_class_layers=source.count("blocks_token_only."),
        name="cait",
    )
    model.build((None, *source.image_size, channels))
    return model


def names(source: Source) -> Names:
    """Returns the table of the weights of a source."""
    return Names(
        pairs=(
            ("patch_embedding/dense", "patch_embed/proj"),
            ("grid_positions/table", "pos_embed"),
            ("pooling/class_token/tokens", "cls_token"),
            ("encoder/block_", "blocks/"),
            ("pooling/block_", "blocks_token_only/"),
            ("pooling/norm", "norm"),
            ("(self|class)_attention/scale", "gamma_1"),
            ("feed_forward/scale", "gamma_2"),
            ("(self|class)_attention/norm", "norm1"),
            ("feed_forward/norm", "norm2"),
            ("self_attention/mixer|class_attention/attention", "attn"),
            ("feed_forward/feed_forward/inner_dense", "mlp/fc1"),
            ("feed_forward/feed_forward/output_dense", "mlp/fc2"),
            ("query_key_value_dense", "qkv"),
            ("query_dense", "q"),
            ("key_value_dense", "k+v"),
            ("output_dense", "proj"),
            ("logits_projection", "proj_l"),
            ("weights_projection", "proj_w"),
        ),
        shapes={PATCHES: source.shapes[PATCHES]},
    )
