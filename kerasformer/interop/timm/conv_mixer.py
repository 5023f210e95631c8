"""ConvMixer of timm: `convmixer_768_32`, `convmixer_1024_20_ks9_p14`, `convmixer_1536_20`."""

import re

import keras

from kerasformer.interop.names import Names
from kerasformer.interop.timm.source import Source
from kerasformer.models import ConvMixer

PATTERN = re.compile(r"convmixer_\d+_\d+(_ks\d+)?(_p\d+)?")


def make(source: Source) -> keras.Model:
    """Makes the model of a source, built.

    Raises:
        ValueError: for a source that no `ConvMixer` can be.
    """
    source.check_arguments(("dim", "depth", "kernel_size"), ("avg",))
    channels, hidden_dim, patch_size = source.patches("stem.0.weight")
    model = ConvMixer(
        source.image_size,
        hidden_dim,
        source.count("blocks."),
        kernel_size=source.shape("blocks.0.0.fn.0.weight", 4)[-1],
        patch_size=patch_size,
        num_classes=source.num_classes,
        # The published 768/32 alone.
        activation="relu" if source.architecture == "convmixer_768_32" else "gelu",
        name="convmixer",
    )
    model.build((None, *source.image_size, channels))
    return model


def names(source: Source) -> Names:
    """Returns the table of the weights of a source."""
    return Names(
        pairs=(
            ("^trunk/", ""),
            ("patches_norm", "stem/2"),
            ("patches", "stem/0"),
            (r"places_(\d+)_norm", r"blocks/\1/0/fn/2"),
            (r"places_(\d+)", r"blocks/\1/0/fn/0"),
            (r"features_(\d+)_norm", r"blocks/\1/3"),
            (r"features_(\d+)", r"blocks/\1/1"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        ),
        unused=("num_batches_tracked$",),
    )
