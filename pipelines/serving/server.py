"""The process that serves: it loads models, listens, watches for versions, and ends cleanly."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import math
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import uvicorn
import uvloop
from absl import logging as absl_logging

from pipelines.error_sentence import sentence
from pipelines.serving import observe
from pipelines.serving.connection import Connection
from pipelines.serving.model import Model
from pipelines.serving.rest import Options, State, build


class Listening(NamedTuple):
    """Where a server listens, and how it begins and ends.

    Attributes:
        host, port: the address; any free port for 0.
        certificate, key: PEM files for HTTPS, or `None`.
        poll: float. Seconds between two looks for new versions.
        drain: float. Seconds after SIGTERM in which idle connections may still bring a request.
        connections: int. Most connections at a time, including idle ones.
        require_all: bool. Whether to end when a model cannot be loaded at the start.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    certificate: str | None = None
    key: str | None = None
    poll: float = 1.0
    drain: float = 2.0
    connections: int = 2048
    require_all: bool = False


def serve(models: Mapping[str, Model], options: Options, listening: Listening) -> None:
    """Serves models until SIGTERM or SIGINT.

    Raises:
        OSError: when the address cannot be had.
        ValueError: when a model has no version that can be loaded, and all are required.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max(soft, min(listening.connections + 1000, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    with listen(listening.host, listening.port) as listener:
        log_to(sys.stdout)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(models, options, listening, listener))


def listen(host: str, port: int) -> socket.socket:
    """Binds a port before models are loaded, so that a port in use is reported at once.

    Raises:
        OSError: when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With any other protocol number, event loops do not send small answers at once.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"--host={host} --port={port}") from None
    return listener


def url(scheme: str, host: str, port: int) -> str:
    """Writes a URL; an IPv6 address gets its brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def log_to(stream) -> None:
    """Writes the line of each request to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    observe.access_log.handlers = [handler]
    observe.access_log.setLevel(logging.INFO)
    observe.access_log.propagate = False


class _Server(uvicorn.Server):
    """Leaves the signals to the event loop."""

    def capture_signals(self):
        return contextlib.nullcontext()

    def stop(self) -> None:
        """Closes the connections, and returns from `serve`."""
        self.should_exit = True


async def _run(
    models: Mapping[str, Model], options: Options, listening: Listening, listener: socket.socket
) -> None:
    state, loop = State(), asyncio.get_running_loop()
    server = _Server(_config(build(models, options, state), options, listening))

    def drain():
        """Takes no more connections; those that are open end with the next answer they get."""
        if state.closing:
            return
        state.closing = True
        for accepting in getattr(server, "servers", ()):  # There are none before it has started.
            accepting.close()
        loop.call_later(listening.drain, server.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain)
    scheme = "https" if listening.certificate else "http"
    address = url(scheme, *listener.getsockname()[:2])
    watching = loop.create_task(_load_and_watch(models, state, address, listening))
    watching.add_done_callback(lambda _: server.stop())  # Only an error ends it.
    await server.serve(sockets=[listener])
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def _load_and_watch(
    models: Mapping[str, Model], state: State, address: str, listening: Listening
) -> None:
    # Not in the threads of the loop, which would wait for a version that is loading at the end.
    run, thread = asyncio.get_running_loop().run_in_executor, ThreadPoolExecutor(1)
    await run(thread, load, models, listening.require_all)
    state.broken, state.ready = _broken(models), True
    served = sorted(models.keys() - set(state.broken))
    print(f"Serving {served} at {address}", file=sys.stderr, flush=True)
    tidy: dict[str, Any] = {}  # The versions that were served when memory was last given back.
    while True:
        before = {name: model.versions for name, model in models.items()}
        await asyncio.sleep(listening.poll)
        if before != tidy:  # By now most requests that had begun with an old version have ended.
            await run(thread, give_back_memory)
            tidy = before
        await run(thread, refresh, models)
        state.broken = _broken(models)


def give_back_memory() -> None:
    """Frees versions that are gone, and returns to the system what loading has used."""
    gc.collect()  # Graphs refer to themselves.
    with contextlib.suppress(AttributeError):  # Other C libraries than glibc do not have it.
        ctypes.CDLL(None).malloc_trim(0)


def _broken(models: Mapping[str, Model]) -> list[str]:
    return sorted(name for name, model in models.items() if not model.versions)


def _config(app, options: Options, listening: Listening) -> uvicorn.Config:
    class TimedConnection(Connection):
        def __init__(self, **arguments):
            super().__init__(seconds=options.seconds, **arguments)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=TimedConnection,
        ws="none",
        limit_concurrency=listening.connections,
        # Do not wait for a caller who does not fetch the answer.
        timeout_graceful_shutdown=math.ceil(options.seconds),
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
    )
    if listening.key and not listening.certificate:
        raise ValueError("Expected --tls_certificate with --tls_key.")
    try:
        config.load()
    except OSError as error:  # Its text lacks the name of the file.
        flags = f"--tls_certificate={listening.certificate} --tls_key={listening.key}"
        raise ValueError(f"{flags} cannot be used: {sentence(error)}.") from None
    return config


def load(models: Mapping[str, Model], require_all: bool) -> None:
    """Loads each model, and reports those that cannot be loaded in the log.

    Args:
        models: by name.
        require_all: bool. Whether that is an error instead.

    Raises:
        ValueError: when a model has no version that can be loaded, and all are required.
    """
    for name, model in models.items():
        try:
            model.refresh()
        except OSError as error:
            reason = sentence(error)
        else:
            reason = "" if model.versions else model.load_error()
        if reason and require_all:
            raise ValueError(f"--model={name} cannot be served: {reason}")
        if reason:
            text = "--model=%s cannot be served yet, and is looked at again and again: %s"
            absl_logging.error(text, name, reason)


def refresh(models: Mapping[str, Model]) -> None:
    """Looks once for new versions of each model."""
    for name, model in models.items():
        try:
            model.refresh()
        except Exception:  # A disk that is away comes back.
            absl_logging.exception("The folder of model %s cannot be read.", name)
