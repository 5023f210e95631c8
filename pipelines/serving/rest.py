"""The HTTP side: TensorFlow Serving's routes, health, metrics, limits and keys, as an ASGI app."""

import asyncio
import dataclasses
import functools
import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipelines.serving import keys, methods, payload
from pipelines.serving.connection import Bounded
from pipelines.serving.encodings import ACCEPTED, Compressed, Decoder
from pipelines.serving.model import Answer
from pipelines.serving.observe import Metrics, Observed
from pipelines.serving.payload import RequestError

METRICS = "/monitoring/prometheus/metrics"
# Headers of answers by status. After 408 the rest of a body that comes too slowly is not awaited.
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    415: {"Accept-Encoding": ACCEPTED},
    503: {"Retry-After": "1"},
}
GONE = 499  # what the log says of a caller who hung up


class Backend(Protocol):
    """Where answers come from: a `Model` in this process, or replicas of it elsewhere."""

    async def answer(
        self, verb: str, number: int | None, label: str | None, body: bytes
    ) -> Answer: ...

    async def status(self, number: int | None, label: str | None) -> dict[str, Any]: ...

    async def metadata(self, number: int | None, label: str | None) -> dict[str, Any]: ...


class Options(NamedTuple):
    """What the HTTP side allows.

    Attributes:
        max_body: int. Most bytes of a request's body.
        seconds: float. Time for the head of a request to arrive, and again for the answer.
        api_keys: keys of which a request must show one; `None` where requests need none.
        cors_origins: origins whose pages may ask.
        held: int. How many bodies of the largest size may be in memory while they arrive.
    """

    max_body: int = 8 * 2**20
    seconds: float = 60.0
    api_keys: keys.Keys | None = None
    cors_origins: Sequence[str] = ()
    held: int = 32


class ErrorBody(BaseModel):
    """Why there is no answer."""

    error: str


class Predict(BaseModel):
    """Rows (`instances`) or columns (`inputs`) of a signature; bytes are `{"b64": "..."}`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"instances": ["A dog runs."]}],
            "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        }
    )
    signature_name: str = "serving_default"
    instances: list[Any] | None = None
    inputs: Any = None


class Classify(BaseModel):
    """Examples, objects with the inputs of a signature, and a context that all of them share."""

    signature_name: str = "serving_default"
    examples: list[dict[str, Any]]
    context: dict[str, Any] = {}


BODIES: dict[str, type[BaseModel]] = {"predict": Predict, "classify": Classify, "regress": Classify}


@dataclasses.dataclass
class State:
    """What the application and the server that runs it know of each other.

    Attributes:
        held: int. Bytes of bodies that are arriving.
        ready: bool. Whether all models have been loaded, or could not be.
        broken: names of the models that have no version to serve.
        closing: bool. Whether the server takes no new connections, and ends those that are open.
    """

    held: int = 0
    ready: bool = False
    broken: Sequence[str] = ()
    closing: bool = False


def build(models: Mapping[str, Backend], options: Options, state: State) -> FastAPI:
    """Makes the application.

    Args:
        models: by name.
        options: what requests may be.
        state: shared with the server, and read at each request.
    """
    metrics = Metrics()
    app = FastAPIOffline(  # Its page `/docs` loads nothing from other hosts.
        title="Kerasformer",
        description="TensorFlow Serving's REST API for exported models.",
        redoc_url=None,
        redirect_slashes=False,
        responses={code: {"model": ErrorBody} for code in (400, 401, 404, 405, 408, 413, 415, 503)},
    )
    _add_models(app, models, options, state, metrics)
    _add_health(app, models, state, metrics)
    _add_error_handlers(app)
    app.add_middleware(Compressed)
    app.add_middleware(methods.Head)
    if options.api_keys:
        keys.describe(app.openapi())  # which FastAPI keeps
        body = {"error": "The request shows no API key that is known."}
        refuse = functools.partial(_json, body, 401, HEADERS[401])
        app.add_middleware(keys.Guard, keys=options.api_keys, refuse=refuse)
    if options.cors_origins:  # Before the keys, because a browser's preflight request has none.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    body = {"error": "There are too many connections; try again later."}
    refuse = functools.partial(_json, body, 503, HEADERS[503])
    app.add_middleware(Bounded, refuse=refuse, always=("/healthz", "/readyz", METRICS))
    app.add_middleware(Observed, metrics=metrics, is_closing=lambda: state.closing)
    return app


def _add_models(app: FastAPI, models, options: Options, state: State, metrics: Metrics) -> None:
    def find(request: Request) -> tuple[Backend, int | None, str | None]:
        parameters = request.path_params
        name = parameters["model"]
        if name not in models:
            raise RequestError(404, f"There is no model '{name}'.")
        request.state.model = name
        return models[name], _number(parameters.get("version")), parameters.get("label")

    async def status(request: Request):
        model, version, label = find(request)
        return _json(await model.status(version, label))

    async def metadata(request: Request):
        model, version, label = find(request)
        return _json(await model.metadata(version, label))

    async def ask(request: Request):
        model, version, label = find(request)
        verb = request.scope["path"].rpartition(":")[2]
        try:
            async with asyncio.timeout(options.seconds):
                body = await _body(request, options, state)
                with metrics.running.labels(request.state.model).track_inprogress():
                    work = model.answer(verb, version, label, body)
                    answer = await _while_connected(request, work)
        except TimeoutError:
            text = f"The request took longer than {options.seconds:g} s."
            raise RequestError(408, text) from None
        metrics.count(request.state.model, answer)
        request.state.facts = {
            "version": answer.version,
            "signature": answer.signature,
            "instances": answer.instances,
            **{f"{stage}_seconds": round(x, 6) for stage, x in answer.seconds.items()},
        }
        return Response(answer.body, media_type="application/json")

    choices = {"newest": "", "version": "/versions/{version:name}", "label": "/labels/{label:name}"}
    for choice, suffix in choices.items():
        path = "/v1/models/{model:name}" + suffix
        for verb, body in BODIES.items():
            schema = _openapi(path, body)
            app.post(f"{path}:{verb}", name=f"{verb}_{choice}", openapi_extra=schema)(ask)
        schema = _openapi(path)
        app.get(path, name=f"status_{choice}", openapi_extra=schema)(status)
        app.get(path + "/metadata", name=f"metadata_{choice}", openapi_extra=schema)(metadata)


def _openapi(path: str, body: type[BaseModel] | None = None) -> dict[str, Any]:
    """Describes the parameters of a path, and a body, for OpenAPI."""
    schema = {"type": "string", "minLength": 1}
    parts = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name in re.findall(r"{(\w+):name}", path)
    ]
    if body is None:
        return {"parameters": parts}
    content = {"application/json": {"schema": body.model_json_schema()}}
    return {"parameters": parts, "requestBody": {"required": True, "content": content}}


def _add_health(app: FastAPI, models, state: State, metrics: Metrics) -> None:
    @app.get("/healthz", description="Whether the server runs.")
    async def healthz():
        return {"status": "ok"}

    @app.get("/readyz", description="Which models answer, while the server is not ending.")
    async def readyz():
        if state.closing or not state.ready:
            text = "The server is ending." if state.closing else "Models are loading."
            raise RequestError(503, text)
        served = sorted(models.keys() - set(state.broken))
        if state.broken and not served:
            raise RequestError(503, f"None of the models can be served: {list(state.broken)}.")
        broken = {"broken": list(state.broken)} if state.broken else {}
        return {"status": "ready", "models": served, **broken}

    @app.get(METRICS, description="Figures for Prometheus.", response_class=Response)
    async def figures():
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError):
        return _json({"error": str(error)}, error.status, HEADERS.get(error.status))

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException):
        headers = error.headers
        if error.status_code == 405 or request.scope["path"] == "*":  # the server as such
            headers = {"Allow": methods.allowed(app.routes, request.scope)}
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        text = f"{error.detail}: {request.method} {request.scope['path']}"
        return _json({"error": text}, error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def hung_up(request: Request, error: ClientDisconnect):
        return Response(status_code=GONE)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Waits for an answer, and cancels the work when the client hangs up."""

    async def hang_up():
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(x) for x in (work, hang_up())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return await tasks[0]
    finally:
        for task in tasks:
            task.cancel()


async def _body(request: Request, options: Options, state: State) -> bytes:
    """Reads a body. The bound holds for what is sent, and for what that is when it is decoded."""
    text = f"The body has more than {options.max_body} bytes."
    decoder = Decoder(request.headers.getlist("content-encoding"))
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > options.max_body:
        raise RequestError(413, text)
    body, sent = bytearray(), 0
    try:
        async for part in request.stream():
            sent += len(part)
            async for piece in decoder.decode(part):
                body += piece
                state.held += len(piece)
                if max(len(body), sent) > options.max_body:
                    raise RequestError(413, text)
                if state.held > options.held * options.max_body:
                    text = "Too many large requests arrive at once; try again later."
                    raise RequestError(503, text)
        decoder.end()
    finally:
        state.held -= len(body)
    return bytes(body)


def _number(version: str | None) -> int | None:
    if version is None:
        return None
    if not (version.isascii() and version.isdecimal() and len(version) < 20):
        raise RequestError(400, f"Expected the version to be a number, received '{version}'.")
    return int(version)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(payload.dump(value), status, headers, media_type="application/json")
