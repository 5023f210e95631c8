"""The entries of mixers that are networks over positions, and of models without a sequence."""

import functools

import keras

from kerasformer import layers, models
from tests.layers.entries import HIDDEN, INTERMEDIATE, MAX_LENGTH, B, Entry, Spec, V

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

ENTRIES = [
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
    "Encoder of networks over positions",
    "ConvMixer",
    "ConvolutionalNetwork",
}
