"""What changes the vectors of a BERT, and what may not."""

import numpy as np
import pytest
from keras import ops

from kerasformer.models import BERT

TEXTS = np.array([[5, 7, 3, 9], [6, 2, 8, 0]], "int32")


def tiny(**options):
    sizes = {"num_layers": 2, "hidden_dim": 6, "num_heads": 3, "intermediate_dim": 7}
    return BERT(11, **(sizes | {"max_length": 13, "kernel_initializer": "glorot_normal"} | options))


def padded(texts, count):
    return np.pad(texts, ((0, 0), (0, count)))


class VectorTest:
    def test_padding_changes_no_vector_and_each_token_does(self):
        for options in ({}, {"pool": "class"}, {"pool": "mean", "normalize": True}):
            model = tiny(**options)
            before = np.array(model(TEXTS))
            after = np.array(model(padded(TEXTS, 2)))
            after = after if model.pool else after[:, :4]
            np.testing.assert_allclose(after, before, atol=1e-6)
            changed = np.array(TEXTS)
            changed[:, 2] = 1
            assert np.all(np.abs(np.array(model(changed)) - before).reshape(2, -1).max(axis=1) > 0)

    def test_vectors_are_made_of_the_sequence_as_the_pool_says(self):
        model = tiny(pool="mean", normalize=True)
        sequence = np.array(model.encode(TEXTS))
        mean = np.stack([sequence[0].mean(axis=0), sequence[1, :3].mean(axis=0)])
        expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        np.testing.assert_allclose(model(TEXTS), expected, atol=1e-6)
        model = tiny(pool="class", pooler_activation="tanh")
        outputs, first = np.array(model(TEXTS)), np.array(model.encode(TEXTS))[:, 0]
        kernel, bias = model.pooler_dense.get_weights()
        np.testing.assert_allclose(outputs, np.tanh(first @ kernel + bias), atol=1e-6)

    def test_no_token_types_are_types_of_zero(self):
        model = tiny()
        types = np.zeros_like(TEXTS)
        np.testing.assert_array_equal(model(TEXTS, token_types=types), model(TEXTS))
        types[0, 2] = 1
        assert np.any(np.array(model(TEXTS, token_types=types))[0] != np.array(model(TEXTS))[0])

    def test_nobody_attends_to_padding(self):
        _, scores = tiny().encode(TEXTS, return_attention_scores=True)
        for probabilities in map(ops.convert_to_numpy, scores):
            assert not probabilities[1, :, :, 3].any()
            np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)

    def test_a_published_size_has_as_many_parameters_as_published(self):
        model = BERT.from_variant("tiny", pool="class", pooler_activation="tanh")
        model.build()
        assert model.count_params() == 4_385_920  # 4.4 million, Turc et al. 2019, table 1.

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"pool": "max"}, "received pool='max'"),
            ({"normalize": True}, "received pool=None"),
            ({"pool": "mean", "normalize": True, "num_classes": 3}, "num_classes=3"),
            ({"pad_id": 11}, "received pad_id=11"),
            ({"mixer": None}, "received mixer=None"),
        ],
    )
    def test_arguments_that_contradict_each_other_are_refused(self, options, reason):
        with pytest.raises(ValueError, match=reason):
            tiny(**options)

    def test_unknown_variants_types_and_lengths_are_refused(self):
        with pytest.raises(ValueError, match="received variant='huge'"):
            BERT.from_variant("huge")
        with pytest.raises(ValueError, match="received token types"):
            tiny(num_token_types=None)(TEXTS, token_types=TEXTS)
        with pytest.raises(ValueError, match="received length=14"):
            tiny()(padded(TEXTS, 10))
