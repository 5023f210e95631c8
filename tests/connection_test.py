"""A connection whose head is late, large, or neither."""

import asyncio
import functools
import socket
import threading
import time

import pytest
import uvicorn

from pipelines.serving.connection import MAX_HEAD, Connection

SECONDS = 0.7
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def length(scope, receive, send):
    """Answers with the length of the body, after as long as a head may take."""
    message = await receive()
    size = len(message["body"])
    while message.get("more_body"):
        message = await receive()
        size += len(message["body"])
    await asyncio.sleep(2 * SECONDS * (scope["path"] == "/slow"))
    body = b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    connection = functools.partial(Connection, seconds=SECONDS)
    config = uvicorn.Config(length, log_config=None, http=connection, lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[place])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield place.getsockname()[1]
        server.should_exit = True
        thread.join()


def send(port, *parts, pause=0.0):
    """Sends bytes piece by piece, and returns what has come when the server closes."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # It has closed before it was told all.
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def last(path, size=0):
    """Writes a request after which the server closes."""
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (path, size)


class HeadTest:
    @pytest.mark.parametrize("begun", [b"", b"G", GET])
    def test_one_that_does_not_come_is_answered_408(self, port, begun):
        began = time.monotonic()
        found = send(port, begun)
        assert SECONDS <= time.monotonic() - began < 20 * SECONDS
        assert found.startswith(b"HTTP/1.1 408 ") and found.endswith(b'took too long."}')

    def test_one_that_comes_drop_by_drop_is_answered_408(self, port):
        drops = [b"X-A: b\r\n"] * 100
        assert send(port, GET, *drops, pause=SECONDS / 10).startswith(b"HTTP/1.1 408 ")

    @pytest.mark.parametrize("line", [b"x" * 1000, b"X-A: " + b"b" * 1000 + b"\r\n"])
    def test_one_without_end_is_answered_431(self, port, line):
        count = MAX_HEAD // 1000 + 7
        found = send(port, GET, *[line] * count, pause=SECONDS / count / 5)
        assert found.startswith(b"HTTP/1.1 431 ") and found.endswith(b'is too large."}')

    def test_a_body_may_be_larger_and_an_answer_later(self, port):
        body = b"x" * (3 * MAX_HEAD)
        assert send(port, last(b"/slow", len(body)) + body).endswith(b"%d" % len(body))
        parts = [last(b"/", 30), *[b"abc"] * 10]
        assert send(port, *parts, pause=SECONDS / 5).endswith(b"\r\n30")

    def test_each_request_of_a_connection_has_its_time(self, port):
        first = GET + b"\r\n"
        found = send(port, *[first] * 5, last(b"/"), pause=SECONDS / 2)
        assert found.count(b"HTTP/1.1 200 ") == 6
        assert send(port, first, GET, pause=SECONDS / 2).count(b"HTTP/1.1 408 ") == 1
