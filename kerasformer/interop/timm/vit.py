"""ViT and DeiT of timm: plain, distilled, DeiT III, with registers, with the mean as pool.

Known names are those that `PATTERN` matches: `vit_base_patch16_224`, `deit_small_patch16_224`,
`deit_tiny_distilled_patch16_224`, `deit3_base_patch16_384`, `vit_small_patch14_reg4_dinov2`,
`vit_base_patch16_gap_224`, `flexivit_large`, `eva_large_patch14_196`, ...
"""

import collections
import re
from collections.abc import Mapping

import keras
import numpy as np

from kerasformer.interop.names import Names
from kerasformer.interop.timm.source import Source
from kerasformer.layers.pooling import MeanPooling
from kerasformer.models import VisionTransformer

# By the size in a name. They are the only size that no tensor tells.
HEADS = {
    "tiny": 3,
    "wee": 4,
    "little": 5,
    "small": 6,
    "medium": 8,
    "mediumd": 8,
    "betwixt": 10,
    "base": 12,
    "so150m": 14,
    "large": 16,
    "huge": 16,
    "giant": 16,
    "gigantic": 16,
}
OTHER_HEADS = {
    "vit_base_patch16_gap_224": 16,
    "vit_base_patch16_plus_240": 14,
    "vit_base_patch32_plus_256": 14,
}
# Others, such as those of CLIP and SigLIP, have more layers or another activation.
PATTERN = re.compile(
    rf"(?:vit|deit3?|flexivit|eva)_({'|'.join(HEADS)})(?:_distilled)?(?:_patch\d+)?(?:_plus)?"
    r"(?:_reg\d)?(?:_gap)?(?:_\d+)?(?:_dinov2|_tipsv2)?(?:_in21k)?"
)
EPSILON = 1e-6
PATCHES = "patch_embed.proj.weight"


def make(source: Source) -> keras.Model:
    """Makes the model of a source, built.

    Raises:
        ValueError: for a source that no `VisionTransformer` can be.
    """
    known = ("depth", "num_heads", "class_token", "no_embed_class", "reg_tokens", "fc_norm")
    source.check_arguments(known, ("token", "avg"))
    channels, hidden_dim, patch_size = source.patches(PATCHES)
    prefix = _num_prefix_tokens(source)
    rows, columns = source.grid(patch_size)
    own = prefix if _embeds_prefix(source) else 0
    source.require("pos_embed", (1, rows * columns + own, hidden_dim))
    source.require("blocks.0.attn.qkv.bias", (3 * hidden_dim,))
    inner = source.shape("blocks.0.mlp.fc1.weight", 2)[0]
    source.require("blocks.0.mlp.fc2.weight", (hidden_dim, inner))
    normalizes_mean = "fc_norm.weight" in source.shapes
    pool = "class"
    if normalizes_mean:
        pool = MeanPooling(prefix, epsilon=EPSILON, name="pooling")
    elif (source.pool or ("avg" if "_gap" in source.architecture else "token")) == "avg":
        pool = "mean"
    model = VisionTransformer(
        source.image_size,
        num_layers=source.count("blocks."),
        hidden_dim=hidden_dim,
        num_heads=_num_heads(source),
        intermediate_dim=inner,
        num_classes=source.num_classes,
        patch_size=patch_size,
        pool=pool,
        distillation="dist_token" in source.shapes,
        num_prefix_tokens=prefix,
        layer_scale=1.0 if "blocks.0.ls1.gamma" in source.shapes else None,
        epsilon=EPSILON,
        name="vit",
        # Left out of the arguments where it is there, as in a model made by hand.
        **({"use_final_norm": False} if normalizes_mean else {}),
    )
    model.build((None, *source.image_size, channels))
    return model


def names(source: Source) -> Names:
    """Returns the table of the weights of a source."""
    return Names(
        pairs=(
            ("^patch_embedding/dense", "patch_embed/proj"),
            ("^prefix_tokens/tokens", "+".join(_tokens(source))),
            ("^grid_positions/table", "pos_embed"),
            ("^encoder/block_", "blocks/"),
            ("^encoder/final_norm", "norm"),
            ("^pooling/norm", "fc_norm"),
            ("self_attention/norm", "norm1"),
            ("self_attention/scale", "ls1.gamma"),
            ("self_attention/attention/query_key_value_dense", "attn/qkv"),
            ("self_attention/attention/output_dense", "attn/proj"),
            ("feed_forward/norm", "norm2"),
            ("feed_forward/scale", "ls2.gamma"),
            ("feed_forward/feed_forward/inner_dense", "mlp/fc1"),
            ("feed_forward/feed_forward/output_dense", "mlp/fc2"),
            ("^distillation_head", "head_dist"),
        ),
        shapes={PATCHES: source.shapes[PATCHES]},
    )


def completed(source: Source, tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Returns the tensors, with positions of the tokens before the patches where they have none."""
    made = {}
    if "reg_token" in source.shapes:
        made["reg_token"] = np.moveaxis(tensors["reg_token"], 0, 1)
    if not _embeds_prefix(source):
        positions = tensors["pos_embed"]
        zeros = np.zeros((1, _num_prefix_tokens(source), positions.shape[-1]), "float32")
        made["pos_embed"] = np.concatenate([zeros, positions], axis=1)
    return collections.ChainMap(made, tensors)


def _num_heads(source):
    name = source.architecture
    return (
        source.arguments.get("num_heads")
        or OTHER_HEADS.get(name)
        or HEADS[PATTERN.fullmatch(name)[1]]
    )


def _tokens(source):
    return [x for x in ("cls_token", "dist_token", "reg_token") if x in source.shapes]


def _num_prefix_tokens(source):
    return sum(source.shape(name, 3)[1] for name in _tokens(source))


def _embeds_prefix(source):
    """Tells whether the tokens before the patches have positions too; those of DeiT III do not."""
    rows, columns = source.grid(source.patches(PATCHES)[2])
    return source.shape("pos_embed", 3)[1] != rows * columns
