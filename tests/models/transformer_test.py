"""The whole model: size, causality, padding, cached steps, files, and learning."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import beam_search, greedy_search, sample
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models.transformer import Seq2SeqTransformer
from kerasformer.schedules import WarmUpCosine
from tests.backend import needs_tensorflow, recording, tf

VOCABULARY, TARGET_VOCABULARY, LAYERS, HIDDEN, HEADS, INNER = 17, 19, 2, 12, 3, 13
START = 1
SOURCE = np.array([[5, 7, 11, 4, 3, 2], [8, 5, 2, 0, 0, 0]])
TARGET = np.array([[1, 6, 9, 9, 4], [1, 12, 5, 0, 0]])
OPTIONS = {
    "as published": {},
    "pre-norm": {"norm_first": True, "activation": "gelu_tanh"},
    "as in OpenNMT": {"position_layout": "tensor2tensor", "position_start": 1},
    "two vocabularies": {
        "share_embeddings": False,
        "target_vocabulary_size": TARGET_VOCABULARY,
        "position_layout": "concatenated",
    },
    "nothing tied": {"share_embeddings": False, "tie_output": False},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def make_model(**options):
    model = Seq2SeqTransformer(VOCABULARY, LAYERS, HIDDEN, HEADS, INNER, **options)
    model.build()
    return model


# For tests that change nothing of it.
shared_model = functools.cache(make_model)


def logits_of(model, source=SOURCE, target=TARGET):
    return ops.convert_to_numpy(model({"source": source, "target": target}))


def block_parameters(d, f):
    """Counts one encoder and one decoder block of the post-norm paper, biases included."""
    attention = 4 * (d * d + d)
    feed_forward = d * f + f + f * d + d
    norm = 2 * d
    return (attention + feed_forward + 2 * norm) + (2 * attention + feed_forward + 3 * norm)


class ParameterCountTest:
    @pytest.mark.parametrize(
        ("variant", "vocabulary_size", "layers", "d", "f", "published", "tolerance"),
        [
            # Table 3 of Vaswani et al.; their vocabulary has "about 37000" entries.
            ("base", 37_000, 6, 512, 2048, 65e6, 0.03),
            ("big", 37_000, 6, 1024, 4096, 213e6, 0.01),
            # Wu et al., a joint vocabulary of 10,000 merges on Multi30k.
            ("tiny", 9_700, 4, 128, 256, 2.57e6, 0.005),
        ],
    )
    def test_variants_have_the_published_size(
        self, variant, vocabulary_size, layers, d, f, published, tolerance
    ):
        # One layer and three words are built; the arithmetic adds the others.
        model = Seq2SeqTransformer.from_variant(variant, 3, num_layers=1)
        model.build()
        assert model.count_params() == 3 * d + block_parameters(d, f)
        whole = Seq2SeqTransformer.from_variant(variant, vocabulary_size)
        assert (whole.num_layers, whole.vocabulary_size) == (layers, vocabulary_size)
        count = vocabulary_size * d + layers * block_parameters(d, f)
        assert count == pytest.approx(published, rel=tolerance)

    @pytest.mark.parametrize(
        ("options", "rows"),
        [
            ({}, VOCABULARY),
            ({"tie_output": False}, 2 * VOCABULARY),
            ({"share_embeddings": False}, 2 * VOCABULARY),
            (OPTIONS["two vocabularies"], VOCABULARY + TARGET_VOCABULARY),
            (OPTIONS["nothing tied"], 3 * VOCABULARY),
        ],
    )
    def test_what_is_shared_counts_once(self, options, rows):
        expected = rows * HIDDEN + LAYERS * block_parameters(HIDDEN, INNER)
        assert shared_model(**options).count_params() == expected

    def test_only_pre_norm_ends_with_a_normalization(self):
        pre_norm = shared_model(**OPTIONS["pre-norm"])
        more = pre_norm.count_params() - shared_model().count_params()
        assert more == 2 * 2 * HIDDEN


@every_option
class PerturbationTest:
    def test_a_future_token_cannot_change_the_past(self, options):
        model, changed = shared_model(**options), TARGET.copy()
        changed[:, 2] = 7
        differ = np.any(logits_of(model) != logits_of(model, target=changed), axis=-1)
        np.testing.assert_array_equal(differ[:, :2], False)
        assert differ[:, 2].all()

    def test_the_last_real_source_token_moves_the_first_logits(self, options):
        model, changed = shared_model(**options), SOURCE.copy()
        changed[1, 2] = 3
        differ = np.any(logits_of(model) != logits_of(model, source=changed), axis=-1)
        assert differ.tolist() == [[False] * 5, [True] * 5]

    def test_padding_of_either_side_changes_nothing(self, options):
        model = shared_model(**options)
        logits = logits_of(model)
        more_source = np.pad(SOURCE, [(0, 0), (0, 3)])
        more_target = np.pad(TARGET, [(0, 0), (0, 2)])
        padded = logits_of(model, more_source, more_target)
        np.testing.assert_allclose(padded[:, :5], logits, rtol=1e-4, atol=1e-5)
        alone = logits_of(model, SOURCE[1:, :3], TARGET[1:, :3])
        np.testing.assert_allclose(alone, logits[1:, :3], rtol=1e-4, atol=1e-5)

    def test_a_source_of_padding_alone_gives_finite_logits(self, options):
        assert np.isfinite(logits_of(shared_model(**options), source=np.zeros((2, 3), int))).all()


class DecodingTest:
    @every_option
    def test_cached_steps_equal_the_full_pass(self, options):
        model, beams = shared_model(**options), 3
        random = np.random.default_rng(0)
        target = random.integers(3, VOCABULARY, (2 * beams, 5))
        expected = logits_of(model, np.repeat(SOURCE, beams, axis=0), target)
        step, state, context = model.start_decoding(SOURCE, max_length=7)
        state = keras.tree.map_structure(lambda x: ops.repeat(x, beams, axis=0), state)
        for position in range(5):
            logits, state = step(ops.array(target[:, position], "int32"), state, context)
            np.testing.assert_allclose(logits, expected[:, position], rtol=1e-4, atol=1e-5)

    # Outside a graph Keras warns of a softmax over one key, in the first step.
    @pytest.mark.filterwarnings("ignore:You are using a softmax")
    @needs_tensorflow
    def test_a_cache_that_grows_gives_the_same_translations(self):
        model = Seq2SeqTransformer(VOCABULARY, 1, HIDDEN, HEADS, INNER)
        model.build()
        start = np.full(2, START, "int32")

        def search(source, max_length):
            begin = (*model.start_decoding(source, max_length), start, max_length)
            return *beam_search(*begin, beam_size=3, num_hypotheses=2), *greedy_search(*begin)

        signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.int32)]
        graph = tf.function(search, signature, autograph=False)
        of_known_shape = tf.function(lambda x: search(x, tf.constant(7)), autograph=False)
        source, length = tf.constant(SOURCE, tf.int32), tf.constant(7)
        expected = search(SOURCE, 7)
        for found in (search(SOURCE, length), graph(source, length), of_known_shape(source)):
            for field, expected_field in zip(found, expected, strict=True):
                np.testing.assert_allclose(field, expected_field, rtol=1e-4)

    def test_scores_are_those_of_the_last_call(self):
        model = shared_model()
        logits, scores = model.decode(TARGET, *model.encode(SOURCE), return_attention_scores=True)
        np.testing.assert_allclose(logits, logits_of(model), rtol=1e-4, atol=1e-5)
        assert len(scores) == LAYERS
        for block_scores in map(ops.convert_to_numpy, scores):
            np.testing.assert_allclose(block_scores.sum(axis=-1), 1, rtol=1e-5)
            assert np.all(block_scores[1, :, :, 3:] == 0)


class FileTest:
    @every_option
    def test_a_stored_model_gives_the_same_logits(self, options, tmp_path):
        model = shared_model(**options)
        expected = logits_of(model)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(logits_of(again), expected)
        assert again.get_config() == model.get_config()
        assert again.count_params() == model.count_params()

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_a_dtype_policy_survives_too_and_logits_stay_in_32_bits(self, policy, tmp_path):
        model = make_model(dtype=policy, activation=keras.activations.silu)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert logits_of(again).dtype == "float32"
        np.testing.assert_array_equal(logits_of(again), logits_of(model))
        assert again.decoder.blocks[1].compute_dtype == policy.removeprefix("mixed_")


class DropoutTest:
    def test_a_seed_decides_what_is_dropped(self):
        inputs = {"source": SOURCE, "target": TARGET}
        models = [make_model(seed=seed) for seed in (3, 3, 5)]
        for model in models:
            model.set_weights(models[0].get_weights())
        first, same, other = (np.array(model(inputs, training=True)) for model in models)
        np.testing.assert_array_equal(first, same)
        assert np.any(first != other)

    @pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "activation_dropout"])
    def test_each_rate_is_for_training_only(self, rate):
        model = make_model(**{"dropout": 0.0, rate: 0.5})
        inputs = {"source": SOURCE, "target": TARGET}
        without = shared_model(dropout=0.0)
        model.set_weights(without.get_weights())
        np.testing.assert_array_equal(model(inputs), without(inputs))
        assert np.abs(model(inputs, training=True) - without(inputs)).max() > 1e-3


class ArgumentsTest:
    def test_each_reaches_its_part(self):
        arguments = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}
        arguments |= {"activation": "gelu_tanh", "norm_first": True}
        arguments |= {"epsilon": 1e-3, "use_bias": False, "kernel_initializer": "he_normal"}
        model = make_model(position_layout="concatenated", position_start=1, **arguments)
        sizes = {"num_layers": LAYERS, "num_heads": HEADS, "intermediate_dim": INNER}
        for stack in (model.encoder, model.decoder):
            assert (arguments | sizes).items() <= stack.get_config().items()
        assert (model.positions.layout, model.positions.start) == ("concatenated", 1)
        assert model.dropout_layer.rate == 0.1
        again = Seq2SeqTransformer.from_config(model.get_config())
        assert arguments.items() <= again.encoder.get_config().items()


class ErrorTest:
    def test_what_contradicts_itself_is_named(self):
        with pytest.raises(ValueError, match="vocabulary_size=17 and target_vocabulary_size=19"):
            make_model(target_vocabulary_size=TARGET_VOCABULARY)
        with pytest.raises(ValueError, match="end_id of 0 to 16, in the .*received end_id=17"):
            make_model(end_id=VOCABULARY)
        with pytest.raises(ValueError, match="Expected no mixer.*received mixer='LSTM'"):
            make_model(mixer="LSTM")
        with pytest.raises(ValueError, match="one of .*'tiny'.*='huge'"):
            Seq2SeqTransformer.from_variant("huge", VOCABULARY)


# Which token of a model with the default ids an id is: pad 0, start 1, end 2.
VOCABULARIES = {
    "permuted": ([7, 2, 1, 3, 0, *range(4, 7), *range(8, 17)], (2, 1, 4)),
    "start is padding, end is 0": ([*range(2, 17), 1], (15, 0, 15)),
}


@functools.cache
def renamed_models(name):
    """Makes a model with the default ids, the same with others, and a map to these."""
    order, ids = VOCABULARIES[name]
    model = Seq2SeqTransformer(VOCABULARY, 1, HIDDEN, HEADS, INNER)
    model.build()
    model.set_weights([2.0 * weight for weight in model.get_weights()])
    special_ids = dict(zip(("start_id", "end_id", "pad_id"), ids, strict=True))
    renamed = Seq2SeqTransformer(len(order), 1, HIDDEN, HEADS, INNER, **special_ids)
    renamed.build()
    renamed.set_weights([w[order] if len(w) == VOCABULARY else w for w in model.get_weights()])
    new_ids = np.full(VOCABULARY, special_ids["pad_id"])
    new_ids[order] = np.arange(len(order))
    return model, renamed, new_ids


@pytest.mark.parametrize("name", VOCABULARIES)
class SpecialIdsTest:
    def test_the_logits_are_the_same(self, name):
        order, (model, renamed, new_ids) = VOCABULARIES[name][0], renamed_models(name)
        inputs = {"source": SOURCE, "target": TARGET}
        expected = logits_of(model)[..., order]
        logits = renamed({name: new_ids[token_ids] for name, token_ids in inputs.items()})
        is_real = TARGET != 0
        np.testing.assert_allclose(logits[is_real], expected[is_real], rtol=1e-4, atol=1e-5)

    def test_the_searches_find_the_same(self, name):
        order, (model, renamed, new_ids) = VOCABULARIES[name][0], renamed_models(name)
        begin = (*model.start_decoding(SOURCE, 7), np.full(2, START), 7)
        start_ids = np.full(2, renamed.start_id)
        new_begin = (*renamed.start_decoding(new_ids[SOURCE], 7), start_ids, 7)
        searches = [greedy_search]
        if len(order) == VOCABULARY:  # Leaving out a token makes the others more probable.
            searches.append(functools.partial(beam_search, beam_size=3, num_hypotheses=3))
            # In the order of probability, not of ids.
            searches.append(functools.partial(sample, seed=1, num_samples=5, top_k=VOCABULARY))
        for search in searches:
            expected, found = search(*begin), search(*new_begin, **renamed.special_ids)
            np.testing.assert_array_equal(found.token_ids, new_ids[expected.token_ids])
            np.testing.assert_array_equal(found.lengths, expected.lengths)
            if len(order) == VOCABULARY:
                np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)

    def test_a_target_scores_as_the_search_says(self, name):
        _, model, new_ids = renamed_models(name)
        source = new_ids[SOURCE]
        begin = (*model.start_decoding(source, 7), np.full(2, model.start_id), 7)
        rules = {**model.special_ids, "length_limit": np.array([4, 7])}
        for found in (
            beam_search(*begin, num_hypotheses=3, length_penalty=None, **rules),
            sample(*begin, seed=1, num_samples=11, temperature=9.0, **rules),
        ):
            labels = ops.convert_to_numpy(found.token_ids)
            rows = labels.shape[1]
            is_token = np.arange(7) < ops.convert_to_numpy(found.lengths)[:, :, None]
            target = np.insert(labels, 0, model.start_id, axis=2)[:, :, :-1]
            # The end of a sentence is not read; in its place is padding.
            target = np.where(is_token, target, model.pad_id)
            inputs = {"source": np.repeat(source, rows, axis=0), "target": target.reshape(-1, 7)}
            logits = ops.reshape(model(inputs), (2, rows, 7, -1))
            losses = np.where(is_token, smoothed_cross_entropy(labels, logits), 0.0)
            np.testing.assert_allclose(-losses.sum(axis=2), found.scores, rtol=1e-4)
        assert len(np.unique(found.lengths)) > 2

    def test_padding_changes_nothing(self, name):
        _, model, new_ids = renamed_models(name)
        source, target = new_ids[SOURCE], new_ids[TARGET]
        padding = {"constant_values": model.pad_id}
        expected = logits_of(model, source, target)
        more_source = np.pad(source, [(0, 0), (0, 3)], **padding)
        padded = logits_of(model, more_source, np.pad(target, [(0, 0), (0, 2)], **padding))
        np.testing.assert_allclose(padded[:, :5], expected, rtol=1e-4, atol=1e-5)
        alone = logits_of(model, source[1:, :3], target[1:, :3])
        np.testing.assert_allclose(alone, expected[1:, :3], rtol=1e-4, atol=1e-5)


class MaskTest:
    def test_a_target_ends_with_its_last_token_and_begins_with_a_real_one(self):
        model = make_model(start_id=9, end_id=0, pad_id=9)
        target = np.array([[9, 5, 9, 0, 9], [9, 9, 9, 9, 9], [5, 0, 9, 9, 7]])
        mask = model.compute_mask({"target": target})
        expected = [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
        np.testing.assert_array_equal(mask, np.array(expected, bool))


PAD = 11  # and start; the end is 0


def digits_and_their_reverse(count, seed):
    """Makes padded pairs of 2 to 5 digits (ids 1 to 10) and the same digits backwards."""
    random = np.random.default_rng(seed)
    source, target = np.full((count, 6), PAD), np.full((count, 7), PAD)
    for row, length in enumerate(random.integers(2, 6, count)):
        digits = random.integers(1, 11, length)
        source[row, : length + 1] = [*digits, 0]
        target[row, 1 : length + 2] = [*digits[::-1], 0]
    return source, target


@pytest.mark.integration
class LearningTest:
    def test_it_learns_to_reverse_digits(self, tmp_path):
        """With plain `compile` and `fit`, as a user of Keras trains any model.

        The ids are those of Marian: targets begin with padding, and the end is 0. The mask of the
        logits keeps the loss from counting padding.
        """
        source, target = digits_and_their_reverse(4096, seed=0)
        sizes = {"norm_first": True, "dropout": 0.0}
        model = Seq2SeqTransformer(12, 1, 32, 4, 64, start_id=PAD, end_id=0, pad_id=PAD, **sizes)

        def loss(labels, logits):
            return smoothed_cross_entropy(labels, logits, label_smoothing=0.1)

        model.compile(keras.optimizers.Adam(WarmUpCosine(0.01, 320, 20)), loss)
        inputs = {"source": source, "target": target[:, :-1]}
        with recording():
            history = model.fit(inputs, target[:, 1:], batch_size=64, epochs=5, verbose=0).history
        assert history["loss"][-1] < 0.5 * history["loss"][0]
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras", compile=False)

        source, target = digits_and_their_reverse(251, seed=1)
        begin = (*model.start_decoding(source, 6), ops.full((251,), PAD, dtype="int32"), 6)
        found = greedy_search(*begin, **model.special_ids)
        assert np.mean(np.all(np.array(found.token_ids)[:, 0] == target[:, 1:], axis=-1)) >= 0.95


class EmbeddingsTest:
    @pytest.mark.parametrize("tie_output", [True, False])
    def test_the_bias_moves_the_logits_of_its_ids_alone(self, tie_output):
        model = Seq2SeqTransformer(11, 1, 4, 2, 3, tie_output=tie_output, use_logits_bias=True)
        ids = {name: np.array([[3, 5, 2]]) for name in ("source", "target")}
        before = keras.ops.convert_to_numpy(model(ids))
        bias = np.arange(11.0)
        model.output_embedding.logits_bias.assign(bias)
        after = keras.ops.convert_to_numpy(model(ids))
        np.testing.assert_allclose(after - before, np.broadcast_to(bias, before.shape), atol=1e-5)

    def test_one_initializer_draws_other_vectors_for_each_side(self):
        initializer = keras.initializers.RandomUniform(0.25, 0.5)
        options = {"share_embeddings": False, "embeddings_initializer": initializer}
        model = Seq2SeqTransformer(11, 1, 4, 2, 3, **options)
        model.build()
        source, target = (
            keras.ops.convert_to_numpy(layer.embeddings)
            for layer in (model.source_embedding, model.target_embedding)
        )
        assert source.min() >= 0.25 and target.max() <= 0.5 and (source != target).all()
