"""What HTTP asks of all routes alike: HEAD, OPTIONS, and which methods a path has."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.routing import BaseRoute, Match, Route


class _Name(StringConvertor):
    regex = "[^/:]+"


# In a path, `{model:name}` does not take the verb of `words:predict` for a part of the name.
register_url_convertor("name", _Name())


class Head:
    """An ASGI application that answers HEAD as it answers GET, without the body.

    Args:
        app: the ASGI application.
    """

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        """Handles one connection or request."""

        async def send_head(message):
            is_body = message["type"] == "http.response.body"
            await send({**message, "body": b""} if is_body else message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, send_head)
        else:
            await self._app(scope, receive, send)


def allowed(routes: Iterable[BaseRoute], scope: MutableMapping[str, Any]) -> str:
    """Lists the methods of a path, or of the server for `*`, as the header `Allow` has them."""
    methods, is_any = {"OPTIONS"}, scope["path"] == "*"
    for route in routes:
        if isinstance(route, Route) and (is_any or route.matches(scope)[0] is not Match.NONE):
            methods |= route.methods or set()
    if methods == {"OPTIONS"}:  # A file of the page, which is no route of its own.
        methods.add("GET")
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
