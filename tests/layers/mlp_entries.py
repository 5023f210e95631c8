"""The entries of mixers that are networks over positions, of masks, and of models without labels.

Some models here have no sequence at all.
"""

import functools

import keras

from kerasformer import layers, models
from tests.layers.entries import HIDDEN, INTERMEDIATE, MAX_LENGTH, B, Entry, N, Spec, V


def autoencoder(dtype=None, name=None, **arguments):
    """Makes a `MaskedAutoencoder` with a new encoder of the same dtype."""
    encoder = models.VisionTransformer(
        (6, 10),
        1,
        HIDDEN,
        N,
        INTERMEDIATE,
        patch_size=2,
        positions="sinusoidal_mae",
        name="encoder",
        dtype=dtype,
    )
    sizes = {"decoder_num_layers": 1, "decoder_hidden_dim": 8, "decoder_num_heads": 2}
    return models.MaskedAutoencoder(encoder, **sizes, **arguments, name=name, dtype=dtype)


part = functools.partial
fixed = {"inputs": Spec((B, MAX_LENGTH, HIDDEN))}  # of a length that the layer is built for
products = {
    "activation": keras.activations.elu,
    "use_bias": False,
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.1),
    "bias_initializer": "ones",
}
dropped = {"dropout": 0.1, "seed": 5, **products}
of_images = {"mask": "none", "output_dtype": "float32"}

masked = {"order": Spec((B, MAX_LENGTH), "order")}
masked_images = {"inputs": Spec((B, 6, 10, 3), "images"), "order": Spec((B, 15), "order")}
masked_gray = {**masked_images, "inputs": Spec((B, 6, 10, 1), "images")}

ENTRIES = [
    Entry(
        "RandomMasking",
        part(layers.RandomMasking, mask_ratio=0.6, seed=5),
        fixed | masked,
        mask="none",
    ),
    Entry("MaskTokens", layers.MaskTokens, {"inputs": Spec((B, 5, HIDDEN))} | masked, mask="none"),
    Entry("MaskedAutoencoder", autoencoder, masked_images, **of_images),
    Entry(
        "MaskedAutoencoder of pixels",
        part(autoencoder, channels=1, mask_ratio=0.6, normalize_targets=False, seed=5),
        masked_gray,
        **of_images,
    ),
    Entry(
        "TokenMixing", part(layers.TokenMixing, INTERMEDIATE, **dropped), fixed, reads_itself=False
    ),
    Entry(
        "FeedForwardMixing",
        part(layers.FeedForwardMixing, 2, **dropped),
        fixed,
        reads_itself=False,
    ),
    Entry(
        "SpatialGating causal",
        part(layers.SpatialGating, 2 * INTERMEDIATE, epsilon=1e-3, **products),
        fixed,
        {"use_causal_mask": True},
    ),
    Entry(
        "Encoder of networks over positions",
        part(
            layers.Encoder,
            3,
            HIDDEN,
            mixer=[
                layers.TokenMixing(INTERMEDIATE, name="tokens"),
                layers.FeedForwardMixing(None, name="linear"),
                layers.SpatialGating(2 * INTERMEDIATE, name="gate"),
            ],
            normalization="affine",
        ),
        fixed,
    ),
    Entry(
        "ConvMixer",
        part(models.ConvMixer, (6, 10), HIDDEN, 1, 3, 2, num_classes=V, activation="relu"),
        {"inputs": Spec((B, 6, 10, 3), "images")},
        **of_images,
    ),
    Entry(
        "ConvolutionalNetwork",
        part(models.ConvolutionalNetwork, "LeNet-5", (16, 18), V),
        {"inputs": Spec((B, 16, 18, 3), "images")},
        **of_images,
    ),
]
WHOLE_LABELS = {
    "MaskedAutoencoder",
    "Encoder of networks over positions",
    "ConvMixer",
    "ConvolutionalNetwork",
}
