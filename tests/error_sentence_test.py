"""Tests of exceptions as sentences: what a user reads where something went wrong."""

import pytest
import tensorflow as tf

from kerasformer.layers import MultiHeadAttention
from pipelines.error_sentence import sentence


class SentenceTest:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (FileNotFoundError(2, "No such file", "a.txt"), "a.txt: No such file"),
            (OSError(28, "No space left on device"), "No space left on device"),
            (ValueError("Expected a\n  b."), "Expected a b."),
            (FloatingPointError(), "FloatingPointError"),
            (
                tf.errors.NotFoundError(None, None, "{{function_node f}} a.txt; none [Op:Read]"),
                "a.txt; none",
            ),
            (tf.errors.DataLossError(None, None, "torn\n\t [[node]]"), "torn"),
            (
                tf.errors.InvalidArgumentError(
                    None, None, "f\n<stack traces unavailable>\nassertion failed: [Too few.] [7]\n"
                ),
                "Too few.",
            ),
            (
                tf.errors.InvalidArgumentError(
                    None,
                    None,
                    'At\n  File "a", line 7\n\n  File "b", line 3\n\nInvalid PNG\n\t [[n]]',
                ),
                "Invalid PNG",
            ),
            (
                tf.errors.InvalidArgumentError(
                    None,
                    None,
                    'in user code:\n\n    File "a", line 7, in f  *\n        g()\n\n'
                    "    InvalidArgumentError: {{function_node f}} Invalid PNG [Op:Read] name: \n",
                ),
                "Invalid PNG",
            ),
            (
                tf.errors.InvalidArgumentError(
                    None, None, "Expected 'tf.Tensor(False)' to be true. Summarized data: b'No.'\n7"
                ),
                "No.",
            ),
            (
                ValueError('in user code:\n\n  File "a.py", line 7\n\n    ValueError: Torn.'),
                "Torn.",
            ),
            (
                KeyError(AttributeError("'stepz'\nDid you mean steps?")),
                "'stepz' Did you mean steps?",
            ),
            (AttributeError('No "a". Other fields present: "{...}"'), 'No "a".'),
        ],
    )
    def test_an_error_is_one_line(self, error, text):
        assert sentence(error) == text

    @pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
    def test_an_error_inside_a_layer_is_what_the_layer_said(self, wrap):
        layer = MultiHeadAttention(6, 3)
        call = wrap(lambda x: layer(x, x, use_causal_mask=True))
        with pytest.raises(ValueError) as caught:
            call(tf.ones((2, 5, 6)))
        expected = "Expected context=None with use_causal_mask=True, received a context of shape="
        assert sentence(caught.value) == f"{expected}(2, 5, 6)."
