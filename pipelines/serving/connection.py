"""An HTTP connection that limits the time and the size of a request's headers."""

import asyncio
from collections.abc import Callable, Collection

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 2**16  # bytes of a request's first line and headers
OVERHEAD = 64  # bytes that a header takes in memory beside its text
MAX_PIPELINED = 16  # requests that are sent before the answer to an earlier one
MALFORMED = b"400 Bad Request", b"The request is not HTTP."
LATE = b"408 Request Timeout", b"The head of the request took too long."
LARGE = b"431 Request Header Fields Too Large", b"The head of the request is too large."
FULL = "is_full"  # in the state of a request that came while there were too many connections


class Connection(HttpToolsProtocol):
    """Adds limits that uvicorn's connection lacks. A connection that exceeds one is closed.

    The head of a request must be complete in time, counted from the opening of the connection or
    from the last answer. Heads, trailers and whatever else comes between bodies are limited in
    size, and so is the number of requests that a client sends before it has an earlier answer.
    Requests that come while there are more connections than uvicorn's limit are only marked:
    `Bounded` refuses them, where uvicorn itself would answer in plain text and unseen by the log.

    Args:
        seconds: float. Time for a head.
        **arguments: uvicorn's own.
    """

    def __init__(self, *, seconds: float, **arguments):
        super().__init__(**arguments)
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0  # bytes of the head that the parser has read
        self._pending = 0  # bytes that have arrived since the parser last reported a part
        self._answer = MALFORMED

    def connection_made(self, transport):
        """Starts the timer for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc):
        """Stops the timer."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data):
        """Reads the bytes that have arrived."""
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_HEAD:
            self._refuse(LARGE)

    def on_message_begin(self):
        """Starts to count the bytes of a head."""
        super().on_message_begin()
        self._head = self._pending = 0

    def on_url(self, url):
        """Reads a part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name, value):
        """Reads a header or a trailer."""
        self._count(len(name) + len(value) + OVERHEAD)
        super().on_header(name, value)

    def on_headers_complete(self):
        """Stops the timer, because the application reads the rest."""
        self._stop()
        self._pending = 0
        if self._most and max(len(self.connections), len(self.tasks)) > self._most:
            self.scope["state"][FULL] = True
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._give_up(MALFORMED)

    def on_body(self, body):
        """Reads a part of the body."""
        self._pending = 0
        super().on_body(body)

    def on_response_complete(self):
        """Starts the timer for the next head."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait()

    def send_400_response(self, msg):
        """Answers a request that the parser could not read."""
        self._refuse(self._answer)

    def _count(self, size):
        self._pending = 0
        self._head += size
        if self._head > MAX_HEAD:
            self._give_up(LARGE)

    def _give_up(self, answer):
        self._answer = answer
        raise ValueError(answer)  # Stops the parser, and uvicorn then calls `send_400_response`.

    def _wait(self):
        self._stop()
        self._timer = self.loop.call_later(self._seconds, self._refuse, LATE)

    def _stop(self):
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _refuse(self, answer):
        self._stop()
        if self.transport.is_closing():
            return
        # During an answer, the client would take this text for a part of it.
        if self.cycle is None or self.cycle.response_complete:
            status, text = answer
            body = b'{"error":"%s"}' % text
            lines = [
                b"HTTP/1.1 " + status,
                b"content-type: application/json",
                b"content-length: %d" % len(body),
                b"connection: close",
            ]
            self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()


class Bounded:
    """An ASGI application that refuses what comes while there are too many connections.

    Args:
        app: the ASGI application.
        refuse: makes the answer to a request that is refused.
        always: paths that are answered nevertheless, so that nobody takes a busy server for dead.
    """

    def __init__(self, app, refuse: Callable[[], Response], always: Collection[str]):
        self._app, self._refuse, self._always = app, refuse, always

    async def __call__(self, scope, receive, send):
        """Handles one connection or request."""
        is_full = scope["type"] == "http" and scope.get("state", {}).get(FULL)
        if not is_full:
            await self._app(scope, receive, send)
            return

        async def send_last(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        app = self._app if scope["path"] in self._always else self._refuse()
        await app(scope, receive, send_last)
