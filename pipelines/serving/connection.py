"""A connection that does not wait for ever for the head of a request, nor keep one of any size."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 2**16  # bytes
LATE = b"408 Request Timeout", b"The head of the request took too long."
LARGE = b"431 Request Header Fields Too Large", b"The head of the request is too large."


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which it closes when a head is late or large; uvicorn bounds neither.

    Args:
        seconds: float. Time for a head, from the connection or from its first byte on.
        **arguments: uvicorn's own.
    """

    def __init__(self, *, seconds: float, **arguments):
        super().__init__(**arguments)
        self._seconds, self._timer, self._received = seconds, None, 0

    def connection_made(self, transport):
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self.on_message_begin()

    def connection_lost(self, exc):
        """Waits no more."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data):
        """Reads what has come."""
        super().data_received(data)
        if self._timer:
            self._received += len(data)
            if self._received > MAX_HEAD:
                self._refuse(LARGE)

    def on_message_begin(self):
        """Begins to wait for the rest of a head."""
        super().on_message_begin()
        if self._timer is None:
            self._timer = self.loop.call_later(self._seconds, self._refuse, LATE)

    def on_headers_complete(self):
        """Waits no more: what is left is a body, which the application reads."""
        self._stop()
        super().on_headers_complete()

    def _stop(self):
        if self._timer:
            self._timer.cancel()
        self._timer, self._received = None, 0

    def _refuse(self, answer):
        status, text = answer
        self._stop()
        if self.transport.is_closing():
            return
        body = b'{"error":"%s"}' % text
        lines = [
            b"HTTP/1.1 " + status,
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()
