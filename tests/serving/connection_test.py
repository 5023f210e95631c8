"""A connection whose head is late, large, or neither."""

import asyncio
import contextlib
import functools
import re
import socket
import time

import pytest

from pipelines.serving.connection import MAX_HEAD, Connection
from tests.serving.in_thread import answering

SECONDS = 0.7
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def length(scope, receive, send):
    """Answers with the length of the body: soon, late, or before it has read it."""
    size = 0
    while scope["path"] != "/early":
        message = await receive()
        size += len(message["body"])
        if not message.get("more_body"):
            break
    await asyncio.sleep(2 * SECONDS * (scope["path"] == "/slow"))
    body = b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    connection = functools.partial(Connection, seconds=SECONDS)
    with answering(length, http=connection, lifespan="off") as port:
        yield port


def send(port, *parts, pause=0.0):
    """Sends bytes piece by piece, and returns what has come when the server closes."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        with contextlib.suppress(OSError):  # It may close before it is told all.
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionResetError):  # It has not read all.
            while part := connection.recv(2**16):
                found += part
        return found


def post(path, size=0, *lines):
    """Writes the head of a request."""
    head = [b"POST %s HTTP/1.1" % path, b"Host: a", b"Content-Length: %d" % size, *lines, b"", b""]
    return b"\r\n".join(head)


LAST = b"Connection: close"


class HeadTest:
    @pytest.mark.parametrize("begun", [b"", b"G", GET])
    def test_one_that_does_not_come_is_answered_408(self, port, begun):
        began = time.monotonic()
        found = send(port, begun)
        assert time.monotonic() - began >= SECONDS
        assert found.startswith(b"HTTP/1.1 408 ") and found.endswith(b'took too long."}')

    def test_one_that_comes_drop_by_drop_is_answered_408(self, port):
        drops = [b"X-A: b\r\n"] * 20
        found = send(port, GET, *drops, LAST + b"\r\n\r\n", pause=SECONDS / 10)
        assert found.startswith(b"HTTP/1.1 408 ")

    @pytest.mark.parametrize("line", [b"x" * 1000, b"X-A: " + b"b" * 1000 + b"\r\n"])
    def test_one_without_end_is_answered_431(self, port, line):
        found = send(port, GET, *[line * 50] * 3, pause=SECONDS / 10)
        assert found.startswith(b"HTTP/1.1 431 ") and found.endswith(b'is too large."}')

    def test_what_is_no_http_is_answered_400(self, port):
        found = send(port, b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 400 ") and found.endswith(b'is not HTTP."}')

    def test_a_body_may_be_larger_and_an_answer_later(self, port):
        body = b"x" * (3 * MAX_HEAD)
        found = send(port, post(b"/slow", len(body), LAST) + body)
        assert found.endswith(b"\r\n%d" % len(body))
        parts = [post(b"/", 30, LAST), *[b"abc"] * 10]
        assert send(port, *parts, pause=SECONDS / 5).endswith(b"\r\n30")

    def test_each_request_of_a_connection_has_its_time(self, port):
        parts = [post(b"/")] * 5 + [post(b"/", 0, LAST)]
        assert send(port, *parts, pause=SECONDS / 2).count(b"HTTP/1.1 200 ") == 6

    def test_a_head_that_begins_behind_a_large_body_is_none_of_it(self, port):
        first, second = post(b"/", 2 * MAX_HEAD) + b"x" * 2 * MAX_HEAD, post(b"/", 0, LAST)
        found = send(port, first + second[:20], second[20:], pause=SECONDS / 5)
        assert found.count(b"HTTP/1.1 200 ") == 2 and found.endswith(b"\r\n0")

    def test_one_that_is_late_takes_nobody_else_s_answer(self, port):
        found = send(port, post(b"/slow") + GET)
        assert found.startswith(b"HTTP/1.1 200 ") and found.count(b"HTTP/1.1 408 ") == 1


class AfterwardsTest:
    """Nobody keeps a connection by what follows an answer."""

    @pytest.mark.parametrize(
        "parts",
        [
            (post(b"/"), b"\r\n"),
            (post(b"/early", 10**6), b"x"),
            (post(b"/early", 10**6), *[b"x"] * 30),
        ],
        ids=["an empty line", "a bit of a body", "a body drop by drop"],
    )
    def test_by_next_to_nothing(self, port, parts):
        found = send(port, *parts, pause=SECONDS / 10)
        assert found.startswith(b"HTTP/1.1 200 ") and found.count(b"HTTP/1.1 408 ") == 1

    @pytest.mark.parametrize(("path", "answers"), [(b"/", []), (b"/early", [b"200", b"431"])])
    def test_by_trailers_without_end(self, port, path, answers):
        head = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" % path
        lines = b"X-A: b\r\n" * (MAX_HEAD // 9)
        found = send(port, head, lines, lines, pause=SECONDS / 10)
        assert re.findall(rb"HTTP/1.1 (\d+)", found) == answers

    def test_by_requests_sent_ahead(self, port):
        assert send(port, post(b"/slow"), post(b"/") * 1000) == b""
        few = [post(b"/slow"), *[post(b"/")] * 5, post(b"/", 0, LAST)]
        assert send(port, b"".join(few)).count(b"HTTP/1.1 200 ") == 7
