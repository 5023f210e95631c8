"""The masked autoencoder: a Vision Transformer that learns from images without labels.

Letters: `B` batch, `P` patches, `K` visible patches, `V` values of a patch (of its pixels and
channels).
"""

import keras
from keras import ops

from kerasformer.layers.children import Composite, serialize_child
from kerasformer.layers.embeddings.layout import check_images
from kerasformer.layers.embeddings.masking import (
    MaskTokens,
    RandomMasking,
    hidden_patches,
    visible_count,
)
from kerasformer.layers.embeddings.patches import extract_patches, merge_patches
from kerasformer.layers.positions.grids import SinusoidalGridPositions
from kerasformer.layers.sizes import check_sizes, pair
from kerasformer.layers.stacks import Encoder
from kerasformer.models.vit import VisionTransformer
from kerasformer.models.vit_variants import VARIANTS, published

# Of the paper, and one for images of about 32 x 32 pixels.
DECODER = {"decoder_num_layers": 8, "decoder_hidden_dim": 512, "decoder_num_heads": 16}
SMALL_DECODER = {"decoder_num_layers": 2, "decoder_hidden_dim": 128, "decoder_num_heads": 4}
EPSILON = 1e-6


def patch_moments(patches):
    """Computes what each patch is normalised by: its mean, and its unbiased variance.

    Args:
        patches: float tensor `(B, P, V)`.

    Returns:
        Tuple of the means and of the square roots of variance + 1e-6, float `(B, P, 1)` each.

    Example:

    >>> mean, deviation = patch_moments(ops.array([[[1.0, 3.0, 5.0]]]))
    >>> round(float(mean[0, 0, 0]), 4), round(float(deviation[0, 0, 0]), 4)
    (3.0, 2.0)

    References:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3
    """
    mean = ops.mean(patches, axis=-1, keepdims=True)
    squares = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(squares / max(patches.shape[-1] - 1, 1) + EPSILON)


def masked_error(predictions, targets, is_hidden):
    """Averages the squared error of the hidden patches of each image.

    Args:
        predictions: float tensor `(B, P, V)`.
        targets: float tensor `(B, P, V)`.
        is_hidden: boolean tensor `(B, P)`; in each row at least one is `True`.

    Returns:
        float32 tensor `(B,)`.

    Example:

    >>> x = ops.array([[[1.0], [3.0]]])
    >>> float(masked_error(x, ops.zeros((1, 2, 1)), ops.array([[False, True]]))[0])
    9.0
    """
    predictions, targets, hidden = (
        ops.cast(x, "float32") for x in (predictions, targets, is_hidden)
    )
    errors = ops.mean(ops.square(predictions - targets), axis=-1)
    return ops.sum(errors * hidden, axis=1) / ops.sum(hidden, axis=1)


@keras.saving.register_keras_serializable(package="kerasformer")
class MaskedAutoencoder(Composite, keras.Model):
    """Reconstructs images of which it sees a random quarter of the patches: MAE.

    The encoder reads the visible patches alone. A small decoder, the same `Encoder` with fixed
    positions, reads what became of them and a mask token in place of each hidden patch. The loss is
    the squared error of the hidden patches, whose targets are normalised patch by patch. Afterwards
    the decoder is thrown away: `model.encoder` is a `VisionTransformer` that reads whole images.

    `compile(optimizer)` and `fit(images)` train it, because it adds its loss by itself, as
    `losses` of Keras. A loop of your own calls `image_losses`.

    Args:
        encoder: `VisionTransformer` of a `patch_size`, without heads, whose positions are added to
            the patches: `"sinusoidal_mae"` are the published ones.
        decoder_num_layers, decoder_hidden_dim, decoder_num_heads: ints. Sizes of the decoder, whose
            feed-forward layers are four times as wide as its sequence.
        channels: int. Number of channels of the images.
        mask_ratio: float between 0 and 1. Share of the patches that is hidden.
        normalize_targets: bool. Whether each target patch is divided by its own deviation once its
            own mean is subtracted; else the targets are the images as they come.
        seed: int or `None`. Start of the random masks.
        **kwargs: passed to `keras.Model` (`name`, `dtype`, ...).

    Call arguments:
        inputs: float tensor `(B, height, width, channels)`, normalised as in training.
        order: int tensor `(B, P)`, a permutation of the patches `0..P-1` in each row, whose first
            ones stay visible, as `RandomMasking` takes it; `None` to draw one while training, and
            for one that is always the same afterwards.

    Returns:
        float32 tensor `(B, P, V)`: what the decoder makes of every patch, in the scale of the
        targets and flattened as `extract_patches` does. Only that of hidden ones is ever trained.

    Masking: produces no mask; every patch is real.

    Raises:
        ValueError: for an encoder of another kind, a ratio that hides none or all of the patches,
            or images with other channels.

    Example:

    >>> model = MaskedAutoencoder.from_variant("ViT-Lite-6/4", image_size=32, num_layers=1)
    >>> images = keras.random.uniform((2, 32, 32, 3))
    >>> tuple(model(images).shape)
    (2, 64, 48)
    >>> reconstruction, is_hidden = model.reconstruct(images)
    >>> tuple(reconstruction.shape), tuple(is_hidden.shape), int(ops.sum(is_hidden[0]))
    ((2, 32, 32, 3), (2, 8, 8), 48)
    >>> tuple(model.encoder.features(images).shape)
    (2, 256)

    References:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377)
    """

    # Sizes of `VisionTransformer`, each with a decoder.
    VARIANTS = {
        **{name: DECODER for name in ("Ti/16", "S/16", "B/16", "B/32", "L/16", "L/32", "H/14")},
        **{name: SMALL_DECODER for name in VARIANTS if name.startswith("ViT-Lite")},
    }

    def __init__(
        self,
        encoder,
        decoder_num_layers=8,
        decoder_hidden_dim=512,
        decoder_num_heads=16,
        channels=3,
        mask_ratio=0.75,
        normalize_targets=True,
        seed=None,
        **kwargs,
    ):
        # The layers cast what they read, but targets are the images as they come.
        super().__init__(autocast=False, **kwargs)
        _check_encoder(encoder)
        check_sizes(channels=channels, decoder_hidden_dim=decoder_hidden_dim)
        self.encoder = encoder  # The first child, so that its weights are the first ones.
        self.decoder_num_layers = decoder_num_layers
        self.decoder_hidden_dim = decoder_hidden_dim
        self.decoder_num_heads = decoder_num_heads
        self.channels = channels
        self.mask_ratio = mask_ratio
        self.normalize_targets = normalize_targets
        self.seed = seed
        policy, (rows, columns) = self.dtype_policy, encoder.grid_size()
        self.masking = RandomMasking(mask_ratio, seed, name="masking", dtype=policy)
        visible_count(rows * columns, mask_ratio)  # Checks the ratio.
        self.decoder_embedding = keras.layers.Dense(
            decoder_hidden_dim, name="decoder_embedding", dtype=policy
        )
        self.mask_tokens = MaskTokens(name="mask_tokens", dtype=policy)
        self.decoder_positions = SinusoidalGridPositions(
            (rows, columns),
            encoder.num_prefix_tokens,
            layout="concatenated",
            name="decoder_positions",
            dtype=policy,
        )
        self.decoder = Encoder(
            decoder_num_layers,
            decoder_hidden_dim,
            decoder_num_heads,
            4 * decoder_hidden_dim,
            activation="gelu",
            name="decoder",
            dtype=policy,
        )
        # In float32 under any policy, as logits are.
        self.prediction_dense = keras.layers.Dense(
            self._values(), autocast=False, name="prediction_dense", dtype=policy
        )

    @classmethod
    def from_variant(cls, variant, image_size, **overrides):
        """Makes an autoencoder of a published size.

        Args:
            variant: str. A key of `VARIANTS`: that of a `VisionTransformer` such as `"B/16"`, with
                the published decoder, or of one for small images such as `"ViT-Lite-7/4"`, with a
                small decoder. Nothing drops.
            image_size: int or pair of ints `(height, width)`.
            **overrides: any argument of the constructor, and of `VisionTransformer`, which are
                those of the encoder.

        Returns:
            A `MaskedAutoencoder`.

        Raises:
            ValueError: for an unknown variant.
        """
        decoder = published(cls.VARIANTS, variant)
        names = ("channels", "mask_ratio", "normalize_targets", "seed", "name", *DECODER)
        own = {key: overrides.pop(key) for key in names if key in overrides}
        of_encoder = {
            "attention_dropout": 0.0,
            "stochastic_depth": 0.0,
            "positions": "sinusoidal_mae",
            **overrides,
        }
        encoder = VisionTransformer.from_variant(variant, image_size, name="encoder", **of_encoder)
        return cls(encoder, **{**decoder, **own}, dtype=overrides.get("dtype"))

    def _values(self):
        height, width = pair("patch_size", self.encoder.patch_size)
        return height * width * self.channels

    def build(self, inputs_shape=None):
        image_size = pair("image_size", self.encoder.image_size)
        rows, columns = self.encoder.grid_size()
        if not self.encoder.built:
            self.encoder.build(inputs_shape or (None, *image_size, self.channels))
        decoded = (None, self.encoder.num_prefix_tokens + rows * columns, self.decoder_hidden_dim)
        parts = [(self.masking, (None, rows * columns, self.encoder.hidden_dim))]
        parts += [(self.decoder_embedding, (None, None, self.encoder.hidden_dim))]
        layers = (self.mask_tokens, self.decoder_positions, self.decoder, self.prediction_dense)
        for part, shape in parts + [(layer, decoded) for layer in layers]:
            if not part.built:
                part.build(shape)

    def call(self, inputs, *, order=None, training=None):
        order = self._order(inputs, order, training)
        predictions = self._predict(inputs, order, training)
        self.add_loss(ops.mean(self._errors(inputs, order, predictions)))
        return predictions

    def image_losses(self, images, *, order=None, training=None):
        """Computes the loss of each image.

        Args:
            images: float tensor `(B, height, width, channels)`.
            order: int tensor `(B, P)`, as the call takes it, or `None`.
            training: bool or `None`. Whether dropout is active.

        Returns:
            float32 tensor `(B,)`: the mean squared error of the hidden patches.
        """
        order = self._order(images, order, training)
        return self._errors(images, order, self._predict(images, order, training))

    def reconstruct(self, images, *, order=None):
        """Fills the hidden patches of images with what the decoder makes of them.

        Where targets are normalised, the mean and the deviation of each hidden patch, which the
        model does not predict, are those of the image.

        Args:
            images: float tensor `(B, height, width, channels)`.
            order: int tensor `(B, P)`, as the call takes it, or `None`.

        Returns:
            Tuple of the images, float32 `(B, height, width, channels)`, whose visible patches are
            as they were, and a boolean tensor `(B, rows, columns)`, `True` where a patch was
            hidden.
        """
        order = self._order(images, order)
        predictions = self._predict(images, order, training=False)
        patches = self._patches(images)
        if self.normalize_targets:
            mean, deviation = patch_moments(patches)
            predictions = predictions * deviation + mean
        is_hidden = self._is_hidden(order)
        patches = ops.where(is_hidden[..., None], predictions, patches)
        grid_size = self._grid_size(images)
        images = merge_patches(patches, grid_size, self.encoder.patch_size)
        return images, ops.reshape(is_hidden, (-1, *grid_size))

    def _order(self, images, order, training=False):
        """Checks the images, and makes an order where none is given."""
        check_images(images.shape, self.channels)
        if not self.built:
            self.build(tuple(images.shape))
        rows, columns = self._grid_size(images)
        if order is None:
            batch_size = ops.shape(images)[0]
            return self.masking.draw_order(batch_size, rows * columns, training=training)
        if order.shape[1] != rows * columns:
            raise ValueError(
                f"Expected an order of {rows * columns} patches, received "
                f"order.shape={tuple(order.shape)}."
            )
        return order

    def _predict(self, images, order, training):
        count = self.encoder.num_prefix_tokens
        x = self.encoder.embed(images)
        visible = self.masking(x[:, count:], order=order)
        x = ops.concatenate([x[:, :count], visible], axis=1)
        x = self.encoder.dropout_layer(x, training=training)
        x = self.decoder_embedding(self.encoder.encoder(x, training=training))
        x = ops.concatenate([x[:, :count], self.mask_tokens(x[:, count:], order=order)], axis=1)
        x = self.decoder_positions(x, grid_size=self._grid_size(images))
        x = self.decoder(x, training=training)[:, count:]
        return self.prediction_dense(ops.cast(x, self.prediction_dense.variable_dtype))

    def _errors(self, images, order, predictions):
        targets = self._patches(images)
        if self.normalize_targets:
            mean, deviation = patch_moments(targets)
            targets = (targets - mean) / deviation
        return masked_error(predictions, targets, self._is_hidden(order))

    def _is_hidden(self, order):
        return hidden_patches(order, visible_count(order.shape[1], self.mask_ratio))

    def _patches(self, images):
        return extract_patches(ops.cast(images, "float32"), self.encoder.patch_size)

    def _grid_size(self, images):
        size = tuple(images.shape[1:3])
        return self.encoder.grid_size(None if None in size else size)

    def compute_output_spec(self, inputs, **kwargs):
        # Traced, because the predictions are float32 under any dtype policy.
        if None in inputs.shape[1:3]:
            shape = (inputs.shape[0], *pair("image_size", self.encoder.image_size), self.channels)
            inputs = keras.KerasTensor(shape, dtype=inputs.dtype)
        return keras.Operation.compute_output_spec(self, inputs, **kwargs)

    def compute_output_shape(self, inputs_shape):
        size = inputs_shape[1:3]
        rows, columns = self.encoder.grid_size(None if None in size else tuple(size))
        return (inputs_shape[0], rows * columns, self._values())

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": serialize_child(self.encoder),
            "decoder_num_layers": self.decoder_num_layers,
            "decoder_hidden_dim": self.decoder_hidden_dim,
            "decoder_num_heads": self.decoder_num_heads,
            "channels": self.channels,
            "mask_ratio": self.mask_ratio,
            "normalize_targets": self.normalize_targets,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Makes the model, with its encoder, from what `get_config` returned."""
        return cls(**keras.saving.deserialize_keras_object(config))


def _check_encoder(encoder):
    """Refuses encoders that cannot be trained in this way."""
    reason = ""
    if not isinstance(encoder, VisionTransformer):
        reason = f"encoder={encoder!r}"
    elif encoder.stem is not None:
        reason = "one with a stem in place of a patch_size"
    elif encoder.num_classes or encoder.heads:
        reason = f"one with heads, num_classes={encoder.num_classes}"
    elif encoder.grid_positions is None:
        reason = f"one with positions={encoder.positions!r}"
    if reason:
        raise ValueError(
            "Expected encoder to be a VisionTransformer with a patch_size, without heads, whose "
            f"positions are added to the patches, received {reason}."
        )
