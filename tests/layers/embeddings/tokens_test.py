"""Token embeddings, forwards and backwards."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.embeddings.tokens import TokenEmbedding

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
        vectors = layer(np.arange(401)[np.newaxis])
        logits = layer(keras.random.normal((1, 401, 103)), reverse=True)
        assert np.var(vectors) == pytest.approx(1, abs=0.05)
        assert np.var(logits) == pytest.approx(1, abs=0.05)

    def test_zero_is_masked_for_the_layers_that_follow(self):
        pool = keras.layers.GlobalAveragePooling1D()
        layer = TokenEmbedding(VOCABULARY, HIDDEN)
        sequence = layer(TOKEN_IDS)
        np.testing.assert_allclose(
            pool(sequence)[1], np.mean(sequence[1, :3], axis=0), rtol=1e-5, atol=1e-6
        )
        layer.mask_zero = False
        sequence = layer(TOKEN_IDS)
        np.testing.assert_allclose(
            pool(sequence)[1], np.mean(sequence[1], axis=0), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
    def test_ids_that_come_as_floats_are_not_rounded_and_masked_alike(self, policy):
        """`keras.Sequential`, left without an `Input`, makes floats of ids."""
        layer = TokenEmbedding(521, HIDDEN, dtype=policy)
        token_ids = np.array([[257, 259, 0]])
        outputs = layer(token_ids.astype("float32"))
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        np.testing.assert_array_equal(outputs, layer(token_ids))
        pool = keras.layers.GlobalAveragePooling1D(dtype=policy)
        model = keras.Sequential([layer, pool])
        if policy == "float32":
            np.testing.assert_array_equal(model(token_ids), pool(layer(token_ids)))

    def test_a_table_of_32_bits_is_rounded_after_the_look_up(self):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, use_scale=False, dtype="mixed_bfloat16")
        outputs = layer(TOKEN_IDS)
        (table,) = layer.get_weights()
        assert table.dtype == "float32"
        np.testing.assert_array_equal(outputs, ops.cast(table[TOKEN_IDS], "bfloat16"))


class ReverseTest:
    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
    def test_logits_are_the_product_with_the_exact_table(self, policy):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, dtype=policy)
        layer.build()
        sequence = ops.cast(example(), layer.compute_dtype)
        logits = layer(sequence, reverse=True)
        (table,) = layer.get_weights()
        expected = np.array(ops.cast(sequence, "float64")) @ table.T
        assert logits.dtype == ("float64" if policy == "float64" else "float32")
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)

    def test_a_sequence_with_zeros_makes_no_mask(self):
        layer = TokenEmbedding(VOCABULARY, HIDDEN)
        logits = layer(np.zeros((BATCH, LENGTH, HIDDEN)), reverse=True)
        assert layer.compute_mask(np.zeros((BATCH, LENGTH, HIDDEN), "float32")) is None
        assert np.all(logits == 0)

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_a_symbolic_call_foretells_shape_and_dtype(self, policy):
        layer = TokenEmbedding(VOCABULARY, HIDDEN, dtype=policy)
        sequence = layer(keras.Input((None,), dtype="int32"))
        logits = layer(sequence, reverse=True)
        assert sequence.shape == (None, None, HIDDEN)
        assert sequence.dtype == layer.compute_dtype
        assert logits.shape == (None, None, VOCABULARY)
        assert logits.dtype == "float32"


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
        assert np.all(again(TOKEN_IDS) == 0)

    def test_padding_does_not_count_in_the_loss_of_a_model(self):
        """Logits carry the mask of the sequence, which `compile` and `fit` use."""
        model = tied_model()
        labels = np.ones_like(TOKEN_IDS)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        real = (TOKEN_IDS != 0).astype("float32")
        logits = model(TOKEN_IDS)
        by_hand = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")(
            labels, np.array(logits)
        )
        assert float(loss(labels, logits)) == pytest.approx(
            float(np.sum(by_hand * real) / np.sum(real)), rel=1e-5
        )
