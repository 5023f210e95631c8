"""CaiT: a deep Vision Transformer whose class token joins at the end and asks alone."""

from kerasformer.layers.class_attention import ClassAttentionPooling
from kerasformer.layers.mixers.talking_heads import TalkingHeadsAttention
from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import variant_arguments


def _sizes(num_layers, hidden_dim, num_heads, layer_scale, patch_size=16, times=4):
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads,
        "intermediate_dim": times * hidden_dim,
        "layer_scale": layer_scale,
        "patch_size": patch_size,
    }


class CaiT:
    """Makes CaiTs: `VisionTransformer` with `TalkingHeadsAttention` and `ClassAttentionPooling`.

    The patches go through the encoder without a class token, so that positions have none either.
    Then a class token reads them in two blocks of class attention. Each branch is multiplied by
    learned factors that start near zero (LayerScale), and stochastic depth has one rate in all
    blocks of the encoder. As in the published code, the blocks of the class token have no dropout
    and no stochastic depth: of the arguments for blocks they get `hidden_dim`, `num_heads`,
    `intermediate_dim`, `layer_scale`, `activation` and `epsilon`; the others are the encoder's.

    What the class token attends to, and what reaches it from each patch:

        sequence = model.encode(images)
        scores = model.pooling.scores_of(sequence)  # of each class block: (B, N, 1, 1 + P)
        maps = explain.grid_maps(scores[0], model.grid_size(), num_prefix_tokens=1)
        shares = model.pooling.weights_of(sequence)  # through both blocks: (B, P)

    Example:

    >>> from keras import ops
    >>> model = CaiT.from_variant("Lite-4/4", image_size=16, num_classes=10)
    >>> tuple(model(ops.ones((1, 16, 16, 3))).shape)
    (1, 10)

    References:
        - [Touvron et al., 2021](https://arxiv.org/abs/2103.17239)
    """

    # Tables 1 and 5 of the paper, LayerScale as in the code. XS36 is in the paper alone, which
    # begins with 1e-6 beyond 24 layers. "Lite-4" is not theirs: for small pictures and CPUs.
    VARIANTS = {
        "XXS24": _sizes(24, 192, 4, 1e-5),
        "XXS36": _sizes(36, 192, 4, 1e-5),
        "XS24": _sizes(24, 288, 6, 1e-5),
        "XS36": _sizes(36, 288, 6, 1e-6),
        "S24": _sizes(24, 384, 8, 1e-5),
        "S36": _sizes(36, 384, 8, 1e-6),
        "M36": _sizes(36, 768, 16, 1e-6),
        "M48": _sizes(48, 768, 16, 1e-6),
        "Lite-4/4": _sizes(4, 128, 4, 0.1, 4, times=2),
        "Lite-4/16": _sizes(4, 128, 4, 0.1, 16, times=2),
    }

    @classmethod
    def from_variant(cls, variant, image_size, num_classes=None, **overrides):
        """Makes a published model.

        Args:
            variant: str. A key of `VARIANTS`: size and number of layers, such as `"XXS24"`.
            image_size: int or pair of ints `(height, width)`.
            num_classes: int or `None`. Number of classes; `None` or 0 for features.
            **overrides: any argument of `VisionTransformer`, where `stochastic_depth` is the rate
                of all blocks, and `num_class_layers`, the blocks of the class token (2).

        Returns:
            A `VisionTransformer`.

        Raises:
            ValueError: for an unknown variant.
        """
        arguments = variant_arguments(cls.VARIANTS, variant, overrides)
        num_heads, dtype = arguments.pop("num_heads"), arguments.get("dtype")
        rates = arguments.pop("stochastic_depth", 0.0)
        if not isinstance(rates, (list, tuple)):
            rates = [rates] * arguments["num_layers"]
        mixer = TalkingHeadsAttention(
            arguments["hidden_dim"], num_heads, dropout=arguments.pop("attention_dropout", 0.0)
        )
        options = ("layer_scale", "activation", "epsilon")
        pool = ClassAttentionPooling(
            arguments["hidden_dim"],
            num_heads,
            arguments["intermediate_dim"],
            arguments.pop("num_class_layers", 2),
            **{name: arguments[name] for name in options if name in arguments},
            name="pooling",
            dtype=dtype,
        )
        parts = {"mixer": mixer, "pool": pool, "use_final_norm": False}
        return VisionTransformer(
            image_size,
            num_classes=num_classes,
            stochastic_depth=rates,
            **parts | arguments,
        )
