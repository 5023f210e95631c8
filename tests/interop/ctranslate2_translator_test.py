"""A folder for CTranslate2 translates as the SavedModel would, whatever the search."""

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from kerasformer.interop.ctranslate2_translator import CTranslate2Translator
from pipelines.runs.config import complete, read_config
from pipelines.runs.weights import load_model
from pipelines.tasks import translation
from pipelines.tasks.translation.ctranslate2_folder import write_files
from pipelines.tasks.translation.translator import Translator
from tests import ROOT

RUN = str(ROOT / "tests" / "stored" / "0.1.0" / "run")
# Of several lengths, and so of several limits; two of them are empty, and one is cut.
TEXTS = ["ein Hund", "zwei", "", "drei Katzen und ein Hund", "   ", "zwei Hunde " * 23, "Hunde 😀"]


@pytest.fixture(scope="module")
def stored():
    """A trained translator, and the search of its run."""
    config = read_config(RUN)
    complete(config, translation.default_config())
    model = load_model(translation.build, config, RUN, config.weights)
    return translation.serving(model, config, RUN), config.decode


class TranslateTest:
    @pytest.mark.integration
    @pytest.mark.parametrize(
        "changes",
        [
            {"beam_size": 4, "num_hypotheses": 3, "max_source_length": 37, "max_ratio": 1.0},
            {"beam_size": 1, "num_hypotheses": 1, "length_penalty": "length", "alpha": 1.5},
        ],
    )
    def test_it_finds_the_translations_of_the_saved_model(self, stored, changes, tmp_path):
        module, decode = stored
        decode = ml_collections.ConfigDict({**decode.to_dict(), **changes})
        write_files(module, decode, tmp_path)
        found = CTranslate2Translator(tmp_path).translate_nbest(TEXTS)
        other = Translator(module.model, module.tokenizer, decode)
        expected = {k: x.numpy() for k, x in other.translate_nbest(tf.constant(TEXTS)).items()}
        assert found.keys() == expected.keys()
        assert found["translations"].tolist() == expected["translations"].tolist()
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
        np.testing.assert_array_equal(found["truncated"], expected["truncated"])

    def test_a_prefix_begins_each_translation_and_counts(self, stored, tmp_path):
        module, decode = stored
        changes = {"prefix": "three", "length_penalty": None, "max_source_length": 37}
        write_files(module, ml_collections.ConfigDict({**decode.to_dict(), **changes}), tmp_path)
        translator, texts = (
            CTranslate2Translator(tmp_path),
            [text for text in TEXTS if text.strip()],
        )
        found = translator.translate(texts)
        assert all(text.startswith(b"three") for text in found["translation"])
        ended = np.flatnonzero(~found["truncated"])
        answers = [found["translation"][row] for row in ended]
        scored = translator.score([texts[row] for row in ended], answers)
        np.testing.assert_allclose(found["score"][ended], scored["log_probability"], atol=1e-4)

    def test_a_folder_without_its_search_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"from '.*': \[Errno 2\] .*decode.json"):
            CTranslate2Translator(tmp_path)
