"""What a language model looks at, and how it goes on with prompts.

One that has learned something is in `tests/language_model_test.py`.
"""

import numpy as np
import pytest
from keras import ops

from kerasformer.decoding import greedy_search
from kerasformer.models import LanguageModel

PROMPTS = np.array([[5, 7, 3, 9], [6, 2, 0, 0]], "int32")


def tiny(**options):
    sizes = {"num_layers": 2, "hidden_dim": 6, "num_heads": 3, "intermediate_dim": 7}
    start = {"kernel_initializer": "glorot_normal"}
    return LanguageModel(11, **(sizes | {"max_length": 13} | start | options))


def continuations(model, prompts, **rules):
    return greedy_search(*model.start_decoding(prompts, 5), 5, **model.special_ids, **rules)


class LanguageModelTest:
    def test_a_future_token_cannot_change_the_past(self):
        model = tiny()
        changed = np.array(PROMPTS)
        changed[:, 2] = 8
        before, after = np.array(model(PROMPTS)), np.array(model(changed))
        np.testing.assert_array_equal(after[:, :2], before[:, :2])
        assert np.all(np.any(after[:, 2:] != before[:, 2:], axis=-1))

    def test_prompts_of_several_lengths_go_on_as_each_alone(self):
        model = tiny()
        together = continuations(model, PROMPTS, min_length=5)
        for row, length in enumerate((4, 2)):
            prompt = PROMPTS[row : row + 1, :length]
            alone = continuations(model, prompt, min_length=5)
            np.testing.assert_array_equal(together.token_ids[row], alone.token_ids[0])
            np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-5)
            # All at once, without a cache.
            whole = np.concatenate([prompt, alone.token_ids[0]], axis=1)
            log_probs = np.array(ops.log_softmax(model(whole)))[0, length - 1 : -1]
            expected = log_probs[np.arange(5), whole[0, length:]].sum()
            np.testing.assert_allclose(alone.scores[0, 0], expected, rtol=1e-5)

    def test_one_token_may_begin_end_and_fill_up_texts(self):
        model = tiny(start_id=10, end_id=10, pad_id=10)
        found = continuations(model, np.array([[10], [4]], "int32"))
        alone = continuations(model, np.array([[4]], "int32"))
        np.testing.assert_array_equal(found.token_ids[1:], alone.token_ids)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match="length=4 and max_length=11"):
            tiny().start_decoding(PROMPTS, 11)
        tiny().start_decoding(PROMPTS, 10)
        with pytest.raises(ValueError, match="received end_id=11"):
            tiny(end_id=11)
        with pytest.raises(ValueError, match="received mixer=None"):
            tiny(mixer=None)
        with pytest.raises(ValueError, match="received variant='GPT-1'"):
            LanguageModel.from_variant("GPT-1")
