"""A connection that keeps nobody's head for ever, nor one of any size."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 2**16  # bytes, each header with its share of what it takes in memory
OVERHEAD = 64
MAX_PIPELINED = 16  # requests that wait for the answer to one before them
MALFORMED = b"400 Bad Request", b"The request is not HTTP."
LATE = b"408 Request Timeout", b"The head of the request took too long."
LARGE = b"431 Request Header Fields Too Large", b"The head of the request is too large."


class Connection(HttpToolsProtocol):
    """uvicorn's connection with bounds that uvicorn lacks, beyond which it is closed.

    From the beginning, and from each answer, the next head has to be there in time; heads, trailers
    and whatever else comes between bodies may only be so large; and few requests may be sent ahead.

    Args:
        seconds: float. Time for a head.
        **arguments: uvicorn's own.
    """

    def __init__(self, *, seconds: float, **arguments):
        super().__init__(**arguments)
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0  # bytes of it that were read
        self._pending = 0  # bytes that came after what was read last
        self._answer = MALFORMED

    def connection_made(self, transport):
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc):
        """Waits no more."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data):
        """Reads what has come."""
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_HEAD:
            self._refuse(LARGE)

    def on_message_begin(self):
        """Begins to count."""
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
        """Waits no more: what follows is for the application."""
        self._stop()
        self._pending = 0
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._give_up(MALFORMED)

    def on_body(self, body):
        """Reads a part of the body."""
        self._pending = 0
        super().on_body(body)

    def on_response_complete(self):
        """Begins to wait for the next head."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait()

    def send_400_response(self, msg):
        """Answers what the parser could not go on with."""
        self._refuse(self._answer)

    def _count(self, size):
        self._pending = 0
        self._head += size
        if self._head > MAX_HEAD:
            self._give_up(LARGE)

    def _give_up(self, answer):
        self._answer = answer
        raise ValueError(answer)  # It stops the parser, and uvicorn asks for an answer.

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
        if self.cycle is None or self.cycle.response_complete:  # Else it would be another's answer.
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
