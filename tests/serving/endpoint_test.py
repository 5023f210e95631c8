"""Tests of signatures that many threads call: who gets which answer, batches, and limits."""

import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from pipelines.serving.cancellation import Cancellation, Cancelled
from pipelines.serving.endpoint import PIXELS_AT_ONCE, Budget, Endpoint, Limits
from pipelines.serving.payload import RequestError
from pipelines.serving.queue import Batching
from tests.serving import toy_models
from tests.serving.toy_models import picture

THREADS = 16
PATIENT = Batching(max_size=THREADS, wait=2.0, threads=1, lengths=())
QUICK = Batching(max_size=8, wait=0.001, threads=2, lengths=(5, toy_models.LONG))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Saves and loads the models, as a server does."""
    folder, loaded = tmp_path_factory.mktemp("models"), {}
    toys = {"half": toy_models.half_plus(2), "words": toy_models.words()}
    for name, model in {**toys, "colors": toy_models.colors()}.items():
        loaded[name] = tf.saved_model.load(str(toy_models.save(model, folder / name)))
    return loaded


@pytest.fixture
def make(models):
    def make(model, name="serving_default", batching=QUICK, limits=Limits(), pixels=None):  # noqa: B008
        pixels = pixels or Budget(PIXELS_AT_ONCE)
        return Endpoint(name, models[model].signatures, batching, limits, pixels)

    return make


def texts(*words):
    return {"text": np.array([word.encode() for word in words], object)}


def images(*contents):
    return {"image": np.array(contents, object)}


def bomb(side):
    """Forges the size of a small picture."""
    small = picture(7)
    header = b"IHDR" + struct.pack(">II", side, side) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


def at_once(function, arguments):
    """Calls a function in as many threads as there are arguments, all at the same moment."""
    barrier = threading.Barrier(len(arguments))

    def call(argument):
        barrier.wait()
        try:
            return function(argument)
        except RequestError as error:
            return error

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(call, arguments))


class AnswerTest:
    def test_endpoints_under_load_never_answer_for_each_other(self, make):
        loud, quiet = make("words"), make("words", "whisper")

        def ask(number):
            word = f"Word {number} " + "x" * (number % 17)
            for _ in range(23):
                first, _ = loud.call(texts(word, word[::-1]))
                second, _ = quiet.call(texts(word))
                assert first["loud"].tolist() == [w.upper().encode() for w in (word, word[::-1])]
                assert first["length"].tolist() == [len(word)] * 2
                assert second == {"quiet": [word.lower().encode()]}
            return number

        numbers = list(range(THREADS + 3))
        assert at_once(ask, numbers) == numbers

    @pytest.mark.parametrize("batching", [QUICK, PATIENT._replace(wait=0.0), None])
    @pytest.mark.parametrize("rows", [1, 3, 37])
    def test_a_request_of_any_size_has_its_rows_in_order(self, make, batching, rows):
        x = np.arange(rows, dtype=np.float32)
        outputs, measured = make("half", batching=batching).call({"x": x})
        np.testing.assert_array_equal(outputs["y"], x / 2 + 2)
        assert outputs["y"].dtype == np.float32
        assert measured.queue >= 0 and measured.compute >= 0
        assert sum(measured.batches) == (rows if batching else 1)

    def test_requests_form_batches_and_each_batch_is_counted_once(self, make):
        endpoint = make("half", batching=PATIENT)
        found = at_once(lambda n: endpoint.call({"x": np.float32([n])}), list(range(THREADS)))
        assert [outputs["y"].tolist() for outputs, _ in found] == [
            [n / 2 + 2] for n in range(THREADS)
        ]
        sizes = [size for _, measured in found for size in measured.batches]
        assert sum(sizes) == THREADS and max(sizes) > 1

    def test_rows_that_fill_up_a_batch_are_not_counted(self, make):
        endpoint = make("half", batching=Batching(max_size=16, wait=0.0))
        _, measured = endpoint.call({"x": np.zeros(5, np.float32)})
        assert measured.batches == (5,)

    def test_a_signature_whose_rows_differ_in_size_is_computed_alone(self, make):
        endpoint = make("words", "letters", batching=PATIENT)
        outputs, measured = endpoint.call(texts("ab", "cde"))
        assert outputs["letters"].tolist() == [[b"a", b"b", b""], [b"c", b"d", b"e"]]
        assert (measured.queue, measured.batches) == (0.0, (1,))

    def test_a_short_text_does_not_wait_for_a_long_one(self, make):
        endpoint = make("words", "ponder", batching=QUICK._replace(threads=1))
        endpoint.warm_up()  # First calls take longer than the text itself.
        ended = []

        def ask(word):
            endpoint.call(texts(word))
            ended.append(word)

        with ThreadPoolExecutor(2) as threads:
            threads.submit(ask, "l" + "o" * toy_models.LONG + "ng")
            threads.submit(ask, "short")
        assert ended[0] == "short" and len(ended) == 2

    def test_several_inputs_keep_their_names(self, make):
        call = make("words", "repeat").call
        outputs, _ = call(texts("ab", "c") | {"times": np.int32([3, 3])})
        assert outputs["text"].tolist() == [b"ababab", b"ccc"]
        assert outputs["times"].tolist() == [3, 3]

    def test_no_answer_waits_for_warm_up(self, make):
        for model, name in (("half", "any_shape"), ("words", "ponder"), ("colors", "classify")):
            make(model, name).warm_up()


class CancellationTest:
    @pytest.fixture
    def busy(self, make):
        """Makes an endpoint whose only thread is at work, and waits for it in the end."""
        batching = Batching(max_size=8, wait=0.0, threads=1, lengths=())
        endpoint = make("words", "ponder", batching, Limits(characters=10**6))
        endpoint.warm_up()
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(endpoint.call, texts("a" * 101))
            time.sleep(0.1)
            assert not first.done()
            yield endpoint
            assert first.result()[0]["text"].tolist() == [b"a" * 101]

    def calls(self, endpoint, words, cancelled):
        """Calls with each word, cancels some while they wait, and returns what came of each."""
        cancellations = [Cancellation() for _ in words]
        with ThreadPoolExecutor(len(words)) as threads:
            futures = [
                threads.submit(endpoint.call, texts(*word.split()), cancellation)
                for word, cancellation in zip(words, cancellations, strict=True)
            ]
            time.sleep(0.1)
            assert not any(future.done() for future in futures)
            for index in cancelled:
                cancellations[index].cancel()
            return [future.exception() or future.result() for future in futures]

    def test_calls_that_wait_are_left_out_of_their_batch(self, busy):
        gone = "b" * 10**5  # It would take minutes.
        words = ["one", gone, "two three four", f"five {gone}", "six"]
        found = self.calls(busy, words, cancelled=[1, 3])
        assert [type(found[index]) for index in (1, 3)] == [Cancelled] * 2
        kept = [found[index] for index in (0, 2, 4)]
        answers = [outputs["text"].tolist() for outputs, _ in kept]
        assert answers == [[b"one"], [b"two", b"three", b"four"], [b"six"]]
        assert sum(size for _, measured in kept for size in measured.batches) == 5

    def test_a_batch_that_all_have_left_is_not_computed(self, busy):
        found = self.calls(busy, ["b" * 10**5, "c" * 10**5], cancelled=[0, 1])
        assert [type(error) for error in found] == [Cancelled] * 2

    def test_what_is_cancelled_late_or_before_is_no_different(self, make):
        endpoint, cancellation = make("words"), Cancellation()
        outputs, _ = endpoint.call(texts("a"), cancellation)
        cancellation.cancel()
        assert outputs["loud"].tolist() == [b"A"]
        for one in (endpoint, make("words", batching=None)):
            with pytest.raises(Cancelled):
                one.call(texts("a"), cancellation)
            assert one.call(texts("b"), Cancellation())[0]["loud"].tolist() == [b"B"]


class BudgetTest:
    def test_no_more_is_held_at_once_than_there_is(self):
        budget, held, most = Budget(10), [], []

        def work(amount):
            for _ in range(50):
                with budget.hold(amount):
                    held.append(amount)
                    most.append(sum(min(x, 10) for x in held))
                    time.sleep(1e-4)
                    held.remove(amount)

        at_once(work, [1, 2, 3, 4, 5, 6, 10, 11])
        assert held == [] and max(most) <= 10

    def test_images_that_are_too_many_for_it_wait_for_each_other(self, make):
        endpoint = make("colors", batching=QUICK, pixels=Budget(2 * 35))
        files = [picture((10 * n, 7, 7)) for n in range(THREADS)]
        found = at_once(lambda file: endpoint.call(images(file)), files)
        sizes = [size for _, measured in found for size in measured.batches]
        assert sum(sizes) == THREADS and max(sizes) <= 2


class FaultTest:
    def test_a_file_that_is_no_image_fails_alone(self, make):
        endpoint = make("colors", batching=PATIENT)
        colors = [(10 * n, 255 - 10 * n, 7) for n in range(THREADS - 1)]
        files = [picture(color) for color in colors]
        expected = [make("colors", batching=None).call(images(file))[0] for file in files]
        torn = picture((1, 2, 3))[:-20]
        found = at_once(lambda file: endpoint.call(images(file)), [*files, torn])
        assert isinstance(found[-1], RequestError) and found[-1].status == 400
        for (outputs, _), alone in zip(found[:-1], expected, strict=True):
            for name in alone:
                np.testing.assert_array_equal(outputs[name], alone[name])
        sizes = [size for _, measured in found[:-1] for size in measured.batches]
        assert sum(sizes) == THREADS - 1 and max(sizes) > 1

    def test_a_row_that_the_model_refuses_fails_alone(self, make):
        endpoint = make("words", "judge", batching=PATIENT)
        words = [f"good {n}" for n in range(THREADS - 1)] + ["bad"]
        found = at_once(lambda word: endpoint.call(texts(word)), words)
        assert str(found[-1]) == "Expected good words."
        assert [outputs["text"].tolist() for outputs, _ in found[:-1]] == [
            [word.encode()] for word in words[:-1]
        ]

    @pytest.mark.parametrize(
        ("contents", "message"),
        [
            (b"", "empty"),
            (picture(7, kind="TIFF"), "no BMP, GIF, JPEG, PNG or WebP image"),
            (picture(7)[:-20], "Image 1"),
            (picture(7, (31, 37)), "too large: 37 x 31 pixels"),
            (bomb(2**16), "too large"),
        ],
        ids=["empty", "text", "torn", "large", "bomb"],
    )
    def test_an_image_that_cannot_be_used_is_named_by_its_number(self, make, contents, message):
        endpoint = make("colors", limits=Limits(pixels=1000))
        with pytest.raises(RequestError, match=message) as caught:
            endpoint.call(images(picture(7), contents))
        assert caught.value.status == 400 and str(caught.value).startswith("Image 1 cannot be used")

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (texts(*"abcd"), "1 to 3 instances, received 4"),
            (texts(), "1 to 3 instances, received 0"),
            (texts("bär" * 2, "bärs" * 2), "at most 7 characters, received 8"),
        ],
    )
    def test_more_than_the_limits_is_refused(self, make, inputs, message):
        endpoint = make("words", limits=Limits(instances=3, characters=7))
        with pytest.raises(RequestError, match=message) as caught:
            endpoint.call(inputs)
        assert caught.value.status == 400
        assert endpoint.call(texts("a", "b", "exactly"))

    def test_inputs_of_two_lengths_are_for_the_model_to_judge(self, make):
        endpoint = make("words", "repeat")
        outputs, _ = endpoint.call(texts("ab", "c") | {"times": np.int32([2])})
        assert outputs["text"].tolist() == [b"abab", b"cc"]
