"""gMLP: a Vision Transformer whose blocks are a gate over positions and nothing else."""

from kerasformer.layers.mixers.spatial_gating import SpatialGating
from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import variant_arguments


def _sizes(num_layers, hidden_dim, patch_size):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "patch_size": patch_size,
        "pool": "mean",
        "positions": "none",
    }


class GMLP:
    """Makes gMLPs: `VisionTransformer` with the mixer `SpatialGating` and no feed-forward layers.

    There is no class token and there are no positions, because each position has weights of its
    own; the head reads the mean of all positions. Images with another number of patches than those
    of `image_size` are refused for the same reason.

    Example:

    >>> from keras import ops
    >>> model = GMLP.from_variant("Lite-4/4", image_size=16, num_classes=10)
    >>> tuple(model(ops.ones((1, 16, 16, 3))).shape)
    (1, 10)

    References:
        - [Liu et al., 2021](https://arxiv.org/abs/2105.08050), table 1
    """

    # "Lite-4" is not theirs: for small pictures and CPUs.
    VARIANTS = {
        "Ti/16": _sizes(30, 128, 16),
        "S/16": _sizes(30, 256, 16),
        "B/16": _sizes(30, 512, 16),
        "Lite-4/4": _sizes(4, 128, 4),
        "Lite-4/16": _sizes(4, 128, 16),
    }

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. A key of `VARIANTS`: a size and a patch, such as `"S/16"`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of `VisionTransformer`; `intermediate_dim` is the size inside
                of `SpatialGating`, and six times `hidden_dim` otherwise.

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        intermediate_dim = arguments.pop("intermediate_dim", None) or 6 * arguments["hidden_dim"]
        activation = arguments.get("activation", "gelu")
        arguments = {"mixer": SpatialGating(intermediate_dim, activation), **arguments}
        return VisionTransformer(image_size, num_classes=num_classes, **arguments)
