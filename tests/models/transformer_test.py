"""The whole model: size, causality, padding, cached steps, files, and learning."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import beam_search, greedy_search
from kerasformer.losses import smoothed_cross_entropy
from kerasformer.models.transformer import Seq2SeqTransformer
from tests.backend import needs_tensorflow, tf

VOCABULARY, TARGET_VOCABULARY, LAYERS, HIDDEN, HEADS, INNER = 17, 19, 2, 12, 3, 13
START, END = 1, 2
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
        # One layer and one word are built; the arithmetic adds the others.
        model = Seq2SeqTransformer.from_variant(variant, 1, num_layers=1)
        model.build()
        assert model.count_params() == d + block_parameters(d, f)
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
        assert make_model(**options).count_params() == expected

    def test_only_pre_norm_ends_with_a_normalization(self):
        more = make_model(norm_first=True).count_params() - make_model().count_params()
        assert more == 2 * 2 * HIDDEN


@every_option
class PerturbationTest:
    def test_a_future_token_cannot_change_the_past(self, options):
        model, changed = make_model(**options), TARGET.copy()
        changed[:, 2] = 7
        differ = np.any(logits_of(model) != logits_of(model, target=changed), axis=-1)
        np.testing.assert_array_equal(differ[:, :2], False)
        assert differ[:, 2].all()

    def test_the_last_real_source_token_moves_the_first_logits(self, options):
        model, changed = make_model(**options), SOURCE.copy()
        changed[1, 2] = 3
        differ = np.any(logits_of(model) != logits_of(model, source=changed), axis=-1)
        assert differ.tolist() == [[False] * 5, [True] * 5]

    def test_padding_of_either_side_changes_nothing(self, options):
        model = make_model(**options)
        logits = logits_of(model)
        more_source = np.pad(SOURCE, [(0, 0), (0, 3)])
        more_target = np.pad(TARGET, [(0, 0), (0, 2)])
        padded = logits_of(model, more_source, more_target)
        np.testing.assert_allclose(padded[:, :5], logits, rtol=1e-4, atol=1e-5)
        alone = logits_of(model, SOURCE[1:, :3], TARGET[1:, :3])
        np.testing.assert_allclose(alone, logits[1:, :3], rtol=1e-4, atol=1e-5)

    def test_a_source_of_padding_alone_gives_finite_logits(self, options):
        assert np.isfinite(logits_of(make_model(**options), source=np.zeros((2, 3), int))).all()


class DecodingTest:
    @every_option
    @pytest.mark.parametrize("beams", [1, 3])
    def test_cached_steps_equal_the_full_pass(self, options, beams):
        model = make_model(**options)
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
    @pytest.mark.parametrize("batch", [None, 2])
    @needs_tensorflow
    def test_a_cache_that_grows_gives_the_same_translations(self, batch):
        model, start = make_model(), np.full(2, START, "int32")

        def search(source, max_length):
            begin = (*model.start_decoding(source, max_length), start, max_length)
            return *beam_search(*begin, beam_size=3, num_hypotheses=2), *greedy_search(*begin)

        signature = [tf.TensorSpec((batch, None), tf.int32), tf.TensorSpec((), tf.int32)]
        graph = tf.function(search, input_signature=signature)
        known = tf.function(lambda source: search(source, tf.constant(7)))
        source, length = tf.constant(SOURCE, tf.int32), tf.constant(7)
        expected = search(SOURCE, 7)
        for found in (search(SOURCE, length), graph(source, length), known(source)):
            for field, expected_field in zip(found, expected, strict=True):
                np.testing.assert_allclose(field, expected_field, rtol=1e-4)

    def test_scores_are_those_of_the_last_call(self):
        model = make_model()
        logits, scores = model.decode(TARGET, *model.encode(SOURCE), return_attention_scores=True)
        np.testing.assert_allclose(logits, logits_of(model), rtol=1e-4, atol=1e-5)
        assert len(scores) == LAYERS
        for block_scores in scores:
            np.testing.assert_allclose(np.sum(block_scores, axis=-1), 1, rtol=1e-5)
            assert np.all(block_scores[1, :, :, 3:] == 0)


class FileTest:
    @every_option
    def test_a_stored_model_gives_the_same_logits(self, options, tmp_path):
        model = make_model(**options)
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
    @pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "activation_dropout"])
    def test_each_rate_is_for_training_only(self, rate):
        model = make_model(**{"dropout": 0.0, rate: 0.5})
        inputs = {"source": SOURCE, "target": TARGET}
        without = make_model(dropout=0.0)
        without.set_weights(model.get_weights())
        np.testing.assert_array_equal(model(inputs), without(inputs))
        assert np.abs(model(inputs, training=True) - without(inputs)).max() > 1e-3


class ArgumentsTest:
    def test_each_reaches_its_part(self):
        arguments = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}
        arguments |= {"activation": "gelu_tanh", "norm_first": True}
        model = make_model(position_layout="concatenated", position_start=1, **arguments)
        sizes = {"num_layers": LAYERS, "num_heads": HEADS, "intermediate_dim": INNER}
        for stack in (model.encoder, model.decoder):
            assert (arguments | sizes).items() <= stack.get_config().items()
        assert (model.positions.layout, model.positions.start) == ("concatenated", 1)
        assert model.dropout_layer.rate == 0.1


class ErrorTest:
    def test_what_contradicts_itself_is_named(self):
        with pytest.raises(ValueError, match="vocabulary_size=17 and target_vocabulary_size=19"):
            make_model(target_vocabulary_size=TARGET_VOCABULARY)
        with pytest.raises(ValueError, match=r"one of \['base', 'big', 'tiny'\], .*='huge'"):
            Seq2SeqTransformer.from_variant("huge", VOCABULARY)


def digits_and_their_reverse(count, seed):
    """Makes padded pairs of 2 to 5 digits (ids 4 to 13) and the same digits backwards."""
    random = np.random.default_rng(seed)
    source, target = np.zeros((count, 6), int), np.zeros((count, 7), int)
    target[:, 0] = START
    for row, length in enumerate(random.integers(2, 6, count)):
        digits = random.integers(4, 14, length)
        source[row, : length + 1] = [*digits, END]
        target[row, 1 : length + 2] = [*digits[::-1], END]
    return source, target


class LearningTest:
    def test_it_learns_to_reverse_digits(self):
        """With plain `compile` and `fit`, as a user of Keras trains any model."""
        source, target = digits_and_their_reverse(4096, seed=0)
        labels = target[:, 1:]
        model = Seq2SeqTransformer(14, 1, 32, 4, 64, norm_first=True, dropout=0.0)

        def loss(labels, logits):
            return smoothed_cross_entropy(labels, logits, label_smoothing=0.1)

        model.compile(keras.optimizers.Adam(0.01), loss)
        inputs = {"source": source, "target": target[:, :-1]}
        is_real = (labels != 0).astype("float32")
        model.fit(inputs, labels, sample_weight=is_real, batch_size=64, epochs=5, verbose=0)

        source, target = digits_and_their_reverse(251, seed=1)
        begin = model.start_decoding(source, max_length=6)
        found = greedy_search(*begin, ops.full((251,), START, dtype="int32"), max_length=6)
        assert np.mean(np.all(found.token_ids[:, 0] == target[:, 1:], axis=-1)) >= 0.95
