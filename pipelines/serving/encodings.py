"""Bodies of requests that come compressed, and answers to clients that take them compressed."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware

from pipelines.serving.payload import RequestError

MAX_ACCEPTED = 1024  # characters of `Accept-Encoding` that are read
ACCEPTED = "gzip, deflate"  # what a request's body may be encoded with
SMALLEST = 2**10  # bytes of an answer that is worth compressing
LEVEL = 4  # Higher levels take twice the time for a tenth less.
SOON, PIECE = 2**16, 2**20  # bytes that are made at once in the event loop, and in a thread
STEP = 2**14  # compressed bytes that are looked at together
MAX_MEMBERS = 1000  # gzip files that follow each other in a body


class Decoder:
    """Decodes the parts of a body as they come, never more at a time than a bounded piece.

    `deflate` is read with zlib's header, as HTTP says, and without it, as some clients send it.

    Args:
        codings: values of the header `Content-Encoding`.

    Raises:
        RequestError: with status 415, for any encoding but `gzip` or `deflate` alone.
    """

    def __init__(self, codings: Sequence[str]):
        coding = ", ".join(codings).strip().lower()
        self._coding = {"x-gzip": "gzip", "identity": ""}.get(coding, coding)
        if self._coding not in ("", "gzip", "deflate"):
            text = f"Expected the body's Content-Encoding to be gzip or deflate, received {coding}."
            raise RequestError(415, text)
        self._left = bytearray()  # what has come and is not yet decoded
        self._stream: Any = None  # zlib's class has no public name
        self._members = 0

    async def decode(self, part: bytes) -> AsyncIterator[bytes]:
        """Decodes the next part of a body; what takes long is done in another thread.

        Raises:
            RequestError: when the part is not what the header says.
        """
        if not self._coding:
            yield part
            return
        self._left += part
        piece = self._read(SOON)
        yield piece
        is_more = bool(self._left) or len(piece) == SOON
        while is_more:
            piece = await asyncio.to_thread(self._read, PIECE)
            yield piece
            is_more = bool(piece)

    def end(self) -> None:
        """Refuses a body that has ended too early."""
        if self._coding and not (self._stream and self._stream.eof):
            raise RequestError(400, f"The body ends before its {self._coding} data does.")

    def _read(self, size: int) -> bytes:
        """Decodes what has come to at most `size` bytes, and nothing when all is decoded."""
        pieces: list[bytes] = []
        while size:
            if self._left and (self._stream is None or self._stream.eof):
                self._begin()
            if self._stream is None or self._stream.eof:
                break
            step = bytes(self._left[:STEP])
            try:
                piece = self._stream.decompress(step, size)
            except zlib.error:
                raise RequestError(400, f"The body is not {self._coding} data.") from None
            rest = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            del self._left[: len(step) - len(rest)]
            if not step and not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _begin(self) -> None:
        """Begins with the next member of gzip data, or with the only stream of deflate data."""
        self._members += 1
        if self._members > (MAX_MEMBERS if self._coding == "gzip" else 1):
            raise RequestError(400, f"The body has more behind its {self._coding} data.")
        # The first byte of zlib's header ends in 8, with which no stream without header begins.
        has_header = self._left[0] & 15 == 8
        bits = 16 + zlib.MAX_WBITS if self._coding == "gzip" else zlib.MAX_WBITS
        self._stream = zlib.decompressobj(bits if self._coding == "gzip" or has_header else -bits)


class Compressed:
    """An ASGI application whose answers are compressed with gzip where the client wants that.

    Small answers and pictures are not.

    Args:
        app: the ASGI application.
    """

    def __init__(self, app):
        self._app = GZipMiddleware(app, SMALLEST, LEVEL, thread_minimum_size=SOON // 2)

    async def __call__(self, scope, receive, send):
        """Handles one connection or request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Starlette looks for the word alone, and knows neither `gzip;q=0` nor `*`.
        wanted = b"gzip" if accepts_gzip(Headers(scope=scope).getlist("accept-encoding")) else b""
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        scope = {**scope, "headers": [*headers, (b"accept-encoding", wanted)]}

        async def send_weakened(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                tag = headers.get("etag", "")
                if "content-encoding" in headers and tag.startswith('"'):
                    headers["etag"] = f"W/{tag}"  # These are not the bytes of the file.
            await send(message)

        await self._app(scope, receive, send_weakened)


def accepts_gzip(values: Sequence[str]) -> bool:
    """Reads the values of `Accept-Encoding`, with their weights.

    Example:

    >>> accepts_gzip(["br;q=1.0, gzip;q=0.8, *;q=0.1"]), accepts_gzip(["gzip;q=0, *"])
    (True, False)
    """
    weights: dict[str, float] = {}
    accepted = ",".join(values)
    if len(accepted) > MAX_ACCEPTED:
        return False
    for entry in accepted.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weights[name] = min((_weight(x[2:]) for x in parameters if x.startswith("q=")), default=1.0)
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0 and weight >= weights.get("identity", 0.0)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
