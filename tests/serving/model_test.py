"""Tests of a model that is served: versions that come, go and break, and what its messages say.

The messages are read with the classes of `tensorflow-serving-api`, the official client.
"""

import asyncio
import base64
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from pipelines.serving.endpoint import Budget, Limits
from pipelines.serving.model import Model, Settings
from pipelines.serving.payload import RequestError
from tests.serving import toy_models

# No batching: to trace it takes time.
SETTINGS = Settings(batching=None, limits=Limits(instances=7), waiting=3)
AVAILABLE, END = (
    get_model_status_pb2.ModelVersionStatus.State.Value(name) for name in ("AVAILABLE", "END")
)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Saves `x / 2 + n` for some n, each in the folder of its number."""
    folder = tmp_path_factory.mktemp("halves")
    for number in (2, 3, 10):
        toy_models.save(toy_models.half_plus(number), folder / str(number))
    return folder


@pytest.fixture(scope="module")
def model(halves):
    return load(halves / "3")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


@pytest.fixture
def publish(halves, folder):
    """Puts a version into the folder, by name of a half and number."""

    def publish(half, number=None):
        shutil.copytree(halves / str(half), folder / str(number or half))

    return publish


def load(folder, labels=None, **settings):
    model = Model("half", folder, SETTINGS._replace(**settings), labels)
    model.refresh()
    return model


def ask(model, request, verb="predict", number=None, label=None):
    """Asks as the HTTP side does."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return asyncio.run(model.answer(verb, number, label, body))


def half(model, x=4.0, **place):
    (y,) = json.loads(ask(model, {"instances": [x]}, **place).body)["predictions"]
    return y - x / 2


def refusal(function, *arguments, **place):
    with pytest.raises(RequestError) as caught:
        function(*arguments, **place)
    return caught.value.status, str(caught.value)


def status_of(model, number=None, label=None):
    """Reads the status with the official message."""
    text = json.dumps(asyncio.run(model.status(number, label)))
    found = json_format.Parse(text, get_model_status_pb2.GetModelStatusResponse())
    return [(one.version, one.state, one.status) for one in found.model_version_status]


class PixelsTest:
    def test_a_model_waits_for_the_pixels_that_another_one_holds(self, tmp_path):
        toy_models.save(toy_models.colors(), tmp_path / "2")
        pixels = Budget(35)
        model = Model("colors", tmp_path, SETTINGS, pixels=pixels)
        model.refresh()
        picture = base64.b64encode(toy_models.picture(7)).decode()
        with ThreadPoolExecutor() as threads:
            with pixels.hold(1):
                answer = threads.submit(ask, model, {"instances": [{"b64": picture}]})
                with pytest.raises(TimeoutError):
                    answer.result(timeout=0.3)
            assert answer.result(timeout=60).instances == 1


class VersionTest:
    def test_the_newest_is_served_by_number_and_not_by_letter(self, folder, publish):
        publish(2, 9)
        publish(10, 10)
        (folder / "tmp-11").mkdir()
        (folder / "tmp-11" / "saved_model.pb").write_bytes(b"being written")
        model = load(folder)
        assert half(model) == 10
        assert [number for number, *_ in status_of(model)] == [10]

    def test_a_folder_that_is_a_model_itself_is_version_1_or_its_own_number(self, halves, tmp_path):
        assert half(load(halves / "3"), number=3) == 3
        shutil.copytree(halves / "3", tmp_path / "mine")
        assert half(load(tmp_path / "mine"), number=1) == 3

    def test_a_new_version_takes_over_and_the_old_one_ends_what_it_began(self, folder, publish):
        publish(2)
        model = load(folder)
        old = model.find()
        publish(3)
        model.refresh()
        assert half(model) == 3
        assert list(model.versions) == [3]
        assert refusal(half, model, number=2) == (
            404,
            "Model 'half' has no version 2 that is served.",
        )
        # A request that had found the old version still gets its answer from it.
        outputs, _ = old.endpoint("serving_default").call({"x": [4.0]})
        assert outputs["y"] == [4.0]

    def test_requests_during_a_switch_are_all_answered(self, folder, publish):
        publish(2)
        model = load(folder, waiting=20)
        found, ended = [], threading.Event()

        def keep_asking():
            while not ended.is_set():
                found.append(half(model))

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        publish(3)
        model.refresh()
        ended.set()
        for thread in threads:
            thread.join()
        assert half(model) == 3 and {2} <= set(found) <= {2, 3}

    def test_several_versions_and_labels_are_served_side_by_side(self, folder, publish):
        for number in (2, 3, 10):
            publish(number)
        model = load(folder, labels={"stable": 2, "gone": 7}, versions=2)
        assert sorted(model.versions) == [2, 3, 10]
        assert [half(model, number=n) for n in (None, 3, 10)] == [10, 3, 10]
        assert half(model, label="stable") == 2
        assert status_of(model, label="stable")[0][0] == 2
        assert refusal(half, model, label="gone")[0] == 404
        assert refusal(half, model, label="none") == (
            404,
            "Model 'half' has no version with the label 'none'.",
        )
        assert sorted(load(folder, versions=2).versions) == [3, 10]

    def test_a_version_that_is_removed_gives_way_to_the_one_before(self, folder, publish):
        publish(2)
        publish(3)
        model = load(folder)
        shutil.rmtree(folder / "3")
        model.refresh()
        assert half(model) == 2
        shutil.rmtree(folder / "2")
        model.refresh()
        assert half(model) == 2  # better than nothing

    def test_a_broken_version_is_reported_and_the_old_one_goes_on(self, folder, publish):
        publish(2)
        model = load(folder)
        publish(3)
        shutil.rmtree(folder / "3" / "variables")
        model.refresh()
        assert half(model) == 2
        (new, state, broken), (old, fine, ok) = status_of(model)
        assert (new, state, old, fine) == (3, END, 2, AVAILABLE)
        assert (ok.error_code, ok.error_message) == (0, "")
        assert broken.error_code == 2 and "variables" in broken.error_message
        assert (
            status_of(model, number=3)[0][:2] == (3, END) and len(status_of(model, number=3)) == 1
        )
        assert refusal(half, model, number=3)[0] == 404
        # Its files are mended: it takes over.
        shutil.rmtree(folder / "3")
        publish(3)
        for _ in range(2):  # They may be being written still, until they rest between two looks.
            model.refresh()
        assert half(model) == 3
        assert [(number, state) for number, state, _ in status_of(model)] == [(3, AVAILABLE)]

    def test_a_start_falls_back_to_the_newest_version_that_works(self, folder, publish):
        publish(2)
        for number, contents in ((7, b""), (8, b"garbage")):
            (folder / str(number)).mkdir()
            (folder / str(number) / "saved_model.pb").write_bytes(contents)
        model = load(folder)
        assert half(model) == 2
        assert [(number, state) for number, state, _ in status_of(model)] == [
            (8, END),
            (7, END),
            (2, AVAILABLE),
        ]

    def test_a_folder_with_nothing_to_serve_says_why(self, tmp_path, folder, publish):
        assert "holds no SavedModel" in load(tmp_path / "none").load_error()
        publish(2)
        for contents, words in (
            (b"", "is empty"),
            (b"garbage", "is damaged, or no SavedModel"),
            (saved_model_pb2.SavedModel(saved_model_schema_version=1).SerializeToString(), "has 0"),
        ):
            (folder / "2" / "saved_model.pb").write_bytes(contents)
            model = load(folder)
            assert model.load_error().startswith(f"version 2: its saved_model.pb {words}")
        words = "Model 'half' has no version that could be loaded; try again later."
        assert refusal(half, model) == (503, words)
        assert [(number, state) for number, state, _ in status_of(model)] == [(2, END)]

    def test_a_model_that_loads_and_does_not_run_is_not_served(self, folder):
        def fail(x):
            raise RuntimeError("torn")

        @tf.function(input_signature=[toy_models.NUMBERS])
        def predict(x):
            return {"y": tf.numpy_function(fail, [x], tf.float32)}

        toy_models.save((tf.Module(), {"serving_default": predict}), folder / "1")
        model = load(folder, trust=True)
        assert not model.versions and "RuntimeError: torn" in model.load_error()
        assert "the operation PyFunc" in load(folder).load_error()


class AnswerTest:
    def test_the_examples_of_the_format_have_their_answers(self, model, halves):
        """The requests that TensorFlow Serving documents for its two toy models."""
        plus_two = load(halves / "2")
        for of, verb, request, answer in [
            (model, "predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
            (
                model,
                "regress",
                {
                    "signature_name": "tensorflow/serving/regress",
                    "examples": [{"x": 1.0}, {"x": 2.0}],
                },
                {"results": [3.5, 4.0]},
            ),
            (
                plus_two,
                "predict",
                {"signature_name": "any_shape", "instances": [[1.0, 2.0], [3.0, 4.0]]},
                {"predictions": [[2.5, 3.0], [3.5, 4.0]]},
            ),
            (plus_two, "predict", {"inputs": [3.0, 4.0]}, {"outputs": [3.5, 4.0]}),
            (
                plus_two,
                "classify",
                {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}]},
                {"results": [[["", 12.0]]]},
            ),
            (
                plus_two,
                "classify",
                {"signature_name": "classify_x_to_y", "context": {"x": [10.0]}, "examples": [{}]},
                {"results": [[["", 7.0]]]},
            ),
        ]:
            assert json.loads(ask(of, request, verb).body) == answer

    @pytest.mark.parametrize(
        ("verb", "request_", "message"),
        [
            ("predict", {"instances": [1], "signature_name": "none"}, "no signature 'none'"),
            ("predict", {"instances": ["x"]}, "type float32"),
            ("predict", {"instances": list(range(8))}, "1 to 7 instances, received 8"),
            ("predict", {"examples": [{"x": 1.0}]}, "'instances'"),
            ("classify", {"examples": [{"x": 1.0}]}, "does not classify"),
            ("regress", {"signature_name": "classify_x_to_y", "examples": [{}]}, "not regress"),
            ("classify", {"examples": {"x": [1.0]}}, "list of objects"),
            ("classify", {"examples": [[{"x": 1.0}]]}, "list of objects"),
            ("regress", {"context": [{"x": 1.0}]}, "list of objects"),
            ("regress", {"examples": [{"x": [1.0, 2.0]}]}, "shape"),
            ("regress", {"examples": [{"x": None}]}, "type"),
            ("regress", {"examples": []}, "something in it"),
        ],
    )
    def test_what_cannot_be_answered_is_refused(self, model, verb, request_, message):
        status, text = refusal(ask, model, request_, verb)
        assert status == 400 and message in text

    def test_an_answer_tells_what_it_took(self, model):
        answer = ask(model, {"instances": [1.0, 2.0, 5.0]})
        assert (answer.version, answer.signature, answer.instances) == (3, "serving_default", 3)
        assert list(answer.seconds) == ["read", "queue", "compute", "write"]
        assert all(seconds >= 0 for seconds in answer.seconds.values())

    def test_more_requests_than_may_wait_are_refused_and_none_is_lost(self, tmp_path):
        toy_models.save(toy_models.words(), tmp_path)
        model = load(tmp_path, waiting=2)
        slow = json.dumps({"signature_name": "ponder", "instances": ["long" * 5]}).encode()

        async def ask_many():
            asked = [model.answer("predict", None, None, slow) for _ in range(5)]
            return await asyncio.gather(*asked, return_exceptions=True)

        found = asyncio.run(ask_many())
        refused = [one for one in found if isinstance(one, RequestError)]
        assert [one.status for one in refused] == [503] * 3
        assert [json.loads(one.body) for one in found if one not in refused] == [
            {"predictions": ["long" * 5]}
        ] * 2
        assert ask(model, slow)  # The places are free again.


class MessageTest:
    def test_metadata_is_what_the_saved_model_says(self, halves):
        model = load(halves / "10")
        found = asyncio.run(model.metadata(None, None))
        kind = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        # In JSON the server's answer leaves the kind out.
        signatures = {"@type": kind, **found["metadata"]["signature_def"]}
        found = json.loads(json.dumps(found | {"metadata": {"signature_def": signatures}}))
        read = json_format.ParseDict(found, get_model_metadata_pb2.GetModelMetadataResponse())
        assert (read.model_spec.name, read.model_spec.version.value) == ("half", 10)
        unpacked = get_model_metadata_pb2.SignatureDefMap()
        assert read.metadata["signature_def"].Unpack(unpacked)
        saved = saved_model_pb2.SavedModel.FromString(
            (halves / "10" / "saved_model.pb").read_bytes()
        )
        expected = saved.meta_graphs[0].signature_def
        assert dict(unpacked.signature_def) == dict(expected) and len(expected) > 3

    def test_status_of_a_served_version_is_the_documented_one(self, model):
        assert asyncio.run(model.status(None, None)) == {
            "model_version_status": [
                {
                    "version": "3",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }

    def test_a_version_that_is_not_there_has_no_status(self, model):
        for place in ((2, None), (None, "none")):
            with pytest.raises(RequestError) as caught:
                asyncio.run(model.status(*place))
            assert caught.value.status == 404
