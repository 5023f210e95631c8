"""GC ViT of timm: `gcvit_xxtiny` to `gcvit_base`."""

import re

import keras

from kerasformer.interop.names import Names
from kerasformer.interop.timm.source import Source
from kerasformer.models import GCViT

PATTERN = re.compile(r"gcvit_(xxtiny|xtiny|tiny|small|base)")
TABLE = "attn.rel_pos.relative_position_bias_table"


def make(source: Source) -> keras.Model:
    """Makes the model of a source, built.

    Raises:
        ValueError: for a source that no `GCViT` can be.
    """
    known = ("depths", "num_heads", "layer_scale", "window_size", "window_ratio")
    source.check_arguments(known, ("avg",))
    hidden_dim, channels, _, _ = source.shape("stem.conv1.weight", 4)
    stages = range(source.count("stages."))
    windows = _windows(source, len(stages))
    for stage, (height, width) in zip(stages, windows, strict=True):
        name = f"stages.{stage}.blocks.0.{TABLE}"
        heads = source.shape(name, 2)[1]
        source.require(name, ((2 * height - 1) * (2 * width - 1), heads))
    model = GCViT(
        source.image_size,
        tuple(source.count(f"stages.{stage}.blocks.") for stage in stages),
        hidden_dim,
        source.shape(f"stages.0.blocks.0.{TABLE}", 2)[1],
        source.num_classes,
        intermediate_ratio=source.shape("stages.0.blocks.0.mlp.fc1.weight", 2)[0] / hidden_dim,
        window_size=windows,
        layer_scale=1.0 if "stages.0.blocks.0.ls1.gamma" in source.shapes else None,
        name="gcvit",
    )
    model.build((None, *source.image_size, channels))
    return model


def _windows(source, num_stages):
    """Lists the windows of the stages, which are given or parts of the image."""
    given = source.arguments.get("window_size")
    if given is None:
        ratios = source.arguments.get("window_ratio") or (32, 32, 16, 32)
        ratios = ratios if isinstance(ratios, list | tuple) else [ratios] * num_stages
        given = [tuple(side // ratio for side in source.image_size) for ratio in ratios]
    if isinstance(given, int):
        given = [given] * num_stages
    return [(x, x) if isinstance(x, int) else tuple(x) for x in given]


def names(source: Source) -> Names:
    """Returns the table of the weights of a source."""
    last = source.count("stages.") - 1
    return Names(
        pairs=(
            ("downsampling/", "down/"),
            ("^stem/convolution", "stem/conv1"),
            ("^downsampling_(.)/", r"stages/\1/downsample/"),
            ("output_norm", "norm2"),
            ("^(.*down|.*downsample)/norm/", r"\1/norm1/"),
            *(
                (f"global_queries/mixing_{step}/", f"global_block/blocks/conv{step + 1}/")
                for step in range(8)
            ),
            ("mixing", "conv_block"),
            ("depthwise", "conv_dw"),
            ("pointwise", "conv_pw"),
            ("squeeze", "se/fc1"),
            ("excite", "se/fc2"),
            ("stage_", "stages/"),
            ("block_(?=[0-9])", "blocks/"),
            ("self_attention/norm", "norm1"),
            ("self_attention/scale", "ls1.gamma"),
            ("self_attention/mixer/.*value_dense", "attn/qkv"),
            ("self_attention/mixer/output_dense", "attn/proj"),
            ("self_attention/mixer/position_biases", f"attn/{TABLE.removeprefix('attn.')}"),
            ("feed_forward/norm", "norm2"),
            ("feed_forward/scale", "ls2.gamma"),
            ("feed_forward/feed_forward/inner_dense", "mlp/fc1"),
            ("feed_forward/feed_forward/output_dense", "mlp/fc2"),
            ("final_norm", f"stages/{last}/norm"),
            ("^head", "head/fc"),
        ),
        unused=("relative_position_index$",),
    )
