"""Blocks against the arithmetic of their own sublayers, written out."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.blocks import DecoderBlock, EncoderBlock
from kerasformer.layers.feed_forward import GatedFeedForward
from kerasformer.layers.mixers.attention import MultiHeadAttention

BATCH, LENGTH, CONTEXT, HIDDEN, CONTEXT_DIM, HEADS, INNER = 2, 5, 7, 12, 11, 3, 13
OPTIONS = {
    "pre-norm": {},
    "post-norm": {"norm_first": False},
    "rotary, gated, rms": {
        "normalization": "rms",
        "activation": "silu",
        "use_gate": True,
        "use_rotary": True,
        "use_bias": False,
        "num_key_value_heads": 1,
    },
    "post-norm, wide heads": {"norm_first": False, "key_dim": 10, "activation": "gelu_tanh"},
    "scaled branches": {"layer_scale": 0.1, "stochastic_depth": 0.9},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def sequence(length=LENGTH, width=HIDDEN):
    shape = (BATCH, length, width)
    return np.random.default_rng(length).standard_normal(shape).astype("float32")


def context():
    return sequence(CONTEXT, CONTEXT_DIM)


def make_block(kind, **options):
    """Makes a built block whose weights are random, scales and biases included."""
    block = kind(HIDDEN, HEADS, INNER, epsilon=0.01, **options)
    widths = [HIDDEN] if kind is EncoderBlock else [HIDDEN, CONTEXT_DIM]
    block.build(*((None, None, width) for width in widths))
    random = np.random.default_rng(1)
    block.set_weights([0.5 * random.standard_normal(weight.shape) for weight in block.weights])
    return block


def add(x, residual, sublayer):
    """Writes the residual connection out."""
    x, scale = ops.array(x), 1.0 if residual.layer_scale is None else residual.scale
    if residual.norm_first:
        return x + scale * sublayer(residual.norm(x))
    return residual.norm(x + scale * sublayer(x))


def padding(length):
    return np.arange(length) < np.array([[length], [length - 2]])


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["attention_mask", "position_bias"])
def test_attention_honours_the_mask_of_keras_beside_a_second_tensor(name):
    layer, mask = MultiHeadAttention(HIDDEN, HEADS), padding(LENGTH)
    second = {name: np.random.default_rng(2).random((BATCH, HEADS, LENGTH, LENGTH)) < 0.7}
    if name == "position_bias":
        second[name] = second[name].astype("float32")
    inputs = keras.layers.Masking()(sequence() * mask[..., np.newaxis])
    expected = layer(np.array(inputs), mask=mask, **second)
    np.testing.assert_array_equal(layer(inputs, **second), expected)


@every_option
class CompositionTest:
    def test_an_encoder_block_is_attention_then_feed_forward(self, options):
        block = make_block(EncoderBlock, **options)
        attention_mask = np.random.default_rng(2).random((BATCH, LENGTH, LENGTH)) < 0.7
        for masks in (
            {},
            {"mask": padding(LENGTH)},
            {"mask": padding(LENGTH), "use_causal_mask": True, "attention_mask": attention_mask},
        ):
            attention = block.self_attention.sublayer
            x = add(sequence(), block.self_attention, lambda x: attention(x, **masks))  # noqa: B023
            x = add(x, block.feed_forward, block.feed_forward.sublayer)
            assert_close(block(sequence(), **masks), x)

    def test_an_encoder_block_honours_the_mask_of_keras_beside_an_attention_mask(self, options):
        block, mask = make_block(EncoderBlock, **options), padding(LENGTH)
        inputs = keras.layers.Masking()(sequence() * mask[..., np.newaxis])
        seen = np.random.default_rng(2).random((BATCH, LENGTH, LENGTH)) < 0.7
        expected = block(np.array(inputs), mask=mask, attention_mask=seen)
        np.testing.assert_array_equal(block(inputs, attention_mask=seen), expected)

    def test_a_decoder_block_is_causal_then_looks_at_its_context(self, options):
        block = make_block(DecoderBlock, **options)
        own, cross = block.self_attention.sublayer, block.cross_attention.sublayer
        mask, context_mask = padding(LENGTH), padding(CONTEXT)
        x = add(sequence(), block.self_attention, lambda x: own(x, mask=mask, use_causal_mask=True))
        x = add(x, block.cross_attention, lambda x: cross(x, context(), context_mask=context_mask))
        x = add(x, block.feed_forward, block.feed_forward.sublayer)
        masks = {"inputs_mask": mask, "context_mask": context_mask}
        assert_close(block(sequence(), context(), **masks), x)

    def test_positions_reach_the_attention(self, options):
        block = make_block(EncoderBlock, **options)
        attention = block.self_attention.sublayer
        positions = ops.array(np.random.default_rng(3).integers(0, 97, (BATCH, LENGTH, 2)))
        if not attention.use_rotary:
            with pytest.raises(ValueError, match="positions=None with use_rotary=False"):
                block(sequence(), positions=positions)
            return
        x = add(sequence(), block.self_attention, lambda x: attention(x, positions=positions))
        x = add(x, block.feed_forward, block.feed_forward.sublayer)
        assert_close(block(sequence(), positions=positions), x)
        assert np.abs(ops.convert_to_numpy(block(sequence()) - x)).max() > 1e-3

    def test_scores_are_those_of_the_attention(self, options):
        block = make_block(EncoderBlock, **options)
        residual = block.self_attention
        seen = residual.norm(sequence()) if residual.norm_first else sequence()
        expected = residual.sublayer(seen, return_attention_scores=True)[1]
        outputs, scores = block(sequence(), return_attention_scores=True)
        assert_close(scores, expected)
        assert_close(outputs, block(sequence()))
        decoder = make_block(DecoderBlock, **options)
        _, scores = decoder(
            sequence(), context(), context_mask=padding(CONTEXT), return_attention_scores=True
        )
        assert scores.shape == (BATCH, HEADS, LENGTH, CONTEXT)
        seen = ops.convert_to_numpy(scores) * padding(CONTEXT)[:, np.newaxis, np.newaxis]
        assert_close(seen.sum(axis=-1), 1)

    def test_steps_equal_the_full_pass(self, options):
        block = make_block(DecoderBlock, **options)
        context_mask = padding(CONTEXT)
        expected = block(sequence(), context(), context_mask=context_mask)
        context_cache = block.project_context(context())
        cache = block.init_cache(BATCH, LENGTH)
        for position in range(LENGTH):
            outputs, cache = block.step(
                ops.array(sequence()[:, position : position + 1]),
                cache,
                ops.full((BATCH,), position, dtype="int32"),
                context_cache,
                context_mask,
            )
            assert_close(outputs[:, 0], expected[:, position])

    def test_the_arguments_make_the_same_block_again(self, options):
        block = make_block(EncoderBlock, **options)
        again = EncoderBlock.from_config(block.get_config())
        again.build((None, None, HIDDEN))
        again.set_weights(block.get_weights())
        np.testing.assert_array_equal(again(sequence()), block(sequence()))
        assert again.get_config() == block.get_config()


@pytest.mark.parametrize("kind", [EncoderBlock, DecoderBlock])
class DropoutTest:
    def inputs(self, kind):
        return [sequence()] if kind is EncoderBlock else [sequence(), context()]

    def test_dropping_every_sublayer_leaves_the_inputs(self, kind):
        block = make_block(kind, dropout=0.99999)
        assert_close(block(*self.inputs(kind), training=True), sequence())

    @pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "activation_dropout"])
    def test_each_rate_is_for_training_only(self, kind, rate):
        block, inputs = make_block(kind, **{rate: 0.5}), self.inputs(kind)
        plain = make_block(kind)(*inputs)
        np.testing.assert_array_equal(block(*inputs), plain)
        np.testing.assert_array_equal(block(*inputs, training=False), plain)
        assert np.abs(block(*inputs, training=True) - plain).max() > 1e-3

    def test_probabilities_that_are_dropped_leave_the_biases(self, kind):
        block = make_block(kind, attention_dropout=0.99999)
        *_, bias = block.self_attention.sublayer.output_dense.get_weights()
        x = sequence() + bias
        if kind is DecoderBlock:
            x += block.cross_attention.sublayer.output_dense.get_weights()[1]
        expected = add(x, block.feed_forward, block.feed_forward.sublayer)
        assert_close(block(*self.inputs(kind), training=True), expected)


@keras.saving.register_keras_serializable(package="kerasformer_test")
class TokenMLP(keras.layers.Layer):
    """Mixes positions by one matrix: all that a mixer needs."""

    def build(self, inputs_shape):
        self.kernel = self.add_weight(shape=(inputs_shape[1], inputs_shape[1]))

    def call(self, inputs):
        return ops.einsum("bth,ts->bsh", inputs, self.kernel)


class Scoring(keras.layers.Layer):
    """Takes the keyword, but returns no scores."""

    def call(self, inputs, return_attention_scores=False):
        return inputs


def recurrent(**options):
    return keras.layers.LSTM(HIDDEN, return_sequences=True, **options)


class MixerTest:
    @pytest.mark.parametrize("norm_first", [True, False])
    @pytest.mark.parametrize("make_mixer", [TokenMLP, recurrent])
    def test_it_stands_where_attention_stood(self, make_mixer, norm_first):
        block = EncoderBlock(
            HIDDEN, None, INNER, mixer=make_mixer(), norm_first=norm_first, epsilon=0.01
        )
        block.build((None, LENGTH, HIDDEN))
        x = add(sequence(), block.self_attention, block.self_attention.sublayer)
        assert_close(block(sequence()), add(x, block.feed_forward, block.feed_forward.sublayer))

    def test_it_is_a_pattern_which_each_block_copies_and_none_builds(self):
        pattern = recurrent(name="pattern", dropout=0.1)
        blocks = [EncoderBlock(HIDDEN, mixer=pattern, dtype="mixed_bfloat16") for _ in range(2)]
        for block in blocks:
            block.build((None, None, HIDDEN))
            assert block.self_attention.sublayer.name == "mixer"
            assert block.self_attention.sublayer.compute_dtype == "bfloat16"
        assert np.any(blocks[0].get_weights()[0] != blocks[1].get_weights()[0])
        assert not pattern.built and pattern.name == "pattern"
        names = ["kernel", "recurrent_kernel", "bias", "norm/gamma", "norm/beta"]
        for weight, name in zip(blocks[0].weights, names, strict=True):
            assert weight.path.endswith(name)

    def test_a_mask_reaches_a_mixer_that_takes_one(self):
        block, mask = EncoderBlock(HIDDEN, None, INNER, mixer=recurrent()), padding(LENGTH)
        mask[1] = [True, False, True, True, False]
        block.build((None, None, HIDDEN))
        mixer = block.self_attention.sublayer
        x = add(sequence(), block.self_attention, lambda x: mixer(x, mask=mask))
        x = add(x, block.feed_forward, block.feed_forward.sublayer)
        assert_close(block(sequence(), mask=mask), x)
        masked = keras.layers.Masking()(sequence() * mask[..., np.newaxis])
        outputs = block(masked)
        assert_close(outputs, block(np.array(masked), mask=mask))
        assert np.abs(outputs - block(np.array(masked))).max() > 1e-3

    def test_a_mask_passes_by_a_mixer_that_takes_none(self):
        mixer = TokenMLP()
        mixer.supports_masking = True
        block = EncoderBlock(HIDDEN, None, INNER, mixer=mixer)
        outputs = block(sequence(), mask=padding(LENGTH))
        np.testing.assert_array_equal(outputs, block(sequence()))
        pooled = keras.layers.GlobalAveragePooling1D()(outputs)
        assert_close(pooled[1], ops.mean(outputs[1, : LENGTH - 2], axis=0))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("attention_mask", np.ones((BATCH, LENGTH, LENGTH), bool)),
            ("use_causal_mask", True),
            ("positions", np.arange(LENGTH)),
            ("return_attention_scores", True),
        ],
    )
    def test_a_keyword_that_it_lacks_is_refused(self, name, value):
        block = EncoderBlock(HIDDEN, None, INNER, mixer=recurrent())
        message = f"call takes {name}, received mixer=LSTM and a value for {name}"
        with pytest.raises(ValueError, match=message):
            block(sequence(), **{name: value})

    def test_before_a_context_it_stands_for_causal_self_attention(self):
        block = DecoderBlock(HIDDEN, HEADS, INNER, mixer=recurrent(), key_dim=10)
        cross, mask = block.cross_attention.sublayer, padding(LENGTH)
        block.build((None, None, HIDDEN), (None, None, CONTEXT_DIM))
        mixer = block.self_attention.sublayer
        x = add(sequence(), block.self_attention, lambda x: mixer(x, mask=mask))
        x = add(x, block.cross_attention, lambda x: cross(x, context()))
        x = add(x, block.feed_forward, block.feed_forward.sublayer)
        assert_close(block(sequence(), context(), inputs_mask=mask), x)
        # Attention as a mixer takes the causal mask, as if there were no mixer.
        block = DecoderBlock(HIDDEN, HEADS, INNER, mixer=MultiHeadAttention(HIDDEN, HEADS))
        plain = DecoderBlock(HIDDEN, HEADS, INNER)
        expected = plain(sequence(), context())
        block(sequence(), context())
        block.set_weights(plain.get_weights())
        assert_close(block(sequence(), context()), expected)

    def test_without_a_feed_forward_layer_only_the_mixer_acts(self):
        block = EncoderBlock(HIDDEN, HEADS)
        block.build((None, None, HIDDEN))
        expected = add(sequence(), block.self_attention, block.self_attention.sublayer)
        assert_close(block(sequence()), expected)
        assert not any("feed_forward" in weight.path for weight in block.weights)

    def test_the_arguments_make_the_same_block_again(self):
        block = EncoderBlock(HIDDEN, mixer=recurrent(activation="relu"), seed=3)
        again = EncoderBlock.from_config(json.loads(json.dumps(block.get_config())))
        assert again.get_config() == block.get_config()
        block.build((None, None, HIDDEN))
        again.build((None, None, HIDDEN))
        again.set_weights(block.get_weights())
        np.testing.assert_array_equal(again(sequence()), block(sequence()))

    @pytest.mark.parametrize(
        ("use", "message"),
        [
            (lambda: EncoderBlock(HIDDEN, 3, mixer=TokenMLP()), "mixer, received num_heads=3"),
            (lambda: EncoderBlock(HIDDEN, key_dim=5, mixer=TokenMLP()), "received key_dim=5"),
            (lambda: EncoderBlock(HIDDEN, use_rotary=True, mixer=TokenMLP()), "use_rotary=True"),
            (lambda: DecoderBlock(HIDDEN, 3, use_rotary=True, mixer=TokenMLP()), "use_rotary=True"),
            (lambda: DecoderBlock(HIDDEN, None, mixer=TokenMLP()), "received num_heads=None"),
            (lambda: EncoderBlock(HIDDEN), "received num_heads=None and mixer=None"),
            (lambda: EncoderBlock(HIDDEN, mixer="lstm"), "Keras layer, .* received mixer='lstm'"),
            (
                lambda: EncoderBlock(HIDDEN, mixer=keras.layers.MultiHeadAttention(2, 3)),
                "called with one sequence, received mixer=MultiHeadAttention, which needs value",
            ),
            (lambda: EncoderBlock(HIDDEN, 3, use_gate=True), "intermediate_dim=None.*use_gate"),
            (
                lambda: EncoderBlock(HIDDEN, mixer=TokenMLP(), use_bias=False),
                "with a mixer and intermediate_dim=None, received use_bias=False",
            ),
            (lambda: EncoderBlock(0, 3, 5), "hidden_dim of at least 1, received hidden_dim=0"),
            (lambda: DecoderBlock(HIDDEN, 3, 0), "received intermediate_dim=0"),
            (
                lambda: EncoderBlock(HIDDEN, mixer=keras.layers.LSTM(HIDDEN))(sequence()),
                rf"shape of its inputs, .* received mixer=LSTM and outputs of shape=\(2, {HIDDEN}",
            ),
            (
                lambda: EncoderBlock(HIDDEN, mixer=recurrent(return_state=True))(sequence()),
                "one tensor, received mixer=LSTM and 3 outputs",
            ),
            (
                lambda: EncoderBlock(HIDDEN, mixer=keras.Sequential([recurrent()]))(
                    sequence(), use_causal_mask=True
                ),
                "call takes use_causal_mask, received mixer=Sequential",
            ),
            (
                lambda: EncoderBlock(HIDDEN, mixer=Scoring())(
                    sequence(), return_attention_scores=True
                ),
                r"\(outputs, scores\), received mixer=Scoring and 1 outputs",
            ),
            (
                lambda: EncoderBlock(HIDDEN, mixer=keras.layers.Conv1D(HIDDEN, 2))(sequence()),
                "mixer=Conv1D and outputs of shape",
            ),
            (
                lambda: EncoderBlock(HIDDEN, mixer=recurrent())(
                    sequence(), mask=[[True] * (LENGTH + 1)] * BATCH
                ),
                rf"padding mask .* received shape=\({BATCH}, {LENGTH + 1}\)",
            ),
            (
                lambda: EncoderBlock(HIDDEN, mixer=TokenMLP()).init_cache(2, 3),
                "step and grow_cache .* received mixer=TokenMLP without init_cache",
            ),
        ],
    )
    def test_what_contradicts_itself_is_named(self, use, message):
        with pytest.raises(ValueError, match=message):
            use()


class ArgumentsTest:
    arguments = {
        "hidden_dim": HIDDEN,
        "num_heads": HEADS,
        "intermediate_dim": INNER,
        "dropout": 0.1,
        "attention_dropout": 0.2,
        "activation_dropout": 0.3,
        "activation": "gelu_tanh",
        "norm_first": False,
        "normalization": "rms",
        "epsilon": 0.01,
        "num_key_value_heads": 1,
        "key_dim": 10,
        "use_bias": False,
        "use_rotary": True,
        "rotary_max_wavelength": 101.0,
        "rotary_scaling": ("ntk", 2.0),
        "use_gate": True,
        "stochastic_depth": 0.4,
        "layer_scale": 0.7,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
    }

    @pytest.mark.parametrize("kind", [EncoderBlock, DecoderBlock])
    def test_each_reaches_its_sublayer(self, kind):
        block = kind(**self.arguments)
        assert self.arguments.items() <= block.get_config().items()
        residuals = [block.self_attention, block.feed_forward]
        residuals += [block.cross_attention] if kind is DecoderBlock else []
        for residual in residuals:
            self.takes(residual, "dropout", "norm_first", "normalization", "epsilon")
            self.takes(residual, "stochastic_depth", "layer_scale")
        self.takes(block.feed_forward.sublayer, "intermediate_dim", "activation", dropout=0.3)
        assert isinstance(block.feed_forward.sublayer, GatedFeedForward)
        names = ["num_heads", "num_key_value_heads", "key_dim"]
        self.takes(block.self_attention.sublayer, *names, dropout=0.2, use_rotary=True)
        self.takes(block.self_attention.sublayer, "rotary_max_wavelength", "rotary_scaling")
        if kind is DecoderBlock:
            self.takes(block.cross_attention.sublayer, *names, dropout=0.2, use_rotary=False)
        for residual in residuals:
            self.takes(residual.sublayer, "hidden_dim", "use_bias")
            self.takes(residual.sublayer, "kernel_initializer", "bias_initializer")

    @pytest.mark.parametrize("kind", [EncoderBlock, DecoderBlock])
    def test_each_source_of_randomness_derives_a_seed_of_its_own(self, kind):
        rates = ("dropout", "attention_dropout", "activation_dropout", "stochastic_depth")
        blocks = [kind(HIDDEN, HEADS, INNER, **dict.fromkeys(rates, 0.5), seed=7) for _ in range(2)]
        states = [[v.numpy().tolist() for v in block.non_trainable_variables] for block in blocks]
        assert states[0] == states[1]
        assert (
            len(np.unique(states[0], axis=0))
            == len(states[0])
            == (6 if kind is EncoderBlock else 9)
        )

    def takes(self, layer, *names, **others):
        expected = {name: self.arguments[name] for name in names} | others
        assert expected.items() <= layer.get_config().items()


class FunctionalTest:
    def test_blocks_connect_in_a_functional_model(self):
        encoder = make_block(EncoderBlock)
        decoder = make_block(DecoderBlock)
        inputs = [keras.Input((None, HIDDEN)), keras.Input((None, CONTEXT_DIM))]
        x, own_scores = encoder(inputs[0], return_attention_scores=True)
        x, scores = decoder(x, inputs[1], return_attention_scores=True)
        model = keras.Model(inputs, [x, own_scores, scores])
        x, own_expected = encoder(sequence(), return_attention_scores=True)
        expected = decoder(x, context(), return_attention_scores=True)
        x, own_scores, scores = model([sequence(), context()])
        assert_close(x, expected[0])
        assert_close(own_scores, own_expected)
        assert_close(scores, expected[1])
