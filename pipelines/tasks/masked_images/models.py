"""The model of a config of masked images: an encoder by its name, and a decoder."""

import ml_collections

from kerasformer.models import MaskedAutoencoder
from pipelines.images import models


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses an unknown name or variant, and an encoder, decoder or mask that cannot be.

    Raises:
        ValueError: naming it.
    """
    models.check(config)
    config = config.copy_and_resolve_references()
    config.train.precision = "float32"  # It may still have to be chosen.
    make(config)


def make(config: ml_collections.ConfigDict, channels: int = 3) -> MaskedAutoencoder:
    """Makes the model that a config describes, unbuilt, with fresh weights.

    Raises:
        ValueError: when `config.model` has a key that the encoder does not take, or the parts do
            not fit together.
    """
    decoder, mask = config.decoder, config.mask
    return MaskedAutoencoder(
        models.make(config),
        decoder.num_layers,
        decoder.hidden_dim,
        decoder.num_heads,
        channels=channels,
        mask_ratio=mask.ratio,
        normalize_targets=mask.normalize_targets,
        name="masked_autoencoder",
        dtype=config.train.precision,
    )
