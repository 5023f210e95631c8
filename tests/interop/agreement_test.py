"""Whether an exported model agrees: what is compared, and how, and what is said when it fails."""

import numpy as np
import pytest
import tensorflow as tf

from kerasformer.interop import agreement


@tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
def describe(x):
    names = tf.constant(["odd", "größer"])
    return {
        "scaled": 1000.0 * x,
        "large": x > 3,
        "name": tf.gather(names, tf.cast(x > 3, tf.int32)),
    }


SAMPLES = [{"x": [2.0]}, {"x": [3.0, 5.0, 0.0]}]


def answer(sample, factor=1.0, **changes):
    """Answers as `describe` does, in NumPy, with texts that are `str`."""
    x = sample["x"]
    names = np.array(["größer" if large else "odd" for large in x > 3], object)
    return {"scaled": factor * 1000 * x, "large": x > 3, "name": names, **changes}


def difference(run, tolerance=1e-4, function=describe):
    concrete = function.get_concrete_function()
    return agreement.largest_difference(concrete, run, SAMPLES, tolerance, "Abacus")


class TraceTest:
    def test_a_function_without_a_signature_is_one_sentence(self):
        with pytest.raises(ValueError, match="with an input_signature, received one without"):
            agreement.traced(tf.function(lambda x: {"y": x}))

    def test_a_function_that_returns_no_dict_is_one_sentence(self):
        with pytest.raises(ValueError, match="returns a dict of tensors, received .* Tensor"):
            agreement.traced(tf.function(lambda x: x, describe.input_signature))


class DifferenceTest:
    def test_no_samples_are_one_sentence(self):
        with pytest.raises(ValueError, match="Expected samples"):
            agreement.largest_difference(describe, answer, [], 1e-4, "Abacus")

    def test_equal_answers_differ_by_nothing(self):
        assert difference(answer) == 0.0

    def test_the_largest_difference_of_all_samples_is_a_share_of_the_largest_number(self):
        def run(sample):
            return answer(sample, scaled=1000 * sample["x"] + np.where(sample["x"] == 0, 0.3, 0.1))

        assert difference(run) == pytest.approx(0.3 / 5000, rel=0.01)

    def test_numbers_below_1_differ_by_what_they_differ(self):
        @tf.function(input_signature=describe.input_signature)
        def shrink(x):
            return {"y": x / 1000}

        found = difference(lambda x: {"y": x["x"] / 1000 + 7e-5}, function=shrink)
        assert found == pytest.approx(7e-5, rel=0.01)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"scaled": np.float32([2001])}, "Abacus gives another scaled .*difference=5.0e-04"),
            ({"scaled": np.float32([np.nan])}, "another scaled .*difference=nan"),
            ({"scaled": np.float32([[2000]])}, r"another scaled of shape \(1, 1\) .* shape \(1,\)"),
            ({"large": np.array([True])}, "another large"),
            ({"name": np.array(["even"], object)}, "another name"),
        ],
    )
    def test_another_answer_is_one_sentence(self, changes, sentence):
        with pytest.raises(ValueError, match=sentence) as caught:
            difference(lambda sample: answer(sample, **changes))
        assert "\n" not in str(caught.value)

    def test_in_another_precision_norms_differ_and_texts_are_counted(self):
        def run(sample):
            return answer(sample, factor=1.1, name=np.array(["odd"] * len(sample["x"]), object))

        concrete = describe.get_concrete_function()
        share = SAMPLES, 0.2, "Abacus", False
        assert agreement.largest_difference(concrete, run, *share) == pytest.approx(0.1, rel=1e-5)
        with pytest.raises(ValueError, match="another scaled"):
            agreement.largest_difference(concrete, run, SAMPLES, 0.05, "Abacus", False)
        assert agreement.share_of_equal(concrete, run, SAMPLES, "Abacus") == (3, 4)

    def test_a_runtime_that_fails_is_one_sentence(self):
        def run(sample):
            raise RuntimeError("no beads left\nat bead 7")

        with pytest.raises(ValueError, match="^Abacus cannot run .* model: no beads left$"):
            difference(run)


class WriteTest:
    def test_the_old_file_stays_when_a_new_one_cannot_be_written(self, tmp_path):
        agreement.write_whole(tmp_path / "model", b"old")
        with pytest.raises(TypeError):
            agreement.write_whole(tmp_path / "model", "no bytes")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
