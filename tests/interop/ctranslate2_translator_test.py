"""A folder for CTranslate2 translates as the SavedModel would, whatever the search."""

import keras
import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from kerasformer.interop.ctranslate2_translator import CTranslate2Translator
from pipelines.tasks.translation.ctranslate2_folder import write_files
from pipelines.tasks.translation.decode import DEFAULTS
from pipelines.tasks.translation.translator import Translator
from tests.exported import exports

# Of several lengths, and so limits; an empty one, and one that is cut.
LIMITS = {"max_source_length": 37, "max_ratio": 1.0, "max_extra": 3}
TEXTS = ["The boy sees a dog.", "Kühe", "", "A girl washes cows.", "   ", "Der Junge " * 23, "x 😀"]


@pytest.fixture(scope="module")
def module():
    """A translator that is sure of what it says, though that means nothing."""
    module = exports.make_translator(max_source_length=37)
    for variable in module.model.trainable_variables:
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.4))
    return module


def in_tensorflow(module, name, decode, **texts):
    """Asks a signature of a SavedModel with this search."""
    other = Translator(module.model, module.tokenizer, decode)
    inputs = {key: tf.constant(value) for key, value in texts.items()}
    return {key: x.numpy() for key, x in other.signatures()[name](**inputs).items()}


class TranslateTest:
    @pytest.mark.parametrize(
        "changes",
        [
            {"beam_size": 4, "num_hypotheses": 3},
            {"beam_size": 1, "length_penalty": "length", "alpha": 1.5},
            {"prefix": "A dog", "length_penalty": None, "max_extra": 5},
        ],
    )
    def test_it_finds_the_translations_of_the_saved_model(self, module, changes, tmp_path):
        decode = ml_collections.ConfigDict({**DEFAULTS, **LIMITS, **changes})
        write_files(module, decode, tmp_path)
        translator = CTranslate2Translator(tmp_path)
        expected = in_tensorflow(module, "translate_nbest", decode, text=TEXTS)
        found = translator.translate_nbest(TEXTS)
        assert found.keys() == expected.keys()
        assert found["translations"][:, 0].tolist() == expected["translations"][:, 0].tolist()
        np.testing.assert_allclose(found["scores"][:, 0], expected["scores"][:, 0], atol=1e-4)
        np.testing.assert_array_equal(found["truncated"], expected["truncated"])
        print(found, expected)
