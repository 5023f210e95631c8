"""Tests of the JSON of requests and answers: what is read, what is written, and what is refused."""

import base64
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from pipelines.serving import payload
from pipelines.serving.payload import RequestError

INTEGERS = (tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32, tf.uint32, tf.int64, tf.uint64)
FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
TEXTS = {"text": tf.TensorSpec((None,), tf.string)}
MIXED = {
    "tag": tf.TensorSpec((None,), tf.string),
    "signal": tf.TensorSpec((None, 5), tf.int64),
    "sensor": tf.TensorSpec((None, 2, 2), tf.float32),
}


def spec(dtype=tf.float32, shape=None):
    return tf.TensorSpec(shape, dtype)


def read(body, specs):
    """Reads a request as the server does, from bytes on."""
    return payload.inputs(payload.parse(body), specs)


def refusal(function, *arguments):
    with pytest.raises(RequestError) as caught:
        function(*arguments)
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)
    return str(caught.value)


class RequestTest:
    def test_rows_and_columns_with_names_are_the_same_arrays(self):
        rows = b"""{"instances": [
            {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
            {"sensor": [[4, 5], [6, 8]], "tag": "bar", "signal": [3, 4, 1, 2, 5]}]}"""
        columns = b"""{"signature_name": "any", "inputs": {
            "tag": ["foo", "bar"],
            "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]],
            "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]}}"""
        (first, is_rows), (second, is_columns) = read(rows, MIXED), read(columns, MIXED)
        assert (is_rows, is_columns) == (True, False)
        assert list(first) == list(second) == list(MIXED)
        for name, of in MIXED.items():
            np.testing.assert_array_equal(first[name], second[name])
            assert first[name].dtype == of.dtype.as_numpy_dtype
        assert first["tag"].tolist() == [b"foo", b"bar"]
        assert first["sensor"][1].tolist() == [[4, 5], [6, 8]]

    @pytest.mark.parametrize(
        "body",
        [
            {"instances": ["foo", "bär"]},
            {"instances": [{"text": "foo"}, {"text": "bär"}]},
            {"inputs": ["foo", "bär"]},
            {"inputs": {"text": ["foo", "bär"]}},
            {"instances": [{"b64": "Zm9v"}, "bär"]},
            {"instances": [{"text": {"b64": "Zm9v"}}, {"text": {"b64": "YsOkcg=="}}]},
            {"inputs": [{"b64": "Zm9v"}, {"b64": "YsOkcg=="}]},
        ],
    )
    def test_one_input_needs_no_name_and_bytes_are_base64(self, body):
        for ensure_ascii in (True, False):
            encoded = json.dumps(body, ensure_ascii=ensure_ascii).encode()
            found, is_rows = read(encoded, TEXTS)
            assert found["text"].tolist() == [b"foo", "bär".encode()]
            assert is_rows == ("instances" in body)

    def test_bytes_of_any_kind_pass_through_base64(self):
        contents = bytes(range(256))
        body = json.dumps({"inputs": {"b64": base64.b64encode(contents).decode()}}).encode()
        found, _ = read(body, {"x": tf.TensorSpec((), tf.string)})
        assert found["x"].item() == contents

    def test_a_column_request_may_have_inputs_of_other_lengths(self):
        specs = {"a": spec(tf.int32, (None,)), "b": spec(tf.float32, ())}
        found, _ = read(b'{"inputs": {"a": [2, 3, 5], "b": 0.5}}', specs)
        assert (found["a"].tolist(), found["b"].item()) == ([2, 3, 5], 0.5)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "not JSON"),
            (b"instances = [1, 2]", "not JSON"),
            (b'{"instances": ["a"]', "not JSON"),
            (b'{"instances": ["a"]}}', "not JSON"),
            (b'{"instances": ["caf\xe9"]}', "byte 19 is not UTF-8."),
            (b'{"instances": ["a\n"]}', "not JSON"),
            (b"[" * 200_003, "lists or objects that are nested too deep."),
            (b'{"instances": [' + b"7" * 5003 + b"]}", "has an integer of more than 4300 digits."),
            (b'["a"]', "JSON object, received a list."),
            (b"null", "JSON object, received null."),
            (b"{}", "either 'instances' or 'inputs'"),
            (b'{"instances": ["a"], "inputs": ["a"]}', "either"),
            (b'{"instances": []}', "with something in it"),
            (b'{"instances": "a"}', "to be a list"),
            (b'{"instances": {"text": "a"}}', "to be a list"),
            (b'{"instances": [null]}', "strings, received null."),
            (b'{"instances": [1]}', "strings, received a number."),
            (b'{"instances": ["a", ["b"]]}', "of two lengths"),
            (b'{"instances": [["b"], "a"]}', "of two lengths"),
            (b'{"instances": [["a"]]}', r"shape [any], received [1, 1]"),
            (b'{"instances": ["a", {"text": "b"}]}', "Instance 0 does not have"),
            (b'{"instances": [{"text": "a"}, "b"]}', "Instance 1 does not have"),
            (b'{"instances": [{"text": "a"}, {"next": "b"}]}', "Instance 1 does not have"),
            (b'{"instances": [{"next": "a"}]}', "'next'"),
            (b'{"instances": [{}]}', "missing: 'text'"),
            (b'{"inputs": {}}', "missing: 'text'"),
            (b'{"inputs": {"text": ["a"], "more": [1]}}', "no input 'more'"),
            (b'{"inputs": [{"b64": "Zm9"}]}', "not base64"),
            (b'{"inputs": [{"b64": "Zm9v\\n"}]}', "not base64"),
            (b'{"inputs": [{"b64": "Z\xc3\xa4"}]}', "not base64"),
            (b'{"inputs": [{"b64": 7}]}', "strings, received an object."),
            (b'{"inputs": [{"b64": "Zm9v", "more": 1}]}', "strings, received an object."),
            (b'{"inputs": ["\\ud83d"]}', "half of a character"),
            (b'{"inputs": ' + b"[" * 41 + b"]" * 41 + b"}", "strings, received a list"),
        ],
    )
    def test_what_is_wrong_is_said(self, body, message):
        assert message in refusal(read, body, TEXTS)

    def test_several_inputs_need_names(self):
        for body in (b'{"instances": ["foo", "bar"]}', b'{"inputs": ["foo"]}'):
            assert "['sensor', 'signal', 'tag']" in refusal(read, body, MIXED)

    def test_the_signature_is_a_name(self):
        for request in ({}, {"signature_name": ""}):
            assert payload.name_of(request, "default") == "default"
        assert payload.name_of({"signature_name": "embed"}, "default") == "embed"
        for wrong in (5, 0, None, [], False, {"a": 1}):
            refusal(payload.name_of, {"signature_name": wrong}, "default")


class ArrayTest:
    @pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
    def test_the_ends_of_a_type_are_read_and_what_is_beyond_is_not(self, dtype):
        least, most = (dtype.min, dtype.max) if dtype.is_integer else (-2.5, 1.5)
        found = payload.array("x", [[least, 0], [1, most]], spec(dtype))
        assert found.dtype == dtype.as_numpy_dtype
        assert found.tolist() == [[least, 0], [1, most]]
        if dtype.is_integer:
            low, high = f"below {least}, the least", f"above {most}, the largest"
            for beyond, words in (
                (least - 1, low),
                (-(10**30), low),
                (most + 1, high),
                (10**30, high),
            ):
                text = refusal(payload.array, "x", [[0], [beyond]], spec(dtype))
                assert text == f"Input 'x' has a number {words} {dtype.name}."

    def test_a_number_too_large_for_a_float_is_infinite_and_one_too_small_is_zero(self):
        body = b'{"inputs": [1.7976931348623157e308, -1e999, 2.2250738585072014e-308, 1e30, NaN]}'
        found, _ = read(body, {"x": spec()})
        expected = np.float32([math.inf, -math.inf, 0, 1e30, math.nan])
        np.testing.assert_array_equal(found["x"], expected)
        assert payload.array("x", [1435774380], spec()) == np.float32(1435774336)
        assert payload.array("x", [10**30, 1], spec()).tolist() == [np.float32(1e30), 1]
        assert "more than 308 digits" in refusal(payload.array, "x", [-(10**400)], spec())

    @pytest.mark.parametrize(
        ("dtype", "wrong"),
        [
            *((dtype, wrong) for dtype in (tf.int32, tf.uint8) for wrong in (1.0, True, "1", None)),
            *((tf.float32, wrong) for wrong in (False, "1", None, {"b64": "Zm9v"})),
            *((tf.bool, wrong) for wrong in (1, 0.0, "true", None)),
        ],
    )
    def test_nothing_of_another_type_is_turned_into_it(self, dtype, wrong):
        right = True if dtype.is_bool else 1
        for value in (wrong, [wrong], [right, wrong], [[right], [wrong]]):
            assert dtype.name in refusal(payload.array, "x", value, spec(dtype))

    @pytest.mark.parametrize("dtype", [tf.complex64, tf.complex128])
    def test_complex_numbers_are_refused_both_ways(self, dtype):
        words = f"is of type {dtype.name}, which JSON does not have."
        assert words in refusal(payload.array, "x", [1], spec(dtype))
        outputs = {"x": np.array([1 + 2j], dtype.as_numpy_dtype), "y": np.array([1.0])}
        for is_rows in (True, False):
            assert refusal(payload.answer, outputs, is_rows) == f"Output 'x' {words}"

    @pytest.mark.parametrize("ragged", [[1, [2]], [[1], 2], [[1, 2], [3]], [[[1], [2]], [[3]]]])
    @pytest.mark.parametrize("dtype", [tf.int32, tf.float32])
    def test_lists_of_two_lengths_are_refused(self, ragged, dtype):
        assert "two lengths" in refusal(payload.array, "x", ragged, spec(dtype))

    def test_nesting_that_goes_too_deep_is_refused(self):
        deep = json.loads(b"[" * 701 + b"]" * 701)
        refusal(payload.array, "x", deep, spec())
        refusal(payload.array, "x", deep, spec(tf.string))

    @pytest.mark.parametrize(
        ("shape", "value", "fits"),
        [
            ((), 7, True),
            ((), [7], False),
            ((None,), [], True),
            ((None, 2), [[3, 5]], True),
            ((None, 2), [[3, 5, 7]], False),
            ((None, 2), [3, 5], False),
            ((None, None), [[3, 5, 7]], True),
            (None, [[[7]]], True),
        ],
    )
    def test_the_shape_is_that_of_the_signature(self, shape, value, fits):
        of = spec(tf.int32, shape)
        if fits:
            assert payload.array("x", value, of).tolist() == value
        else:
            assert "shape" in refusal(payload.array, "x", value, of)

    def test_bools_are_bools(self):
        assert payload.array("x", [True, False], spec(tf.bool)).tolist() == [True, False]


class AnswerTest:
    INT = np.arange(1, 13, dtype=np.int32).reshape(2, 3, 2)

    def test_one_output_has_no_name(self):
        rows, columns = (json.loads(payload.answer({"x": self.INT}, way)) for way in (True, False))
        assert rows == {"predictions": self.INT.tolist()}
        assert columns == {"outputs": self.INT.tolist()}

    def test_several_outputs_have_names_and_bytes_are_base64(self):
        outputs = {
            "int_tensor": self.INT,
            "str_tensor": np.array([[b"foo"], ["bä".encode()]], object),
            "str_tensor_bytes": np.array([[b"hello"], [b"\xff"]], object),
            "double": np.array([8.0, 9.0]),
            "flag": np.array([True, False]),
        }
        rows = json.loads(payload.answer(outputs, is_rows=True))["predictions"]
        columns = json.loads(payload.answer(outputs, is_rows=False))["outputs"]
        assert rows[1] == {
            "int_tensor": self.INT[1].tolist(),
            "str_tensor": ["bä"],
            "str_tensor_bytes": [{"b64": "/w=="}],
            "double": 9.0,
            "flag": False,
        }
        assert columns == {key: [row[key] for row in rows] for key in outputs}

    def test_text_that_is_no_utf8_is_answered_all_the_same(self):
        assert json.loads(payload.answer({"x": np.array([b"a\xff"], object)}, True)) == {
            "predictions": ["a\ufffd"]
        }

    def test_floats_have_the_digits_that_tell_them_apart_and_a_point(self):
        values = np.float32([0.2, 9e6, 999999, 0.0003, 3e-05, 555557.5, 16777217, -0.0])
        text = payload.answer({"x": values}, True).decode()
        assert text == (
            '{"predictions":[0.2,9000000.0,999999.0,0.0003,3e-05,555557.5,16777216.0,-0.0]}'
        )
        random = np.random.default_rng(7).integers(0, 2**32, 9973, np.uint32).view(np.float32)
        again = np.float32(json.loads(payload.answer({"x": random}, True))["predictions"])
        np.testing.assert_array_equal(again, random)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_numbers_that_are_none_are_the_words_of_the_format(self, dtype):
        values = np.array([math.nan, math.inf, 3, -math.inf], dtype.as_numpy_dtype)
        assert (
            payload.answer({"x": values}, True) == b'{"predictions":[NaN,Infinity,3.0,-Infinity]}'
        )

    @pytest.mark.parametrize("dtype", INTEGERS)
    def test_integers_are_whole_to_the_end(self, dtype):
        values = np.array([dtype.min, dtype.max], dtype.as_numpy_dtype)
        expected = f'{{"predictions":[{dtype.min},{dtype.max}]}}'
        assert payload.answer({"x": values}, True).decode() == expected

    def test_no_rows_are_an_empty_list(self):
        outputs = {"a": np.zeros((0, 3), np.float32), "b": np.zeros((0,), object)}
        assert payload.answer(outputs, True) == b'{"predictions":[]}'
        assert payload.answer(outputs, False) == b'{"outputs":{"a":[],"b":[]}}'

    def test_outputs_without_rows_are_answered_in_columns_alone(self):
        scalar = {"a": np.zeros((3,), np.float32), "b": np.array(b"text", object)}
        uneven = {"a": np.zeros((3,), np.float32), "b": np.zeros((2,), np.float32)}
        for outputs in (scalar, uneven):
            assert "'inputs'" in refusal(payload.answer, outputs, True)
            assert json.loads(payload.answer(outputs, False))["outputs"]["a"] == [0.0] * 3

    def test_a_sentence_that_quotes_half_a_character_can_be_written(self):
        message = refusal(read, b'{"inputs": {"\\ud83d": ["a"]}}', TEXTS)
        assert json.loads(payload.dump({"error": message}))["error"].startswith("The signature")
