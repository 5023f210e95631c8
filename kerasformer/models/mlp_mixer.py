"""MLP-Mixer: a Vision Transformer whose attention is a feed-forward layer over positions."""

from kerasformer.layers.mixers.token_mixing import TokenMixing
from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import variant_arguments


def _sizes(num_layers, hidden_dim, intermediate_dim):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "intermediate_dim": intermediate_dim,
        "pool": "mean",
        "positions": "none",
    }


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
    """Makes MLP-Mixers: `VisionTransformer` with the mixer `TokenMixing`.

    There is no class token and there are no positions, because each position has weights of its
    own; the head reads the mean of all positions. Images of another size than `image_size` are
    refused for the same reason.

    Example:

    >>> from keras import ops
    >>> model = MLPMixer.from_variant("Lite-4/4", image_size=16, num_classes=10)
    >>> tuple(model(ops.ones((1, 16, 16, 3))).shape)
    (1, 10)

    References:
        - [Tolstikhin et al., 2021](https://arxiv.org/abs/2105.01601)
    """

    VARIANTS = {
        f"{name}/{p}": SIZES[name] | {"patch_size": p} for name in SIZES for p in PATCHES[name]
    }

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. A key of `VARIANTS`: a size and a patch, such as `"B/16"`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of `VisionTransformer`, and `token_dim`, the inner size of
                `TokenMixing`, which is half of `hidden_dim` otherwise.

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        token_dim = arguments.pop("token_dim", None) or arguments["hidden_dim"] // 2
        mixer = TokenMixing(token_dim, dropout=arguments.get("dropout", 0.0))
        arguments = {"mixer": mixer, **arguments}
        return VisionTransformer(image_size, num_classes=num_classes, **arguments)
