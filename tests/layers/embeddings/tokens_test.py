"""Token embeddings, forwards and backwards."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.tokens import TokenEmbedding
from tests.backend import needs_tensorflow, torch

VOCABULARY, HIDDEN, BATCH, LENGTH = 11, 7, 2, 5
TOKEN_IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]])


def example():
    shape = (BATCH, LENGTH, HIDDEN)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def tied_model(**arguments):
    """Reads ids, turns the sequence, and writes logits with the same layer."""
    embedding = TokenEmbedding(VOCABULARY, HIDDEN, name="embedding", **arguments)
    token_ids = keras.Input((None,), dtype="int32")
    sequence = keras.layers.Dense(HIDDEN, name="between")(embedding(token_ids))
    return keras.Model(token_ids, embedding(sequence, reverse=True))


class LookUpTest:
    @pytest.mark.parametrize("use_scale", [True, False])
    def test_it_gives_the_row_of_each_id(self, use_scale):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, use_scale=use_scale)
        outputs = layer(TOKEN_IDS)
        (table,) = layer.get_weights()
        scale = HIDDEN**0.5 if use_scale else 1.0
        np.testing.assert_allclose(outputs, scale * table[TOKEN_IDS], rtol=1e-6)

    def test_scaled_vectors_and_logits_have_unit_variance(self):
        layer = TokenEmbedding(401, 103)
        vectors = np.array(layer(np.arange(401)[np.newaxis]))
        logits = np.array(layer(keras.random.normal((1, 401, 103)), reverse=True))
        assert np.var(vectors) == pytest.approx(1, abs=0.05)
        assert np.var(logits) == pytest.approx(1, abs=0.05)

    def test_zero_is_masked_for_the_layers_that_follow(self):
        pool = keras.layers.GlobalAveragePooling1D()
        layer = TokenEmbedding(VOCABULARY, HIDDEN)
        sequence = layer(TOKEN_IDS)
        np.testing.assert_allclose(
            pool(sequence)[1], ops.mean(sequence[1, :3], axis=0), rtol=1e-5, atol=1e-6
        )
        layer.mask_zero = False
        sequence = layer(TOKEN_IDS)
        np.testing.assert_allclose(
            pool(sequence)[1], ops.mean(sequence[1], axis=0), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
    def test_ids_that_come_as_floats_are_not_rounded_and_masked_alike(self, policy):
        """`keras.Sequential`, left without an `Input`, makes floats of ids."""
        layer = TokenEmbedding(521, HIDDEN, dtype=policy)
        token_ids = np.array([[257, 259, 0]])
        outputs = layer(token_ids.astype("float32"))
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (outputs, layer(token_ids))))
        pool = keras.layers.GlobalAveragePooling1D(dtype=policy)
        model = keras.Sequential([layer, pool])
        if policy == "float32":
            np.testing.assert_array_equal(model(token_ids), pool(layer(token_ids)))

    def test_a_table_of_32_bits_is_rounded_after_the_look_up(self):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, use_scale=False, dtype="mixed_bfloat16")
        outputs = layer(TOKEN_IDS)
        (table,) = layer.get_weights()
        assert table.dtype == "float32"
        expected = ops.cast(table[TOKEN_IDS], "bfloat16")
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (outputs, expected)))

    def test_the_vectors_start_as_their_initializer_says(self):
        initializer = keras.initializers.RandomUniform(3.0, 5.0, seed=7)
        layer = TokenEmbedding(VOCABULARY, HIDDEN, embeddings_initializer=initializer)
        layer.build()
        (table,) = layer.get_weights()
        assert np.all((table >= 3) & (table <= 5))
        again = TokenEmbedding.from_config(layer.get_config())
        again.build()
        np.testing.assert_array_equal(again.get_weights()[0], table)


class ReverseTest:
    @pytest.mark.parametrize(
        "policy",
        # Keras multiplies in 64 bits on TensorFlow alone.
        [
            *("float32", "mixed_bfloat16", "mixed_float16"),
            pytest.param("float64", marks=needs_tensorflow),
        ],
    )
    def test_logits_are_the_product_with_the_exact_table(self, policy):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, dtype=policy)
        layer.build()
        sequence = ops.cast(example(), layer.compute_dtype)
        logits = layer(sequence, reverse=True)
        (table,) = layer.get_weights()
        expected = np.array(ops.cast(sequence, "float64")) @ table.T
        dtype = keras.backend.standardize_dtype(logits.dtype)
        assert dtype == ("float64" if policy == "float64" else "float32")
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)

    def test_a_sequence_with_zeros_makes_no_mask(self):
        layer = TokenEmbedding(VOCABULARY, HIDDEN)
        logits = layer(np.zeros((BATCH, LENGTH, HIDDEN)), reverse=True)
        assert layer.compute_mask(np.zeros((BATCH, LENGTH, HIDDEN), "float32")) is None
        assert not np.any(np.array(logits))

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_a_symbolic_call_foretells_shape_and_dtype(self, policy):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, dtype=policy)
        sequence = layer(keras.Input((None,), dtype="int32"))
        logits = layer(sequence, reverse=True)
        assert sequence.shape == (None, None, HIDDEN)
        assert sequence.dtype == layer.compute_dtype
        assert logits.shape == (None, None, VOCABULARY)
        assert logits.dtype == "float32"

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_a_bias_is_added_to_logits_alone(self, policy):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, use_logits_bias=True, dtype=policy)
        plain = TokenEmbedding(VOCABULARY, HIDDEN, dtype=policy)
        vectors = ops.convert_to_numpy(layer(TOKEN_IDS))
        table, bias = layer.get_weights()
        assert bias.shape == (VOCABULARY,) and not bias.any()
        bias = np.random.default_rng(1).standard_normal(VOCABULARY).astype("float32")
        layer.set_weights([table, bias])
        plain.build()
        plain.set_weights([table])
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(TOKEN_IDS)), vectors)
        sequence = ops.cast(example(), layer.compute_dtype)
        expected = ops.convert_to_numpy(plain(sequence, reverse=True)) + bias
        np.testing.assert_allclose(layer(sequence, reverse=True), expected, rtol=1e-6)

    def test_a_sequence_of_another_width_is_refused(self):
        layer = TokenEmbedding(VOCABULARY, HIDDEN)
        with pytest.raises(ValueError, match=r"width hidden_dim=7 .*received shape=\(2, 5, 6\)"):
            layer(example()[..., :6], reverse=True)


class RangeTest:
    @pytest.mark.parametrize("token_id", [-1, VOCABULARY, 2.5, np.nan])
    def test_a_known_id_outside_the_vocabulary_is_refused(self, token_id):
        token_ids = np.where(TOKEN_IDS == 9, token_id, TOKEN_IDS)
        error, message = ValueError, rf"from 0 to 10, received token_id={token_id}"
        if torch:  # which refuses them itself
            error, message = IndexError, "out of range"
        with pytest.raises(error, match=message):
            TokenEmbedding(VOCABULARY, HIDDEN)(token_ids)

    def test_ids_that_are_not_known_yet_are_not_checked(self):
        layer = TokenEmbedding(VOCABULARY, HIDDEN)
        inputs = keras.Input((None,), dtype="int32")
        model = keras.Model(inputs, layer(inputs))
        np.testing.assert_array_equal(model.predict(TOKEN_IDS, verbose=0), layer(TOKEN_IDS))
        assert layer(np.zeros((2, 0), "int32")).shape == (2, 0, HIDDEN)

    def test_a_sequence_without_reverse_is_refused(self):
        with pytest.raises(ValueError, match=r"without reverse=True, .* shape=\(2, 5, 7\)"):
            TokenEmbedding(VOCABULARY, HIDDEN)(example())


class TieTest:
    def test_a_shared_layer_is_one_weight(self):
        model = tied_model()
        assert model.count_params() == VOCABULARY * HIDDEN + HIDDEN * HIDDEN + HIDDEN

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_the_tie_survives_a_file(self, policy, tmp_path):
        model = tied_model(dtype=policy)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.count_params() == model.count_params()
        np.testing.assert_array_equal(again(TOKEN_IDS), model(TOKEN_IDS))
        # Still one weight: what changes the look-up changes the projection.
        embedding = again.get_layer("embedding")
        embedding.set_weights([np.zeros((VOCABULARY, HIDDEN))])
        assert not np.any(np.array(again(TOKEN_IDS)))

    def test_padding_does_not_count_in_the_loss_of_a_model(self):
        """Logits carry the mask of the sequence, which `compile` and `fit` use."""
        model = tied_model()
        labels = np.ones_like(TOKEN_IDS)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        real = (TOKEN_IDS != 0).astype("float32")
        logits = model(TOKEN_IDS)
        each = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        by_hand = np.array(each(labels, np.array(logits)))
        assert float(loss(labels, logits)) == pytest.approx(
            float(np.sum(by_hand * real) / np.sum(real)), rel=1e-5
        )
