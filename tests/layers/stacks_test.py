"""Stacks of blocks: what flows through them, and what may not."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.tokens import TokenEmbedding
from kerasformer.layers.mixers.attention import MultiHeadAttention
from kerasformer.layers.positions.sequences import SinusoidalPositionEncoding
from kerasformer.layers.stacks import Decoder, Encoder
from tests.backend import recording

BATCH, LENGTH, CONTEXT, HIDDEN, CONTEXT_DIM, HEADS, INNER, LAYERS = 2, 5, 7, 12, 14, 3, 13, 2
VOCABULARY = 11
OPTIONS = {
    "pre-norm": {},
    "post-norm": {"norm_first": False},
    "rotary, gated, rms, grouped": {
        "normalization": "rms",
        "use_gate": True,
        "use_rotary": True,
        "num_key_value_heads": 1,
    },
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def sequence(length=LENGTH, width=HIDDEN):
    shape = (BATCH, length, width)
    return np.random.default_rng(length).standard_normal(shape).astype("float32")


def context():
    return sequence(CONTEXT, CONTEXT_DIM)


def make_stack(kind, **options):
    """Makes a built stack whose weights are random, scales and biases included."""
    stack = kind(LAYERS, HIDDEN, HEADS, INNER, epsilon=0.01, **options)
    widths = [HIDDEN] if kind is Encoder else [HIDDEN, CONTEXT_DIM]
    stack.build(*((None, None, width) for width in widths))
    random = np.random.default_rng(1)
    stack.set_weights([0.4 * random.standard_normal(weight.shape) for weight in stack.weights])
    return stack


def padding(length):
    return np.arange(length) < np.array([[length], [length - 2]])


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def moved(before, after):
    """Finds which positions of which sequence differ, in any bit."""
    return np.any(np.array(before) != np.array(after), axis=-1)


@every_option
class CompositionTest:
    def test_an_encoder_is_its_blocks_in_order(self, options):
        encoder = make_stack(Encoder, **options)
        masks = {"mask": padding(LENGTH), "use_causal_mask": True}
        x, expected_scores = sequence(), []
        for block in encoder.blocks:
            x, block_scores = block(x, return_attention_scores=True, **masks)
            expected_scores.append(block_scores)
        x = encoder.final_norm(x) if encoder.norm_first else x
        outputs, scores = encoder(sequence(), return_attention_scores=True, **masks)
        assert_close(outputs, x)
        assert_close(scores, expected_scores)
        assert_close(encoder(sequence(), **masks), outputs)

    def test_a_functional_encoder_finds_the_mask_beside_an_attention_mask(self, options):
        encoder = make_stack(Encoder, **options)
        inputs = keras.Input((LENGTH, HIDDEN)), keras.Input((LENGTH, LENGTH), dtype="bool")
        model = keras.Model(
            inputs, encoder(keras.layers.Masking()(inputs[0]), attention_mask=inputs[1])
        )
        mask, seen = padding(LENGTH), np.random.default_rng(2).random((BATCH, LENGTH, LENGTH)) < 0.7
        x = sequence() * mask[..., np.newaxis]
        assert_close(model([x, seen]), encoder(x, mask=mask, attention_mask=seen))

    def test_a_decoder_is_its_blocks_in_order(self, options):
        decoder = make_stack(Decoder, **options)
        masks = {"inputs_mask": padding(LENGTH), "context_mask": padding(CONTEXT)}
        x, expected_scores = sequence(), []
        for block in decoder.blocks:
            x, block_scores = block(x, context(), return_attention_scores=True, **masks)
            expected_scores.append(block_scores)
        x = decoder.final_norm(x) if decoder.norm_first else x
        outputs, scores = decoder(sequence(), context(), return_attention_scores=True, **masks)
        assert_close(outputs, x)
        assert_close(scores, expected_scores)

    @pytest.mark.parametrize("beams", [1, 3])
    def test_steps_equal_the_full_pass(self, options, beams):
        decoder = make_stack(Decoder, **options)
        rows = np.random.default_rng(2).standard_normal((BATCH * beams, LENGTH, HIDDEN))
        context_mask = padding(CONTEXT)
        repeated = [np.repeat(x, beams, axis=0) for x in (context(), context_mask)]
        expected = decoder(rows, repeated[0], context_mask=repeated[1])
        context_cache = decoder.project_context(context())
        cache = decoder.init_cache(BATCH * beams, LENGTH + 2)
        for position in range(LENGTH):
            positions = ops.full((BATCH * beams,), position, dtype="int32")
            token = ops.array(rows[:, position : position + 1], "float32")
            outputs, cache = decoder.step(token, cache, positions, context_cache, context_mask)
            assert_close(outputs[:, 0], expected[:, position])

    def test_every_block_gets_the_arguments(self, options):
        for kind in (Encoder, Decoder):
            stack = make_stack(kind, dropout=0.1, activation="gelu", **options)
            assert len(stack.blocks) == LAYERS
            for block in stack.blocks:
                assert block.block_arguments() == stack.block_arguments()
            assert options.items() <= stack.get_config().items()

    def test_stochastic_depth_grows_linearly_from_the_first_block_to_the_last(self, options):
        for kind in (Encoder, Decoder):
            for rates in ([0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 0.4], [0.0]):
                stack = kind(len(rates), HIDDEN, HEADS, INNER, stochastic_depth=0.4, **options)
                found = [block.stochastic_depth for block in stack.blocks]
                np.testing.assert_allclose(found, rates, atol=1e-9)
                assert stack.get_config()["stochastic_depth"] == 0.4

    def test_stochastic_depth_may_be_a_rate_for_each_block(self, options):
        for kind in (Encoder, Decoder):
            stack = kind(2, HIDDEN, HEADS, INNER, stochastic_depth=[0.3, 0.1], **options)
            assert [block.stochastic_depth for block in stack.blocks] == [0.3, 0.1]
            with pytest.raises(ValueError, match=r"of 3 blocks, received .*=\[0.3, 0.1\]"):
                kind(3, HIDDEN, HEADS, INNER, stochastic_depth=[0.3, 0.1], **options)

    def test_only_a_pre_norm_stack_ends_with_a_normalization_unless_told_otherwise(self, options):
        for kind in (Encoder, Decoder):
            for asked in (True, False):
                stack = make_stack(kind, use_final_norm=asked, **options)
                has_one = any("final_norm" in weight.path for weight in stack.weights)
                assert has_one == (asked and options.get("norm_first", True))

    @pytest.mark.parametrize("length", [2, LENGTH])
    def test_several_tokens_at_once_equal_one_by_one(self, options, length):
        decoder = make_stack(Decoder, **options)
        expected = decoder(sequence(), context())
        context_cache = decoder.project_context(context())
        cache, outputs = decoder.init_cache(BATCH, LENGTH + 2), []
        for start in range(0, LENGTH, length):
            positions = ops.full((BATCH,), start, dtype="int32")
            tokens = ops.array(sequence()[:, start : start + length])
            x, cache = decoder.step(tokens, cache, positions, context_cache)
            outputs.append(x)
        assert_close(ops.concatenate(outputs, axis=1), expected)


@keras.saving.register_keras_serializable(package="kerasformer_test")
class RunningSum(keras.layers.Layer):
    """A mixer that remembers a sum, so that its cache has no length."""

    def build(self, inputs_shape):
        self.width = inputs_shape[-1]

    def call(self, inputs, use_causal_mask=True):
        return ops.cumsum(inputs, axis=1)

    def init_cache(self, batch_size, max_length):
        return {"sum": ops.zeros((batch_size, 1, self.width))}

    def step(self, inputs, cache, positions):
        outputs = cache["sum"] + ops.cumsum(inputs, axis=1)
        return outputs, {"sum": outputs[:, -1:]}

    def grow_cache(self, cache):
        return cache


class MixerTest:
    def test_mixers_take_turns(self):
        mixers = [MultiHeadAttention(HIDDEN, HEADS, use_rotary=True), RunningSum()]
        encoder = Encoder(3, HIDDEN, None, INNER, mixer=mixers)
        x = sequence()
        outputs = encoder(x, use_causal_mask=True)
        kinds = [type(block.self_attention.sublayer) for block in encoder.blocks]
        assert kinds == [MultiHeadAttention, RunningSum, MultiHeadAttention]
        for block in encoder.blocks:
            x = block(x, use_causal_mask=True)
        assert_close(outputs, encoder.final_norm(x))
        description = keras.saving.serialize_keras_object(encoder)
        again = keras.saving.deserialize_keras_object(json.loads(json.dumps(description)))
        assert again.get_config() == encoder.get_config()
        again.set_weights(encoder.get_weights())
        np.testing.assert_array_equal(again(sequence(), use_causal_mask=True), outputs)

    def test_what_no_stack_can_be_made_of_is_named(self):
        with pytest.raises(ValueError, match=r"such as MultiHeadAttention\(.*received mixer=None"):
            Encoder(LAYERS, HIDDEN, HEADS, mixer=[None, RunningSum()])
        with pytest.raises(ValueError, match="received num_layers=-1"):
            Encoder(-1, HIDDEN, HEADS)

    @pytest.mark.parametrize("mixers", [[], [RunningSum() for _ in range(LAYERS + 1)]])
    def test_a_list_of_none_or_of_too_many_is_refused(self, mixers):
        message = rf"received len\(mixer\)={len(mixers)} and num_layers={LAYERS}"
        with pytest.raises(ValueError, match=message):
            Encoder(LAYERS, HIDDEN, mixer=mixers)

    @pytest.mark.parametrize(
        ("chunks", "grows"), [([1] * LENGTH, False), ([LENGTH], True), ([3, 1, 1], True)]
    )
    def test_each_mixer_keeps_a_cache_of_its_own_kind(self, chunks, grows):
        mixers = [RunningSum(), MultiHeadAttention(HIDDEN, HEADS, use_rotary=True)]
        encoder = Encoder(LAYERS, HIDDEN, None, INNER, mixer=mixers)
        expected = encoder(sequence(), use_causal_mask=True)
        cache, outputs, start = encoder.init_cache(BATCH, 0 if grows else LENGTH + 2), [], 0
        for length in chunks:
            for _ in range(length if grows else 0):
                cache = encoder.grow_cache(cache)
            tokens = ops.array(sequence()[:, start : start + length])
            x, cache = encoder.step(tokens, cache, ops.full((BATCH,), start, dtype="int32"))
            outputs.append(x)
            start += length
        assert_close(ops.concatenate(outputs, axis=1), expected)

    def test_prompts_of_different_lengths_go_on_where_they_ended(self):
        encoder = make_stack(Encoder, use_rotary=True)
        expected = encoder(sequence(), use_causal_mask=True)
        prompts, lengths = sequence()[:, :4], np.array([4, 2])
        prompts[1, 2:] = 100.0  # padding
        outputs, cache = encoder.step(
            ops.array(prompts), encoder.init_cache(BATCH, LENGTH), ops.zeros((BATCH,), "int32")
        )
        tokens = ops.array(sequence()[[0, 1], lengths][:, np.newaxis])
        after, _ = encoder.step(tokens, cache, ops.array(lengths))
        assert_close(outputs[0], expected[0, :4])
        assert_close(outputs[1, :2], expected[1, :2])
        assert_close(after[:, 0], np.array(expected)[[0, 1], lengths])

    def test_a_recurrent_encoder_trains_and_loads(self, tmp_path):
        token_ids = np.random.default_rng(1).integers(1, VOCABULARY, (256, LENGTH))
        token_ids[::2, LENGTH - 2 :] = 0
        inputs = keras.Input((LENGTH,), dtype="int32")
        x = TokenEmbedding(VOCABULARY, HIDDEN)(inputs)
        mixer = keras.layers.LSTM(HIDDEN, return_sequences=True, unroll=True)
        encoder = Encoder(1, HIDDEN, None, INNER, mixer=mixer)
        model = keras.Model(inputs, keras.layers.Dense(VOCABULARY)(encoder(x)))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        model.compile(keras.optimizers.Adam(0.01), loss)
        # The task is to remember the token before.
        labels = np.pad(token_ids, ((0, 0), (1, 0)))[:, :-1]
        with recording():
            losses = model.fit(token_ids, labels, epochs=5, verbose=0).history["loss"]
        assert losses[-1] < 0.7 * losses[0]
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again(token_ids), model(token_ids))

    def test_weights_of_one_initializer_start_apart(self):
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        encoder = Encoder(LAYERS, HIDDEN, HEADS, INNER, kernel_initializer=initializer)
        encoder.build((None, None, HIDDEN))
        kernels = [w.numpy() for w in encoder.weights if w.path.endswith("kernel")]
        assert len({kernel.std().round(4) for kernel in kernels}) > 1
        for kernel, other in zip(kernels, kernels[4:], strict=False):
            assert kernel.shape == other.shape and np.any(kernel != other)
            assert abs(kernel.std() - 0.02) < 0.005

    def test_equal_seeds_drop_equally_in_every_block(self):
        first, second = (make_stack(Encoder, dropout=0.5, seed=7) for _ in range(2))
        x = np.ones((BATCH, LENGTH, HIDDEN), "float32")
        np.testing.assert_array_equal(first(x, training=True), second(x, training=True))
        states = [v.numpy().tolist() for v in first.non_trainable_variables]
        assert len(np.unique(states, axis=0)) == len(states) == 2 * LAYERS

    def test_mixers_that_take_a_seed_get_one_each_and_keep_it(self):
        mixer = keras.layers.LSTM(HIDDEN, return_sequences=True, dropout=0.5)
        encoder = Encoder(LAYERS, HIDDEN, mixer=mixer, seed=5)
        again = Encoder.from_config(encoder.get_config())
        seeds = [
            [block.self_attention.sublayer.get_config()["seed"] for block in stack.blocks]
            for stack in (encoder, again)
        ]
        assert seeds[0] == seeds[1] and len({None, *seeds[0]}) == LAYERS + 1

    @pytest.mark.parametrize(("seed", "of_mixer"), [(5, None), (None, 3)])
    def test_seeds_reach_the_layers_inside_a_mixer_and_differ_in_each_block(self, seed, of_mixer):
        inner = keras.layers.LSTM(4, return_sequences=True, dropout=0.5, seed=of_mixer)
        pattern = keras.Sequential([inner, keras.layers.Dense(HIDDEN)])
        encoder = Encoder(LAYERS, HIDDEN, mixer=pattern, seed=seed)
        again = Encoder.from_config(json.loads(json.dumps(encoder.get_config())))
        seeds = [
            [block.self_attention.sublayer.layers[0].get_config()["seed"] for block in stack.blocks]
            for stack in (encoder, again)
        ]
        assert seeds[0] == seeds[1] and len({None, 3, *seeds[0]}) == LAYERS + 2


class UnbuiltTest:
    """Decoding may begin with a layer that was never called."""

    def test_a_step_builds_an_encoder(self):
        inputs, encoder = random_sequence(2, 3), Encoder(2, 6, 3, 7)
        outputs, _ = encoder.step(inputs, encoder.init_cache(2, 3), ops.zeros((2,), "int32"))
        np.testing.assert_allclose(outputs, encoder(inputs, use_causal_mask=True), atol=1e-6)

    def test_a_context_builds_a_decoder(self):
        inputs, context, decoder = random_sequence(2, 3), random_sequence(2, 5), Decoder(2, 6, 3, 7)
        contexts, cache = decoder.project_context(context), decoder.init_cache(2, 3)
        outputs, _ = decoder.step(inputs, cache, ops.zeros((2,), "int32"), contexts)
        np.testing.assert_allclose(outputs, decoder(inputs, context), atol=1e-6)


def random_sequence(rows, length):
    return keras.random.normal((rows, length, 6), seed=7)


class PerturbationTest:
    @every_option
    def test_a_future_token_cannot_change_the_past(self, options):
        decoder = make_stack(Decoder, **options)
        changed = sequence()
        changed[:, 3] += 1
        after = decoder(changed, context())
        expected = [[False, False, False, True, True]] * BATCH
        assert moved(decoder(sequence(), context()), after).tolist() == expected

    @every_option
    def test_the_last_real_context_token_moves_the_first_output(self, options):
        decoder = make_stack(Decoder, **options)
        before = decoder(sequence(), context(), context_mask=padding(CONTEXT))
        for position, moves in ((CONTEXT - 3, True), (CONTEXT - 2, False)):
            changed = context()
            changed[1, position] += 1  # the last real one of the second sequence, then padding
            after = decoder(sequence(), changed, context_mask=padding(CONTEXT))
            assert moved(before, after).tolist() == [[False] * LENGTH, [moves] * LENGTH]

    @every_option
    def test_padding_of_the_encoder_changes_nothing(self, options):
        encoder, mask = make_stack(Encoder, **options), padding(LENGTH)
        changed = np.where(mask[..., np.newaxis], sequence(), 100.0)
        differ = moved(encoder(sequence(), mask=mask), encoder(changed, mask=mask))
        np.testing.assert_array_equal(differ, ~mask)

    @pytest.mark.parametrize("norm_first", [True, False])
    def test_without_positions_order_means_nothing(self, norm_first):
        encoder = make_stack(Encoder, norm_first=norm_first)
        order = np.array([3, 0, 4, 2, 1])
        permuted = encoder(sequence()[:, order])
        assert_close(permuted, np.array(encoder(sequence()))[:, order])

    def test_with_positions_order_means_something(self):
        order = np.array([3, 0, 4, 2, 1])
        rotary = make_stack(Encoder, use_rotary=True)
        positions, encoder = SinusoidalPositionEncoding(), make_stack(Encoder)
        for encode in (rotary, lambda x: encoder(positions(x))):
            outputs, permuted = np.array(encode(sequence())), encode(sequence()[:, order])
            assert np.abs(permuted - outputs[:, order]).max() > 0.1

    def test_positions_may_be_given_and_have_two_dimensions(self):
        encoder = make_stack(Encoder, use_rotary=True)
        expected = np.array(encoder(sequence()))
        assert_close(encoder(sequence(), positions=ops.arange(LENGTH) + 17), expected)
        grid = np.array([[[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]])
        in_grid = np.array(encoder(sequence(), positions=grid))
        assert_close(encoder(sequence(), positions=grid + [[[3, 5]]]), in_grid)
        assert np.abs(in_grid - expected).max() > 0.01
        order = np.array([3, 0, 4, 2, 1])
        together = encoder(sequence()[:, order], positions=grid[:, order])
        assert_close(together, in_grid[:, order])

    def test_dropping_every_sublayer_leaves_the_normalized_inputs(self):
        for kind, inputs in ((Encoder, [sequence()]), (Decoder, [sequence(), context()])):
            stack = make_stack(kind, dropout=0.99999)
            assert_close(stack(*inputs, training=True), stack.final_norm(sequence()))


class KerasMaskTest:
    def test_it_is_found_beside_positions(self):
        encoder, mask = make_stack(Encoder, use_rotary=True), padding(LENGTH)
        masked = keras.layers.Masking()(sequence() * mask[..., np.newaxis])
        positions = ops.arange(LENGTH)
        expected = encoder(np.array(masked), mask=mask, positions=positions)
        np.testing.assert_array_equal(encoder(masked, positions=positions), expected)

    token_ids = np.array([[3, 1, 4, 1, 5], [2, 7, 1, 0, 0]])
    context_ids = np.array([[3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8, 2, 0, 0]])

    @every_option
    def test_the_front_doors_find_it(self, options):
        embedding, context_embedding = (
            TokenEmbedding(VOCABULARY, d) for d in (HIDDEN, CONTEXT_DIM)
        )
        encoder, decoder = make_stack(Encoder, **options), make_stack(Decoder, **options)
        inputs = [keras.Input((None,), dtype="int32") for _ in range(2)]
        encoded = encoder(embedding(inputs[0]))
        decoded = decoder(embedding(inputs[0]), context_embedding(inputs[1]))
        model = keras.Model(inputs, [encoded, decoded])
        encoded, decoded = model([self.token_ids, self.context_ids])
        # Arrays carry no mask, so that what follows has only those given by hand.
        x, context = embedding(self.token_ids).numpy(), context_embedding(self.context_ids).numpy()
        masks = {"inputs_mask": self.token_ids != 0, "context_mask": self.context_ids != 0}
        assert_close(encoded, encoder(x, mask=self.token_ids != 0))
        assert_close(decoded, decoder(x, context, **masks))
        assert np.abs(encoded - encoder(x)).max() > 1e-3
        assert np.abs(decoded - decoder(x, context)).max() > 1e-3

    def test_it_goes_from_stack_to_stack(self):
        embedding = TokenEmbedding(VOCABULARY, CONTEXT_DIM)
        encoder = Encoder(LAYERS, CONTEXT_DIM, 2, INNER)
        decoder = make_stack(Decoder)
        inputs = [keras.Input((None, HIDDEN)), keras.Input((None,), dtype="int32")]
        model = keras.Model(inputs, decoder(inputs[0], encoder(embedding(inputs[1]))))
        mask = self.context_ids != 0
        encoded = encoder(embedding(self.context_ids).numpy(), mask=mask).numpy()
        expected = decoder(sequence(), encoded, context_mask=mask)
        assert_close(model([sequence(), self.context_ids]), expected)


class WordsAndPixelsTest:
    def test_an_image_captioner_is_made_of_the_same_parts(self):
        """Only the front doors know what came in: pixels for the encoder, words for the decoder."""
        images = keras.Input((6, 8, 3))
        patches = keras.layers.Conv2D(HIDDEN, kernel_size=2, strides=2)(images)
        patches = keras.layers.Reshape((12, HIDDEN))(patches)
        token_ids = keras.Input((None,), dtype="int32")
        words = TokenEmbedding(VOCABULARY, HIDDEN)
        context = Encoder(LAYERS, HIDDEN, HEADS, INNER)(patches)
        decoded = Decoder(LAYERS, HIDDEN, HEADS, INNER)(words(token_ids), context)
        model = keras.Model([images, token_ids], words(decoded, reverse=True))

        pixels = np.random.default_rng(0).random((BATCH, 6, 8, 3)).astype("float32")
        caption = np.array([[1, 5, 7, 3, 2], [1, 4, 2, 0, 0]])
        before = model([pixels, caption])
        assert before.shape == (BATCH, 5, VOCABULARY)
        changed = pixels.copy()
        changed[0, -1, -1] += 1  # the last patch of the first image
        assert moved(before, model([changed, caption])).tolist() == [[True] * 5, [False] * 5]
        caption[1, 2] = 9
        after = moved(before, model([pixels, caption])).tolist()
        assert after == [[False] * 5, [False, False, True, True, True]]
