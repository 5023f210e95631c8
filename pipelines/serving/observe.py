"""How the server is observed: metrics for Prometheus, and a log line for each request."""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable

from absl import logging as absl_logging
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.datastructures import Headers

from pipelines.serving.cancellation import CANCELLED
from pipelines.serving.model import Answer

PREFIX = "kerasformer_"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
HEADER = b"x-request-id"
FAILED = b'{"error":"The server made a mistake; its log says which."}'
# Version, trace, parent and flags; a later version may have more. https://www.w3.org/TR/trace-context
TRACEPARENT = re.compile(
    "(?!ff|00.{54})[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?"
)

access_log = logging.getLogger("kerasformer.access")


class Metrics:
    """Counts requests and measures how long each stage of an answer takes."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        def make(metric, name, text, labels, **options):
            return metric(PREFIX + name, text, labels, registry=self.registry, **options)

        model = ["model", "version", "signature"]
        self.requests = make(Counter, "requests", "Requests.", ["model", "status"])
        self.running = make(Gauge, "running", "Requests that wait or are computed.", ["model"])
        self.instances = make(Counter, "instances", "Sentences, images or other rows.", model)
        self.stages = make(
            Histogram,
            "stage_seconds",
            "Seconds of the stages of an answer.",
            [*model, "stage"],
            buckets=SECONDS,
        )
        self.latency = make(
            Histogram, "request_seconds", "Seconds of requests.", ["model"], buckets=SECONDS
        )
        self.registry.register(CANCELLED)
        self.batches = make(Histogram, "batch_size", "Instances in a batch.", model, buckets=SIZES)

    def count(self, model: str, answer: Answer) -> None:
        """Counts an answer of a model."""
        labels = (model, answer.version, answer.signature)
        self.instances.labels(*labels).inc(answer.instances)
        for stage, seconds in answer.seconds.items():
            self.stages.labels(*labels, stage).observe(seconds)
        for size in answer.batches:
            self.batches.labels(*labels).observe(size)

    def text(self) -> bytes:
        """Writes all figures in Prometheus's format."""
        return generate_latest(self.registry)


class Observed:
    """An ASGI application whose requests get an id, and are timed and logged.

    The log has one JSON object a line. A request may bring its id in `X-Request-Id`; otherwise it
    is given one. The answer carries the id. What a header `traceparent` says of the trace that the
    request belongs to is logged too. A request that fails is answered with status 500.

    Args:
        app: the ASGI application.
        metrics: where requests are counted.
        is_closing: returns whether connections should end with their answer.
    """

    def __init__(self, app: Callable, metrics: Metrics, is_closing: Callable[[], bool]):
        self._app, self._metrics, self._is_closing = app, metrics, is_closing

    async def __call__(self, scope, receive, send) -> None:
        """Handles one connection or request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, sent = time.perf_counter(), {"status": 500, "bytes": 0}
        is_begun = False
        number = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = number

        async def observed_send(message):
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                sent["status"] = message["status"]
                headers = [*message["headers"], (HEADER, number.encode())]
                if self._is_closing():
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            sent["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except Exception as error:
            absl_logging.error("%s, request %s", scope["path"], number, exc_info=error)
            if is_begun:
                raise  # The server ends a connection whose answer ends too early.
            headers = [(b"content-type", b"application/json")]
            headers.append((b"content-length", b"%d" % len(FAILED)))
            await observed_send({"type": "http.response.start", "status": 500, "headers": headers})
            await observed_send({"type": "http.response.body", "body": FAILED})
        finally:
            self._record(scope, sent, number, time.perf_counter() - began)

    def _record(self, scope, sent, number, seconds) -> None:
        model = scope["state"].get("model", "")
        self._metrics.requests.labels(model, sent["status"]).inc()
        self._metrics.latency.labels(model).observe(seconds)
        record = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": number,
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"],
            **sent,
            **_trace(scope),
            "seconds": round(seconds, 6),
            **scope["state"].get("facts", {}),
        }
        access_log.info("%s", json.dumps(record))


def _trace(scope) -> dict[str, str]:
    """Reads `traceparent`, and returns nothing where there is none, or one that is not valid."""
    found = Headers(scope=scope).getlist("traceparent")
    match = TRACEPARENT.fullmatch(found[0]) if len(found) == 1 else None
    if not match or not int(match[1], 16) or not int(match[2], 16):
        return {}
    return {"trace_id": match[1], "parent_id": match[2]}


def _request_id(headers) -> str:
    """Returns the caller's id, if it is short and printable, or a new one."""
    given = dict(headers).get(HEADER, b"").decode("latin-1")
    is_usable = 0 < len(given) <= 128 and given.isascii() and given.isprintable()
    return given if is_usable else uuid.uuid4().hex
