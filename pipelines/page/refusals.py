"""What the page's queue is not asked: gradio itself answers junk with stack traces in the log."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio
from gradio.blocks import BlockFunction
from gradio.utils import get_upload_folder
from gradio_client.utils import is_valid_file
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)  # Its session is kept, and is a key of the page.
MAX_BODY = 2**20  # bytes of a call; files are sent elsewhere
JOIN, STREAM = "/queue/join", "/queue/data"
# The doors of gradio's API, which the page does not use and does not offer.
CLOSED = ("/run/", "/api/", "/call/", "/component_server")


class Refusals:
    """An ASGI application that refuses calls which no page sends.

    Args:
        app: gradio's application.
        blocks: its page.
    """

    def __init__(self, app, blocks: gradio.Blocks):
        self._app, self._functions = app, blocks.fns

    async def __call__(self, scope, receive, send):
        """Handles one connection or request."""
        path = scope["path"].partition("/gradio_api")[2] if scope["type"] == "http" else ""
        if path.startswith(CLOSED):
            await _refuse(404, "Not Found")(scope, receive, send)
        elif path == JOIN and scope["method"] == "POST":
            await self._join(scope, receive, send)
        elif path == STREAM:
            await self._stream(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _join(self, scope, receive, send):
        body, is_more = b"", True
        while is_more and len(body) <= MAX_BODY:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, is_more = body + message["body"], message.get("more_body", False)
        if is_more or len(body) > MAX_BODY:
            await _refuse(413, f"The call has more than {MAX_BODY} bytes.")(scope, receive, send)
            return
        reason = fault(self._functions, body)
        if reason:
            await _refuse(400, reason)(scope, receive, send)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again():
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_again, send)

    async def _stream(self, scope, receive, send):
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            if not isinstance(error.__cause__, HTTPException):
                raise
            # The stream has begun, and has said that there is no such session.
            await send({"type": "http.response.body", "body": b""})


def fault(functions: Mapping[int, BlockFunction], body: bytes) -> str | None:
    """Says what is wrong with a call of one of the page's functions.

    Args:
        functions: by number.
        body: what was sent.

    Returns:
        One sentence, or `None` for a call as the page sends it.
    """
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return "The call is not JSON."
    session = call.get("session_hash") if isinstance(call, dict) else None
    if not isinstance(session, str) or not SESSION.fullmatch(session):
        return "Expected an object with a session_hash."
    number, data = call.get("fn_index"), call.get("data")
    if type(number) is not int or number not in functions:
        return "The page has no such function."
    inputs = functions[number].inputs
    if not isinstance(data, list) or len(data) != len(inputs):
        return f"Expected data with {len(inputs)} values."
    wrong = [i for i, pair in enumerate(zip(inputs, data, strict=True)) if not _fits(*pair)]
    return f"The page does not send such a value: number {wrong[0] + 1}." if wrong else None


def _fits(component: Any, value: Any) -> bool:
    if isinstance(component, gradio.Dropdown):
        return value in [choice for _, choice in component.choices]
    if isinstance(component, gradio.Textbox):
        return value is None or isinstance(value, str)
    if isinstance(component, gradio.File):
        return value is None or _is_upload(value, component.file_types)
    return True


def _is_upload(value: Any, kinds: list[str] | None) -> bool:
    """Tells whether a value is a file that was uploaded, of a kind that the page takes."""
    try:
        path = Path(gradio.FileData.model_validate(value, context={"validate_meta": True}).path)
        is_inside = path.resolve().is_relative_to(Path(get_upload_folder()).resolve())
        return is_inside and path.is_file() and is_valid_file(str(path), kinds or ["file"])
    except (OSError, ValueError, AttributeError):
        return False


def _refuse(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, status)
