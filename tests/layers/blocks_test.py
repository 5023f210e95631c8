"""Blocks against the arithmetic of their own sublayers, written out."""

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
    scale = 1.0 if residual.layer_scale is None else ops.convert_to_numpy(residual.scale)
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
        assert np.abs(block(sequence()) - x).max() > 1e-3

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
        assert_close(np.sum(scores * padding(CONTEXT)[:, np.newaxis, np.newaxis], axis=-1), 1)

    def test_steps_equal_the_full_pass(self, options):
        block = make_block(DecoderBlock, **options)
        context_mask = padding(CONTEXT)
        expected = block(sequence(), context(), context_mask=context_mask)
        context_cache = block.project_context(context())
        cache = block.init_cache(BATCH, LENGTH)
        for position in range(LENGTH):
            outputs, cache = block.step(
                sequence()[:, position : position + 1],
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
        "use_gate": True,
        "stochastic_depth": 0.4,
        "layer_scale": 0.7,
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
        if kind is DecoderBlock:
            self.takes(block.cross_attention.sublayer, *names, dropout=0.2, use_rotary=False)
        for residual in residuals:
            self.takes(residual.sublayer, "hidden_dim", "use_bias")

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
