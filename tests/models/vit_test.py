"""The Vision Transformer: made of the parts, moved by the image, and able to learn."""

import functools
import json
import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.patches import PatchEmbedding
from kerasformer.layers.embeddings.stems import ConvolutionalStem
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.pooling import MeanPooling, SequencePooling, TokenPooling
from kerasformer.layers.positions.grids import (
    SinusoidalGridPositions,
    grid_positions,
    resize_grid,
)
from kerasformer.layers.positions.sequences import LearnedPositionEmbedding
from kerasformer.models.vit import VisionTransformer
from tests.backend import recording

BATCH, HEIGHT, WIDTH, CLASSES, HIDDEN, HEADS, INNER, LAYERS = 2, 6, 9, 7, 12, 3, 13, 2
GRID = (2, 3)  # patches of 3 x 3 pixels
OPTIONS = {
    "class token": {},
    "distilled": {"distillation": True},
    "mean, sinusoidal": {"pool": "mean", "positions": "sinusoidal"},
    "sequence pool, no positions": {"pool": "sequence", "positions": "none"},
    "attention pool, rotary": {"pool": "attention", "positions": "rotary"},
    "class token, rotary, scaled": {"positions": "rotary", "layer_scale": 0.1},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def images(height=HEIGHT, width=WIDTH):
    random = np.random.default_rng(height)
    return random.standard_normal((BATCH, height, width, 3)).astype("float32")


def make_model(image_size=(HEIGHT, WIDTH), num_classes=CLASSES, patch_size=3, **options):
    """Makes a built model whose weights are random, heads, tokens, scales and biases included."""
    model = VisionTransformer(
        image_size, LAYERS, HIDDEN, HEADS, INNER, num_classes, patch_size, **options
    )
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.4 * random.standard_normal(weight.shape) for weight in model.weights])
    return model


# For tests that change nothing of it.
shared_model = functools.cache(make_model)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def in_other_order(pictures):
    """Exchanges the first and the last patch of an image."""
    pictures = pictures.copy()
    first, last = pictures[:, :3, :3].copy(), pictures[:, -3:, -3:].copy()
    pictures[:, :3, :3], pictures[:, -3:, -3:] = last, first
    return pictures


class CompositionTest:
    @every_option
    def test_it_is_its_parts_one_after_the_other(self, options):
        model = shared_model(**options)
        x, places = model.patch_embedding(images()), None
        if model.num_prefix_tokens:
            x = model.prefix_tokens(x)
        if model.grid_positions is not None:
            x = x + model.grid_positions.position_table(HIDDEN)
        if model.positions == "rotary":
            places = grid_positions(GRID, model.num_prefix_tokens)
        x, scores = model.encoder(x, positions=places, return_attention_scores=True)
        pools = {"class": lambda x: x[:, 0], "mean": lambda x: ops.mean(x, axis=1)}
        logits = model.head(pools.get(model.pool, model.pooling)(x))
        if model.distillation:
            logits = (logits + model.distillation_head(x[:, 1])) / 2
        outputs, found = model(images(), return_attention_scores=True)
        assert_close(outputs, logits)
        assert_close(found, scores)
        assert_close(model(images()), logits)

    def test_it_starts_undecided(self):
        model = VisionTransformer.from_variant("CCT-2/3x2", (8, 12), CLASSES)
        assert_close(model(images(8, 12)), np.zeros((BATCH, CLASSES)))

    @every_option
    def test_scores_are_probabilities_over_prefix_and_patches(self, options):
        model = shared_model(**options)
        _, scores = model(images(), return_attention_scores=True)
        length = model.num_prefix_tokens + 6
        assert len(scores) == LAYERS
        for block_scores in scores:
            assert block_scores.shape == (BATCH, HEADS, length, length)
            assert_close(ops.sum(block_scores, axis=-1), 1)

    def test_without_classes_it_gives_what_the_head_would_read(self):
        model = make_model()
        features = make_model(num_classes=None)
        features.set_weights(model.get_weights()[:-2])
        assert features(images()).shape == (BATCH, HIDDEN)
        assert_close(model.head(features(images())), model(images()))

    def test_any_front_door_will_do(self):
        stem = ConvolutionalStem(HIDDEN, num_layers=2, width=5)
        model = make_model((8, 12), patch_size=None, stem=stem)
        assert model.grid_size() == (2, 3)
        with_patches = make_model(patch_size=None, stem=PatchEmbedding(HIDDEN, 3))
        assert_close(with_patches(images()), make_model()(images()))
        assert np.isfinite(model(images(8, 12))).all()


def head(classes=CLASSES, name="head_0"):
    return keras.layers.Dense(classes, name=name)


# Arguments that name parts, and the same parts as layers.
PARTS = {
    "class": ({}, {"pool": TokenPooling(), "num_prefix_tokens": 1}),
    "distilled": (
        {"distillation": True},
        {"pool": TokenPooling(2), "num_prefix_tokens": 2, "heads": [head(), head(name="head_1")]},
    ),
    "mean": (
        {"pool": "mean", "positions": "sinusoidal"},
        {"pool": MeanPooling(), "positions": SinusoidalGridPositions(GRID)},
    ),
    "sequence": (
        {"pool": "sequence", "positions": "none"},
        {"pool": SequencePooling(), "positions": None, "heads": [head()]},
    ),
}


class PartsTest:
    @pytest.mark.parametrize(("named", "given"), PARTS.values(), ids=PARTS)
    def test_a_part_may_be_a_name_or_the_layer_that_it_names(self, named, given, tmp_path):
        named = shared_model(**named)
        model = make_model(num_classes=None if "heads" in given else CLASSES, **given)
        model.set_weights(named.get_weights())
        both = {"return_both_heads": named.distillation}
        np.testing.assert_array_equal(model(images(), **both), named(images(), **both))
        np.testing.assert_array_equal(model.features(images()), named.features(images()))
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again(images()), model(images()))
        assert json.dumps(again.get_config()) == json.dumps(model.get_config())

    def test_positions_of_a_sequence_and_a_pool_that_knows_its_length_will_do(self):
        length = 1 + math.prod(make_model().grid_size())
        positions = LearnedPositionEmbedding(length)
        pool = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])
        model = make_model(positions=positions, pool=pool, num_prefix_tokens=1)
        assert model(images()).shape == model.compute_output_shape(images().shape)
        assert pool.layers[1].kernel.shape[0] == length * HIDDEN
        assert positions.embeddings.shape == (length, HIDDEN)

    def test_every_head_reads_the_one_vector_of_a_pool(self):
        heads = [head(5), head(7, "head_1")]
        model = make_model(num_classes=None, pool="mean", heads=heads)
        features = model.features(images())
        outputs = model(images(), return_both_heads=True)
        for output, one in zip(outputs, heads, strict=True):
            np.testing.assert_array_equal(output, one(features))
        assert model.compute_output_shape((BATCH, HEIGHT, WIDTH, 3)) == (BATCH, 5)

    def test_registers_are_seen_by_patches_and_read_by_no_head(self):
        model = make_model(num_prefix_tokens=4)
        before = np.array(model(images()))
        sequence = model.encode(images())
        assert sequence.shape[1] == 4 + 6
        np.testing.assert_array_equal(before, model.head(sequence[:, 0]))
        (tokens,) = model.prefix_tokens.get_weights()
        tokens[3, 0] += 1
        model.prefix_tokens.set_weights([tokens])
        assert np.all(np.array(model(images())) != before)

    def test_the_mean_leaves_the_prefix_tokens_out(self):
        model = make_model(num_classes=None, pool="mean", num_prefix_tokens=1)
        assert_close(model(images()), ops.mean(model.encode(images())[:, 1:], axis=1))

    def test_the_encoder_may_see_a_part_of_what_is_embedded(self):
        """As a masked autoencoder shows it visible patches alone."""
        model = make_model()
        x = model.embed(images())
        assert_close(model.encoder(x), model.encode(images()))
        visible = ops.take(x, [0, 2, 5], axis=1)  # the class token and two patches
        changed = images()
        changed[:, :3, :3] += 1  # the first patch, which is hidden
        assert_close(
            model.encoder(visible), model.encoder(ops.take(model.embed(changed), [0, 2, 5], 1))
        )

    def test_an_argument_of_the_encoder_reaches_it(self):
        arguments = {"normalization": "rms", "use_gate": True, "num_key_value_heads": 1}
        model = make_model(**arguments)
        assert arguments.items() <= model.encoder.get_config().items()
        assert arguments.items() <= model.get_config().items()
        again = VisionTransformer.from_config(json.loads(json.dumps(model.get_config())))
        assert [w.shape for w in again.encoder.weights] == []
        again.build()
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again(images()), model(images()))

    def test_a_mixer_reaches_the_encoder_and_sees_the_grid(self, tmp_path):
        mixer = MultiHeadAttention(HIDDEN, HEADS, use_rotary=True)
        named = shared_model(positions="rotary")
        model = VisionTransformer(
            (HEIGHT, WIDTH), LAYERS, HIDDEN, None, INNER, CLASSES, 3, positions=None, mixer=mixer
        )
        model.build()
        model.set_weights(named.get_weights())
        np.testing.assert_array_equal(model(images()), named(images()))
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again(images()), model(images()))

    def test_rotary_attention_sees_the_grid_however_it_is_asked_for(self):
        named, model = shared_model(positions="rotary"), make_model(positions=None, use_rotary=True)
        np.testing.assert_array_equal(model(images()), named(images()))


class PerturbationTest:
    @every_option
    def test_every_pixel_moves_its_own_image_alone(self, options):
        model = shared_model(**options)
        before = model(images())
        for row, column in ((0, 0), (HEIGHT - 1, WIDTH - 1), (2, 5)):
            changed = images()
            changed[0, row, column] += 1
            moved = np.any(np.array(before) != np.array(model(changed)), axis=-1)
            assert moved.tolist() == [True, False]

    @every_option
    def test_the_order_of_patches_means_something_with_positions_alone(self, options):
        model = shared_model(**options)
        difference = np.abs(model(in_other_order(images())) - model(images())).max()
        assert (difference < 1e-4) == (model.positions == "none")


class OtherSizeTest:
    @pytest.mark.parametrize("options", [OPTIONS["distilled"], OPTIONS["attention pool, rotary"]])
    @pytest.mark.parametrize("size", [(12, 9), (3, 6)])
    def test_positions_are_the_same_resized_at_run_time_and_at_load_time(
        self, options, size, tmp_path
    ):
        model, other = make_model(**options), make_model(size, **options)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert_close(model(images(*size)), other(images(*size)))
        if model.positions == "learned":
            table = resize_grid(model.grid_positions.table, GRID, other.grid_size())
            np.testing.assert_array_equal(other.grid_positions.table, table)

    def test_sinusoids_are_resized_at_run_time_and_made_anew_for_a_new_size(self):
        model = make_model(pool="mean", positions="sinusoidal")
        x = model.patch_embedding(images(12, 9))
        x = x + resize_grid(model.grid_positions.position_table(HIDDEN), GRID, (4, 3))
        assert_close(model.encode(images(12, 9)), model.encoder(x))

    def test_an_image_that_patches_do_not_cover_is_refused(self):
        with pytest.raises(ValueError, match=r"cover the image .* image_size=\(7, 9\)"):
            make_model()(images(7, 9))

    def test_new_classes_and_another_size_take_over_all_else(self, tmp_path):
        model, other = make_model(), make_model((12, 9), num_classes=5)
        head = other.head.get_weights()
        model.save_weights(tmp_path / "model.weights.h5")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras says that it leaves the head out
            other.load_weights(tmp_path / "model.weights.h5", skip_mismatch=True)
        assert_close(other.encode(images(12, 9)), model.encode(images(12, 9)))
        assert_close(other.head.get_weights()[0], head[0])


class DistillationTest:
    def test_both_heads_are_returned_for_training_and_their_mean_otherwise(self):
        model = make_model(distillation=True)
        first, second = model(images(), return_both_heads=True)
        assert np.abs(first - second).max() > 0.1
        assert_close(model(images()), (first + second) / 2)
        (again, _), scores = model(
            images(), return_both_heads=True, return_attention_scores=True, training=False
        )
        assert_close(again, first)
        assert len(scores) == LAYERS

    def test_each_head_reads_its_own_token(self):
        model = make_model(distillation=True)
        before = [np.array(x) for x in model(images(), return_both_heads=True)]
        kernel, bias = model.distillation_head.get_weights()
        model.distillation_head.set_weights([2 * kernel, 2 * bias])
        after = model(images(), return_both_heads=True)
        np.testing.assert_array_equal(after[0], before[0])
        assert_close(after[1], 2 * before[1])


class FileTest:
    @every_option
    def test_a_stored_model_gives_the_same_logits(self, options, tmp_path):
        model = shared_model(**options)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again(images()), model(images()))
        assert json.dumps(again.get_config()) == json.dumps(model.get_config())

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_logits_are_computed_in_32_bits(self, policy):
        model = make_model(dtype=policy)
        features = make_model(num_classes=None, dtype=policy)
        features.set_weights(model.get_weights()[:-2])
        kernel, bias = model.head.get_weights()
        assert keras.backend.standardize_dtype(model(images()).dtype) == "float32"
        exact = np.array(features(images())) @ kernel + bias
        np.testing.assert_allclose(model(images()), exact, rtol=1e-5, atol=1e-6)


class DropTest:
    @pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "stochastic_depth"])
    def test_each_rate_is_for_training_only(self, rate):
        model, plain = make_model(**{rate: 0.5}), shared_model()
        np.testing.assert_array_equal(model(images()), plain(images()))
        assert np.abs(model(images(), training=True) - plain(images())).max() > 1e-3


class ArgumentsTest:
    def test_each_reaches_its_part(self):
        arguments = {"attention_dropout": 0.2, "stochastic_depth": 0.3, "layer_scale": 0.4}
        arguments |= {"dropout": 0.1, "activation": "gelu_tanh", "epsilon": 1e-3}
        model = make_model(pool="attention", **arguments)
        sizes = {"num_layers": LAYERS, "num_heads": HEADS, "intermediate_dim": INNER}
        assert (arguments | sizes).items() <= model.encoder.get_config().items()
        assert model.dropout_layer.rate == 0.1
        assert model.pooling.activation == "gelu_tanh"
        assert model.pooling.epsilon == 1e-3

    def test_a_variant_may_be_changed_in_part(self):
        model = VisionTransformer.from_variant("CCT-2/3x2", 12, 5, hidden_dim=20, num_heads=5)
        assert model.stem.hidden_dim == model.encoder.hidden_dim == 20
        for variant in ("CCT-2/3x2", "B/16"):
            model = VisionTransformer.from_variant(variant, 12, 5, patch_size=6, num_layers=1)
            assert (model.stem, model.grid_size()) == (None, (2, 2))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pool": "max"}, r"pool to be one of .*received pool='max'"),
            ({"positions": "absolute"}, r"positions to be one of .*'absolute'"),
            ({"patch_size": None}, "either a patch_size or a stem, received patch_size=None"),
            ({"pool": "mean", "distillation": True}, "pool='class' with distillation=True"),
            ({"heads": [head()]}, "num_classes=None with heads.*received num_classes=7, 1 heads"),
            (
                {"heads": [head()], "num_classes": None, "distillation": True},
                "two heads with distillation=True.*1 heads and distillation=True",
            ),
            ({"distillation": True, "num_prefix_tokens": 1}, "each of 2 heads .*prefix_tokens=1"),
            ({"use_gates": True}, "use_gates"),
            ({"num_classes": None, "heads": head()}, "heads to be a list of layers, received"),
            ({"positions": "rotary", "use_rotary": False}, "'rotary' with use_rotary=False"),
        ],
    )
    def test_what_contradicts_itself_is_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            make_model(**options)

    def test_an_unknown_variant_is_named(self):
        with pytest.raises(ValueError, match=r"'B/16'.*received variant='B16'"):
            VisionTransformer.from_variant("B16", 224, 10)

    def test_heads_that_are_not_one_for_each_vector_are_refused(self):
        with pytest.raises(ValueError, match=r"received 1 heads .* shape=\(2, 3, 12\)"):
            make_model(pool=TokenPooling(3), num_prefix_tokens=3)(images())

    def test_images_with_channels_first_are_refused(self):
        for model in (make_model(), make_model(patch_size=None, stem=ConvolutionalStem(HIDDEN))):
            with pytest.raises(ValueError, match=r"channels come last.*shape=\(2, 3, 6, 9\)"):
                model(np.moveaxis(images(), -1, 1))

    def test_two_heads_of_one_are_refused(self):
        with pytest.raises(ValueError, match="return_both_heads=False without distillation"):
            make_model()(images(), return_both_heads=True)


def squares(count, seed):
    """Draws a square of one of three colours somewhere on a noisy image."""
    random = np.random.default_rng(seed)
    pictures = random.normal(0, 0.3, (count, 8, 8, 3)).astype("float32")
    colours = random.integers(0, 3, count)
    for picture, colour, (row, column) in zip(
        pictures, colours, random.integers(0, 6, (count, 2)), strict=True
    ):
        picture[row : row + 2, column : column + 2, colour] += 2
    return pictures, colours


@pytest.mark.integration
class LearningTest:
    def test_it_learns_to_name_the_colour_of_a_square(self, tmp_path):
        """With plain `compile` and `fit`, as a user of Keras trains any model."""
        model = VisionTransformer(8, 1, 16, 2, 32, num_classes=3, patch_size=2, pool="mean")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        with recording():
            history = model.fit(*squares(1024, seed=0), batch_size=64, epochs=4, verbose=0).history
        assert history["loss"][-1] < 0.5 * history["loss"][0]
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        pictures, colours = squares(251, seed=1)
        assert np.mean(np.argmax(np.array(model(pictures)), axis=-1) == colours) >= 0.95
