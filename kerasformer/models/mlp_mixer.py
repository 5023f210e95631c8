"""MLP-Mixer and ResMLP: Vision Transformers whose attention is a network over positions."""

from kerasformer.layers.mixers.token_mixing import FeedForwardMixing, TokenMixing
from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import published, variant_arguments


def _sizes(num_layers, hidden_dim, intermediate_dim, **others):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "intermediate_dim": intermediate_dim,
        "pool": "mean",
        "positions": "none",
        **others,
    }


def _res_mlp(num_layers, hidden_dim, patch_size, layer_scale):
    others = {"patch_size": patch_size, "layer_scale": layer_scale, "normalization": "affine"}
    return _sizes(num_layers, hidden_dim, 4 * hidden_dim, ratio=None, **others)


def _feed_forward_only(num_layers, hidden_dim, patch_size):
    others = {"patch_size": patch_size, "pool": "class", "positions": "learned", "ratio": 4.0}
    return _sizes(num_layers, hidden_dim, 4 * hidden_dim) | others


# Tolstikhin et al. 2021, table 1. "Lite-4" is not theirs: for small pictures and CPUs.
SIZES = {
    "S": _sizes(8, 512, 2048),
    "B": _sizes(12, 768, 3072),
    "L": _sizes(24, 1024, 4096),
    "H": _sizes(32, 1280, 5120),
    "Lite-4": _sizes(4, 128, 256),
}
PATCHES = {"S": [16, 32], "B": [16, 32], "L": [16, 32], "H": [14], "Lite-4": [4, 16]}


class MLPMixer:
    """Makes MLP-Mixers and their kin: `VisionTransformer` with a mixer that is an MLP.

    There is no class token and there are no positions, because each position has weights of its
    own; the head reads the mean of all positions. Images with another number of patches than those
    of `image_size` are refused for the same reason. The mixer is `TokenMixing`; that of a ResMLP is
    `FeedForwardMixing(ratio=None)`, with LayerScale, and a scale and a shift as normalisation; that
    of `"FF-B/16"` is `FeedForwardMixing`, with a class token and learned positions.

    Example:

    >>> from keras import ops
    >>> model = MLPMixer.from_variant("Lite-4/4", image_size=16, num_classes=10)
    >>> tuple(model(ops.ones((1, 16, 16, 3))).shape)
    (1, 10)

    References:
        - [Tolstikhin et al., 2021](https://arxiv.org/abs/2105.01601)
        - [Touvron et al., 2021](https://arxiv.org/abs/2105.03404), ResMLP
        - [Melas-Kyriazi, 2021](https://arxiv.org/abs/2105.02723), `"FF-B/16"` and its like
    """

    VARIANTS = {
        **{f"{name}/{p}": SIZES[name] | {"patch_size": p} for name in SIZES for p in PATCHES[name]},
        "ResMLP-12/16": _res_mlp(12, 384, 16, 1e-4),
        "ResMLP-24/16": _res_mlp(24, 384, 16, 1e-5),
        "ResMLP-36/16": _res_mlp(36, 384, 16, 1e-6),
        "ResMLP-B-24/8": _res_mlp(24, 768, 8, 1e-6),
        "FF-Ti/16": _feed_forward_only(12, 192, 16),
        "FF-B/16": _feed_forward_only(12, 768, 16),
        "FF-L/32": _feed_forward_only(24, 1024, 32),
    }

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. A key of `VARIANTS`: a size and a patch, such as `"B/16"`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of `VisionTransformer`; `token_dim`, the inner size of
                `TokenMixing`, which is half of `hidden_dim` otherwise; or `ratio`, that of
                `FeedForwardMixing`. `dropout` and `activation` are those inside of the mixer too.

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant, or `token_dim` or `ratio` where the variant has the
                other mixer.
        """
        unused = "token_dim" if "ratio" in published(cls.VARIANTS, variant) else "ratio"
        if unused in overrides:
            raise ValueError(
                f"Expected no {unused}, which the mixer of variant={variant!r} has no use for, "
                f"received {unused}={overrides[unused]!r}."
            )
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        token_dim = arguments.pop("token_dim", None) or arguments["hidden_dim"] // 2
        dropout = arguments.get("dropout", 0.0)
        inner = {"activation": arguments.get("activation", "gelu"), "dropout": dropout}
        if "ratio" in arguments:
            mixer = FeedForwardMixing(arguments.pop("ratio"), **inner)
        else:
            mixer = TokenMixing(token_dim, **inner)
        arguments = {"activation_dropout": dropout, "mixer": mixer, **arguments}
        return VisionTransformer(image_size, num_classes=num_classes, **arguments)
