"""Tests of the HTTP side, over a socket: routes, statuses, limits, keys, and pages."""

import base64
import contextlib
import functools
import gzip
import http.client
import json
import re
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.serving import keys, rest
from pipelines.serving.connection import Connection
from pipelines.serving.model import Model, Settings
from pipelines.serving.queue import Batching
from pipelines.serving.rest import Options, State
from tests.serving import toy_models
from tests.serving.in_thread import answering
from tests.serving.toy_models import picture

JSON = {"Content-Type": "application/json"}
WORDS = "/v1/models/words"
PREDICT = f"{WORDS}:predict"
LONG = {"signature_name": "ponder", "instances": ["long" * 5]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder, models = tmp_path_factory.mktemp("models"), {}
    for name, toy in (("words", toy_models.words()), ("colors", toy_models.colors())):
        toy_models.save(toy, folder / name / "7")
        models[name] = Model(name, folder / name, Settings(batching=None), {"stable": 7})
        models[name].refresh()
    return models


@contextlib.contextmanager
def running(models, state=None, **options):
    """Runs the application at a free port, which it gives."""
    state = state or State(ready=True)
    with answering(rest.build(models, Options(**options), state)) as port:
        yield port


@pytest.fixture(scope="module")
def port(models):
    with running(models, max_body=100_003) as port:
        yield port


def ask(port, method, path, body=None, headers=JSON):  # noqa: B006
    """Returns status, headers and body; a body that is no bytes is written as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, 60)) as connection:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def error_of(port, method, path, body=None, headers=JSON):  # noqa: B006
    status, headers, body = ask(port, method, path, body, headers)
    assert headers["Content-Type"] == "application/json"
    (key, text), *more = json.loads(body).items()
    assert key == "error" and text and not more
    return status, text


def raw(port, *parts):
    """Sends bytes, piece by piece, and returns what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        for part in parts:
            connection.sendall(part)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def head(path, *lines):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


class RouteTest:
    @pytest.mark.parametrize("place", ["", "/versions/7", "/labels/stable"])
    def test_each_route_answers_for_newest_version_and_label(self, port, place):
        path = WORDS + place
        status, headers, body = ask(port, "GET", path)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(body)["model_version_status"][0]["version"] == "7"
        told = ask(port, "HEAD", path)
        assert (told[0], told[1]["Content-Length"], told[2]) == (200, str(len(body)), b"")
        status, _, body = ask(port, "GET", f"{path}/metadata")
        assert status == 200 and json.loads(body)["model_spec"]["name"] == "words"
        status, headers, body = ask(port, "POST", f"{path}:predict", {"instances": ["ä"]})
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(body) == {"predictions": [{"length": 2, "loud": "ä"}]}
        request = {"inputs": ["b"], "signature_name": "whisper"}
        assert json.loads(ask(port, "POST", f"{path}:predict", request)[2]) == {"outputs": ["b"]}
        assert error_of(port, "POST", f"{path}:regress", {"examples": [{"text": "a"}]})[0] == 400

    def test_pictures_are_classified(self, port):
        encoded = {"b64": base64.b64encode(picture((255, 0, 51))).decode()}
        body = {"examples": [{"image": encoded}]}
        status, _, body = ask(port, "POST", "/v1/models/colors:classify", body)
        (pairs,) = json.loads(body)["results"]
        assert status == 200 and [name for name, _ in pairs] == ["red", "blue", "green"]
        assert [share for _, share in pairs] == pytest.approx([1.0, 0.2, 0.0])

    def test_the_type_of_a_body_is_not_asked_for(self, port):
        status, _, body = ask(port, "POST", PREDICT, {"instances": ["a"]}, headers={})
        assert status == 200 and b"predictions" in body

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1/models/none", 404),
            ("POST", "/v1/models/none:predict", 404),
            ("GET", f"{WORDS}/versions/8", 404),
            ("POST", f"{WORDS}/versions/8:predict", 404),
            ("GET", f"{WORDS}/labels/none", 404),
            ("GET", f"{WORDS}/versions/seven", 400),
            ("GET", f"{WORDS}/versions/-7", 400),
            ("GET", f"{WORDS}/versions/18446744073709551616", 400),
            ("GET", f"{WORDS}/versions/%D9%A7", 400),
            ("POST", PREDICT, 400),
            ("POST", f"{WORDS}:translate", 404),
            ("GET", f"{WORDS}:translate", 404),
            ("OPTIONS", "/none", 404),
            ("HEAD", "/v1/models/none", 404),
            ("GET", "/v1/models", 404),
            ("GET", f"{WORDS}/", 404),
            ("GET", "/", 404),
            ("GET", "/v1/models/%ff%00%0a", 404),
            ("GET", "/v1/models/../../etc/passwd", 404),
            ("GET", "/docs/..%2f", 404),
        ],
    )
    def test_what_is_not_there_has_its_status(self, port, method, path, status):
        if method == "HEAD":
            assert ask(port, method, path)[0] == status
        else:
            assert error_of(port, method, path)[0] == status

    def test_a_request_that_is_no_http_harms_nobody(self, port):
        for garbage in (b"garbage\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"\0" * 5000):
            assert raw(port, garbage).startswith(b"HTTP/1.1 4")
        assert ask(port, "GET", "/healthz")[0] == 200


class LimitTest:
    def test_a_body_that_is_too_large_is_refused_before_it_has_come(self, port):
        answer = raw(port, head(PREDICT, "Content-Length: 100004", "Connection: close"))
        assert answer.startswith(b"HTTP/1.1 413") and b"more than 100003 bytes" in answer

    def test_a_body_whose_length_nobody_told_is_counted(self, port):
        # One byte too many, so that nothing is left to send when the answer comes.
        pieces = [b"1000\r\n" + b" " * 0x1000 + b"\r\n"] * 24
        last = b"6a4\r\n" + b" " * 0x6A4 + b"\r\n"
        start = head(PREDICT, "Transfer-Encoding: chunked", "Connection: close")
        assert raw(port, start, *pieces, last).startswith(b"HTTP/1.1 413")
        body = b'12\r\n{"instances":["a"]}\r\n0\r\n\r\n'
        assert raw(port, start, body.replace(b"12", b"13")).startswith(b"HTTP/1.1 200")

    def test_one_who_sends_too_slowly_and_one_who_asks_too_much_are_not_waited_for(self, models):
        with running(models, seconds=0.05) as port:
            answer = raw(port, head(PREDICT, "Content-Length: 99"), b'{"inst')
            assert answer.startswith(b"HTTP/1.1 408") and b"longer than 0.05 s" in answer
            busy = LONG | {"instances": LONG["instances"] * 3}
            status, text = error_of(port, "POST", PREDICT, busy)
            assert status == 408
        assert json.loads(ask_again(models)) == {"predictions": ["a"]}

    def test_too_many_requests_are_told_to_come_back(self, models, tmp_path):
        toy_models.save(toy_models.words(), tmp_path)
        small = Model("words", tmp_path, Settings(batching=None, waiting=1))
        small.refresh()
        with running({"words": small}) as port:
            found = []
            threads = [
                threading.Thread(target=lambda: found.append(ask(port, "POST", PREDICT, LONG)))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        statuses = sorted(status for status, *_ in found)
        assert statuses[0] == 200 and statuses[-1] == 503
        for status, headers, body in found:
            assert status in (200, 503)
            assert headers.get("Retry-After") == ("1" if status == 503 else None)
            assert json.loads(body)

    def test_beyond_the_connections_only_health_is_told(self, models, caplog):
        caplog.set_level("INFO", "kerasformer.access")
        options = {
            "http": functools.partial(Connection, seconds=60),
            "limit_concurrency": 2,
        }
        app = rest.build(models, Options(), State(ready=True))
        with answering(app, **options) as port, contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for method, path in (("POST", PREDICT), ("GET", WORDS)):
                status, headers, body = ask(port, method, path)
                assert (status, headers["Retry-After"], headers["Connection"]) == (
                    503,
                    "1",
                    "close",
                )
                assert json.loads(body)["error"].startswith("There are too many connections")
            status, headers, _ = ask(port, "GET", "/healthz")
            assert (status, headers["Connection"]) == (200, "close")
            assert (
                'requests_total{model="",status="503"} 2'
                in ask(port, "GET", rest.METRICS)[2].decode()
            )
        assert [json.loads(line)["status"] for line in caplog.messages] == [503, 503, 200, 200]

    def test_a_compressed_body_is_read_and_bounded(self, port):
        body = json.dumps({"instances": ["b" * 1999] * 49}).encode()
        for coding, data in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
            assert len(data) < 2000
            found = ask(port, "POST", PREDICT, data, {"Content-Encoding": coding})
            assert found[0] == 200 and len(json.loads(found[2])["predictions"]) == 49
        bomb = {"Content-Encoding": "gzip"}
        assert error_of(port, "POST", PREDICT, gzip.compress(bytes(100_004)), bomb)[0] == 413
        assert error_of(port, "POST", PREDICT, body, bomb)[0] == 400
        status, headers, _ = ask(port, "POST", PREDICT, body, {"Content-Encoding": "br"})
        assert (status, headers["Accept-Encoding"]) == (415, "gzip, deflate")

    def test_a_model_that_is_loading_is_one_to_come_back_to(self, tmp_path):
        state = State()
        with running({"words": Model("words", tmp_path, Settings())}, state) as port:
            assert error_of(port, "POST", PREDICT)[0] == 503
            assert error_of(port, "GET", f"{WORDS}/metadata")[0] == 503
            assert error_of(port, "GET", "/readyz")[0] == 503
            assert ask(port, "GET", "/healthz")[0] == 200

    def test_what_a_client_hung_up_on_is_not_computed_if_it_waits(self, tmp_path):
        toy_models.save(toy_models.words(), tmp_path / "1")
        model = Model(
            "words", tmp_path, Settings(Batching(max_size=2, wait=0.0, threads=1, lengths=()))
        )
        model.refresh()
        with running({"words": model}) as port, ThreadPoolExecutor(1) as threads:
            name = 'kerasformer_cancelled_total{model="words"} '

            def cancelled():
                found = ask(port, "GET", rest.METRICS)[2].decode().partition(name)[2]
                return float(found.split("\n")[0] or 0)

            before = cancelled()
            busy = threads.submit(ask, port, "POST", PREDICT, LONG | {"instances": ["a" * 201]})
            time.sleep(0.1)
            body = json.dumps(LONG | {"instances": ["b" * 10**3]}).encode()  # for many seconds
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head(PREDICT, f"Content-Length: {len(body)}") + body)
                time.sleep(0.1)
            time.sleep(0.1)
            assert not busy.done()
            assert busy.result()[0] == 200
            assert ask(port, "POST", PREDICT, LONG | {"instances": ["c"]})[0] == 200
            while cancelled() == before:  # Its thread counts it a moment after its batch.
                time.sleep(0.01)
            assert cancelled() == before + 1

    def test_a_client_that_hangs_up_harms_nobody(self, port, caplog):
        caplog.set_level("INFO", "kerasformer.access")
        for body in (b'{"instances": [', json.dumps(LONG).encode()):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head(PREDICT, "Content-Length: 99") + body)
        status, _, body = ask(port, "POST", PREDICT, {"instances": ["a"]})
        assert status == 200 and json.loads(body)["predictions"]
        while len(caplog.records) < 3:
            time.sleep(0.01)
        lines = [json.loads(record.message) for record in caplog.records]
        assert sorted(line["status"] for line in lines) == [200, 499, 499]


def ask_again(models):
    """Asks the same models at another port."""
    with running(models) as port:
        request = {"instances": ["a"], "signature_name": "ponder"}
        return ask(port, "POST", PREDICT, request)[2]


class KeyTest:
    @pytest.fixture
    def both(self, tmp_path):
        (tmp_path / "keys").write_text("first\nsecond\n")
        return keys.Keys(tmp_path / "keys")

    def test_requests_need_a_key_in_either_header(self, models, both):
        with running(models, api_keys=both) as port:
            page = "/static-offline-docs/swagger-ui.css"
            for path in ("/healthz", "/readyz", "/docs", "/openapi.json", page):
                assert ask(port, "GET", path)[0] == 200
            for path in (WORDS, rest.METRICS, "/none", "/docs/", "/healthz/..", page[:-20]):
                status, headers, _ = ask(port, "GET", path)
                assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            for wrong in ("", "third", "firs", "first ", "Bearer first", "\xff"):
                assert error_of(port, "GET", WORDS, headers={"X-API-Key": wrong})[0] == 401
                shown = {"Authorization": f"Bearer {wrong}"}
                assert error_of(port, "GET", WORDS, headers=shown)[0] == 401
            for shown in (
                {"X-API-Key": "first"},
                {"Authorization": "Bearer second"},
                {"authorization": "bearer first"},
            ):
                assert ask(port, "GET", WORDS, headers=shown)[0] == 200
            assert error_of(port, "GET", WORDS, headers={"Authorization": "Basic first"})[0] == 401

    def test_the_page_knows_how_keys_are_shown_and_where(self, models, both):
        with running(models, api_keys=both) as port:
            described = json.loads(ask(port, "GET", "/openapi.json")[2])
        schemes = described["components"]["securitySchemes"]
        assert schemes["X-API-Key"]["in"] == "header" and schemes["Bearer"]["scheme"] == "bearer"
        for path, operations in described["paths"].items():
            for operation in operations.values():
                needs_key = path not in ("/healthz", "/readyz")
                asked = [{"Bearer": []}, {"X-API-Key": []}] if needs_key else []
                assert operation["security"] == asked

    def test_a_page_of_another_origin_may_ask_where_it_is_named(self, models, both, port):
        page = {"Origin": "https://a.example"}
        preflight = {
            **page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-api-key",
        }
        _, headers, _ = ask(port, "GET", WORDS, headers=page)
        assert not [name for name in headers if name.lower().startswith("access-control")]
        status, headers, _ = ask(port, "OPTIONS", PREDICT, headers=preflight)
        assert status == 204 and "Access-Control-Allow-Methods" not in headers
        with running(models, api_keys=both, cors_origins=("https://a.example",)) as port:
            status, headers, _ = ask(port, "OPTIONS", PREDICT, headers=preflight)
            assert (status, headers["Access-Control-Allow-Origin"]) == (200, page["Origin"])
            assert "POST" in headers["Access-Control-Allow-Methods"]
            assert "x-api-key" in headers["Access-Control-Allow-Headers"]
            other = {"Origin": "https://b.example", "X-API-Key": "first"}
            for shown, status in ((page | {"X-API-Key": "first"}, 200), (page, 401)):
                found, headers, _ = ask(port, "GET", WORDS, headers=shown)
                allowed = headers["Access-Control-Allow-Origin"]
                assert (found, allowed) == (status, page["Origin"])
            assert "Access-Control-Allow-Origin" not in ask(port, "GET", WORDS, headers=other)[1]


class PageTest:
    def test_an_answer_is_compressed_for_who_wants_it(self, port):
        zipped = {"Accept-Encoding": "br, gzip;q=0.5"}
        for method, path, body in (
            ("POST", PREDICT, {"instances": ["b" * 1999]}),
            ("GET", "/static-offline-docs/swagger-ui.css", None),
        ):
            plain = ask(port, method, path, body)
            status, headers, data = ask(port, method, path, body, zipped)
            assert (status, headers["Content-Encoding"]) == (200, "gzip")
            assert gzip.decompress(data) == plain[2] and len(data) < len(plain[2]) / 3
            assert "Content-Encoding" not in plain[1] and "Accept-Encoding" in plain[1]["Vary"]
        known = zipped | {"If-None-Match": headers["ETag"]}
        assert headers["ETag"] == "W/" + plain[1]["ETag"]
        assert ask(port, method, path, headers=known)[0] == 304
        status, told, nothing = ask(port, "HEAD", path, headers=zipped)
        assert (status, nothing, told["Content-Encoding"]) == (200, b"", "gzip")
        assert ask(port, "GET", "/healthz", headers=zipped)[1]["Content-Encoding"] is None

    def test_the_page_of_routes_loads_nothing_from_elsewhere(self, port):
        found, to_load = {}, ["/docs"]
        while to_load:
            path = to_load.pop()
            status, _, body = ask(port, "GET", path)
            assert status == 200, path
            found[path] = body.decode("utf-8", "replace")
            if path == "/docs" or path.endswith(".css"):
                places = re.findall(r"""(?:(?:src|href)=["']|url\(["']?)([^"')]+)""", found[path])
                for place in places:
                    assert place.startswith(("/", "data:")) and not place.startswith("//"), place
                    to_load += [place] if place.startswith("/") and place not in found else []
        assert len(found) >= 3 and "/openapi.json" in found["/docs"]

    def test_all_routes_and_their_failures_are_described(self, port):
        described = json.loads(ask(port, "GET", "/openapi.json")[2])
        paths = described["paths"]
        assert len(paths) == 3 * (1 + 1 + 3) + 3
        assert "securitySchemes" not in described["components"]
        for path, methods in paths.items():
            for method, of in methods.items():
                assert {"200", "400", "404", "503"} <= of["responses"].keys()
                assert "422" not in of["responses"]
                names = {part["name"] for part in of.get("parameters", ())}
                assert names == set(re.findall(r"{(\w+)}", path))
                assert ("requestBody" in of) == (method == "post")
        ids = [of["operationId"] for methods in paths.values() for of in methods.values()]
        assert len(set(ids)) == len(ids)
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)):
            assert name in described["components"]["schemas"]

    def test_health_is_told_and_a_server_that_ends_says_so(self, models):
        state = State()
        with running(models, state) as port:
            assert json.loads(ask(port, "GET", "/healthz")[2]) == {"status": "ok"}
            assert error_of(port, "GET", "/readyz") == (503, "Models are loading.")
            state.ready = True
            expected = {"status": "ready", "models": ["colors", "words"]}
            assert json.loads(ask(port, "GET", "/readyz")[2]) == expected
            state.broken = ["colors"]
            expected = {"status": "ready", "models": ["words"], "broken": ["colors"]}
            assert json.loads(ask(port, "GET", "/readyz")[2]) == expected
            state.broken = ["colors", "words"]
            text = "None of the models can be served: ['colors', 'words']."
            assert error_of(port, "GET", "/readyz") == (503, text)
            assert ask(port, "GET", WORDS)[1]["Connection"] is None
            state.closing = True
            assert error_of(port, "GET", "/readyz") == (503, "The server is ending.")
            status, headers, _ = ask(port, "POST", PREDICT, {"instances": ["a"]})
            assert (status, headers["Connection"]) == (200, "close")

    def test_a_mistake_of_ours_is_not_told_to_the_caller(self):
        class Torn:
            """A backend that is broken."""

            async def status(self, number, label):
                raise RuntimeError("secret")

        with running({"words": Torn()}) as port:
            status, text = error_of(port, "GET", WORDS)
            assert status == 500 and "secret" not in text
            given = {"X-Request-Id": "mine"}
            assert ask(port, "GET", WORDS, headers=given)[1]["X-Request-Id"] == "mine"
