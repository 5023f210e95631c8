"""PerformerViT: a Vision Transformer whose attention is linear in the number of patches."""

from kerasformer.layers.mixers.linear_attention import LinearAttention
from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import SIZES, variant_arguments

# Sizes of ViT, and one for small pictures and CPUs. Small patches are what linear attention is for.
PATCHES = {"Ti": [4, 8, 16], "S": [8, 16], "B": [8, 16], "Lite-4": [2, 4, 16]}
LITE = {"num_layers": 4, "hidden_dim": 128, "num_heads": 4, "intermediate_dim": 256}


class PerformerViT:
    """Makes Vision Transformers with the mixer `LinearAttention`: Performers for images.

    There are no attention scores, because no patch meets another alone. The head reads the mean of
    all patches.

    Example:

    >>> from keras import ops
    >>> model = PerformerViT.from_variant("Lite-4/2", image_size=8, num_classes=10)
    >>> tuple(model(ops.ones((1, 8, 8, 3))).shape)
    (1, 10)

    References:
        - [Choromanski et al., 2020](https://arxiv.org/abs/2009.14794)
    """

    VARIANTS = {
        f"{name}/{p}": SIZES.get(name, LITE) | {"patch_size": p, "pool": "mean"}
        for name in PATCHES
        for p in PATCHES[name]
    }

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a model of a size of the Vision Transformer.

        Args:
            variant: str. A key of `VARIANTS`: a size and a patch, such as `"S/8"`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of `VisionTransformer`, where `attention_dropout` drops
                outputs of heads, and `num_features` and `kernel` of `LinearAttention`.

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        mixer = LinearAttention(
            arguments["hidden_dim"],
            arguments.pop("num_heads"),
            arguments.pop("num_features", None),
            arguments.pop("kernel", "softmax"),
            dropout=arguments.pop("attention_dropout", 0.0),
        )
        return VisionTransformer(
            image_size, num_classes=num_classes, **{"mixer": mixer, **arguments}
        )
