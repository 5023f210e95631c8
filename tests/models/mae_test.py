"""The masked autoencoder against the published one, and by what it may see."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.interop.names import Names, read_weights
from kerasformer.layers import ConvolutionalStem
from kerasformer.layers.embeddings.masking import RandomMasking
from kerasformer.layers.embeddings.patches import extract_patches, merge_patches
from kerasformer.models import MaskedAutoencoder, VisionTransformer
from kerasformer.models.mae import masked_error, patch_moments
from tests.backend import gradients
from tests.peers import samples

# Of transformers, without the positions, which it counts among the parameters.
PUBLISHED = {"B/16": 111_655_680, "L/16": 329_239_296, "H/14": 656_613_964}
BLOCKS = [
    ("block_", "layers/"),
    ("self_attention/norm", "layernorm_before"),
    ("feed_forward/norm", "layernorm_after"),
    ("self_attention/attention/query_key_value_dense", "attention/q_proj+k_proj+v_proj"),
    ("self_attention/attention/output_dense", "attention/o_proj"),
    ("feed_forward/feed_forward/inner_dense", "mlp/fc1"),
    ("feed_forward/feed_forward/output_dense", "mlp/fc2"),
]
NAMES = [
    ("^encoder/patch_embedding/dense", "vit/embeddings/patch_embeddings/projection"),
    ("^encoder/prefix_tokens/tokens", "vit/embeddings/cls_token"),
    ("^encoder/encoder/final_norm", "vit/layernorm"),
    ("^encoder/encoder/", "vit/"),
    ("^decoder/final_norm", "decoder/decoder_norm"),
    *BLOCKS,
    ("^decoder/layers", "decoder/decoder_layers"),
    ("^decoder_embedding", "decoder/decoder_embed"),
    ("^mask_tokens/token", "decoder/mask_token"),
    ("^prediction_dense", "decoder/decoder_pred"),
]
SIZES = {"num_layers": 2, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 24}
SMALL = {"decoder_num_layers": 1, "decoder_hidden_dim": 8, "decoder_num_heads": 2}
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.standard_normal((2, 6, 10, 3)).astype("float32")
PATCHES, VALUES = 15, 12  # of 2 x 2 pixels
ORDER = np.stack([RANDOM.permutation(PATCHES) for _ in range(2)]).astype("int32")


def small(image_size=(6, 10), patch_size=2, **options):
    return MaskedAutoencoder.from_variant(
        "B/16", image_size, patch_size=patch_size, **{**SIZES, **SMALL, **options}
    )


def count_parameters(variant):
    """Counts from a model of one block; the arithmetic adds the others."""
    model = MaskedAutoencoder.from_variant(variant, 224, num_layers=1)
    model.build()
    others = VisionTransformer.VARIANTS[variant]["num_layers"] - 1
    return model.count_params() + others * model.encoder.encoder.blocks[0].count_params()


class PublishedTest:
    @pytest.mark.parametrize("variant", PUBLISHED)
    def test_parameters_are_as_many(self, variant):
        assert count_parameters(variant) == PUBLISHED[variant]

    def test_predictions_masks_and_losses_are_those_of_transformers(self):
        images, expected, arrays = samples.read("mae")
        answers = {name: arrays.pop(name) for name in ("noise", "mask", "loss", "loss_of_pixels")}
        order, model = np.argsort(answers["noise"], axis=1), small(12, 4)
        model.build((None, *images.shape[1:]))
        count = model.encoder.num_prefix_tokens
        for layer, size, name in (
            (model.encoder.grid_positions, 12, "vit.embeddings.position_embeddings"),
            (model.decoder_positions, 8, "decoder.decoder_pos_embed"),
        ):
            positions = arrays.pop(name)
            assert count == 1 and not positions[0, :count].any()
            np.testing.assert_allclose(layer.position_table(size), positions[0], atol=1e-6)
        read_weights(model, arrays, Names(tuple(NAMES)))
        np.testing.assert_allclose(model(images, order=order), expected, atol=1e-4)
        losses = model.image_losses(images, order=order)
        np.testing.assert_allclose(ops.mean(losses), answers["loss"], rtol=1e-5)
        _, is_hidden = model.reconstruct(images, order=order)
        np.testing.assert_array_equal(is_hidden, answers["mask"].reshape(2, 3, 3) == 1)
        model.normalize_targets = False
        losses = model.image_losses(images, order=order)
        np.testing.assert_allclose(ops.mean(losses), answers["loss_of_pixels"], rtol=1e-5)


class LossTest:
    def test_targets_are_normalised_by_the_unbiased_variance(self):
        patches = np.array([[[1.0, 3.0, 5.0], [7.0, 7.0, 7.0]]], "float32")
        mean, deviation = patch_moments(ops.array(patches))
        np.testing.assert_allclose(mean[0, :, 0], [3, 7])
        np.testing.assert_allclose(deviation[0, :, 0], [np.sqrt(4 + 1e-6), 1e-3], rtol=1e-6)

    def test_visible_patches_do_not_count(self):
        targets, is_hidden = np.zeros((2, 3, 5)), np.array([[1, 0, 1], [0, 1, 1]], bool)
        predictions = RANDOM.standard_normal((2, 3, 5))
        before = np.array(masked_error(predictions, targets, is_hidden))
        expected = [np.mean(p[h] ** 2) for p, h in zip(predictions, is_hidden, strict=True)]
        np.testing.assert_allclose(before, expected, rtol=1e-5)
        predictions[~is_hidden] += 7
        np.testing.assert_array_equal(masked_error(predictions, targets, is_hidden), before)

    def test_what_is_hidden_reaches_no_prediction(self):
        model = small()
        changed = np.array(extract_patches(IMAGES, 2))
        is_hidden = np.array(model.reconstruct(IMAGES, order=ORDER)[1]).reshape(2, PATCHES)
        assert is_hidden.sum(axis=1).tolist() == [12, 12]  # of 15, so that 3 are seen
        changed[is_hidden] += 3
        changed = merge_patches(changed, (3, 5), 2)
        predictions = [np.array(model(x, order=ORDER)) for x in (IMAGES, changed)]
        np.testing.assert_array_equal(*predictions)
        changed = IMAGES.copy()
        changed[0] += 3 * ~np.repeat(np.repeat(is_hidden[0].reshape(3, 5, 1), 2, 0), 2, 1)
        assert (np.array(model(changed, order=ORDER)) != predictions[0])[0].all()


class UseTest:
    def test_visible_patches_of_a_reconstruction_are_as_they_were(self):
        for normalize in (True, False):
            model = small(normalize_targets=normalize)
            filled, is_hidden = map(np.array, model.reconstruct(IMAGES, order=ORDER))
            pixels = np.repeat(np.repeat(is_hidden[..., None], 2, 1), 2, 2)
            pixels = np.broadcast_to(pixels, IMAGES.shape)
            np.testing.assert_array_equal(filled[~pixels], IMAGES[~pixels])
            assert (filled[pixels] != IMAGES[pixels]).all()
            patches = np.array(extract_patches(filled, 2))
            expected = np.array(model(IMAGES, order=ORDER))
            if normalize:
                mean, deviation = map(np.array, patch_moments(extract_patches(IMAGES, 2)))
                expected = expected * deviation + mean
            hidden = is_hidden.reshape(2, PATCHES)
            np.testing.assert_allclose(patches[hidden], expected[hidden], rtol=1e-4, atol=1e-5)

    def test_the_weights_of_the_encoder_come_first_and_describe_whole_images(self):
        model, encoder = (
            small(),
            VisionTransformer.from_variant(
                "B/16", (6, 10), patch_size=2, positions="sinusoidal_mae", **SIZES
            ),
        )
        model.build()
        encoder.build()
        for variable, other in zip(encoder.variables, model.variables, strict=False):
            variable.assign(other)
        np.testing.assert_array_equal(encoder(IMAGES), model.encoder.features(IMAGES))

    def test_images_of_another_size_have_positions_of_their_own_grid(self):
        model = small()
        assert model(np.ones((1, 8, 4, 3), "float32")).shape == (1, 8, VALUES)
        with pytest.raises(ValueError, match=r"an order of 8 patches, received .*\(2, 15\)"):
            model(np.ones((2, 8, 4, 3), "float32"), order=ORDER)
        with pytest.raises(ValueError, match="channels=3"):
            model(np.ones((1, 6, 10, 1), "float32"))

    def test_keras_trains_it_by_the_loss_that_it_adds_itself(self):
        images = np.random.default_rng(5).standard_normal((5, 4, 4, 1)).astype("float32")
        model = small(4, channels=1, mask_ratio=0.5, num_layers=1, seed=3)
        order = RandomMasking(0.5, seed=3).draw_order(5, 4, training=True)
        expected = float(ops.mean(model.image_losses(images, order=order)))
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        assert float(model.train_on_batch(images)) == pytest.approx(expected, rel=1e-5)
        assert float(ops.mean(model.image_losses(images, order=order))) < 0.95 * expected
        assert 0 < float(model.test_on_batch(images)) < 2 * expected

    def test_an_encoder_of_another_kind_is_one_sentence(self):
        sizes = {"image_size": 8, **SIZES}
        for encoder, received in (
            (VisionTransformer(patch_size=2, num_classes=5, **sizes), "num_classes=5"),
            (VisionTransformer(patch_size=2, positions="rotary", **sizes), "positions='rotary'"),
            (VisionTransformer(stem=ConvolutionalStem(12, 1), **sizes), "a stem in place"),
            (keras.layers.Dense(3), "encoder=<Dense"),
        ):
            with pytest.raises(ValueError, match=f"Expected encoder to be .*received .*{received}"):
                MaskedAutoencoder(encoder)
        with pytest.raises(ValueError, match=r"some of 15 patches .* received mask_ratio=0\.99"):
            small(mask_ratio=0.99)


def test_no_gradient_of_the_loss_comes_from_visible_patches():
    model = small()
    model.build()
    total = lambda: ops.sum(model.image_losses(IMAGES, order=ORDER, training=True))  # noqa: E731
    for variable, gradient in zip(
        model.trainable_variables, gradients(total, model.trainable_variables), strict=True
    ):
        assert np.isfinite(np.array(gradient)).all() and np.array(gradient).any(), variable.path
