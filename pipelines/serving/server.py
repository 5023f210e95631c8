"""The process that serves: it loads models, listens, watches for versions, and ends gently."""

import asyncio
import contextlib
import functools
import logging
import math
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

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
        drain: float. Seconds in which idle connections may still bring a request after SIGTERM.
        connections: int. Most at a time, idle ones too.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    certificate: str | None = None
    key: str | None = None
    poll: float = 1.0
    drain: float = 2.0
    connections: int = 2048


def serve(models: Mapping[str, Model], options: Options, listening: Listening) -> None:
    """Serves models until SIGTERM or SIGINT.

    Raises:
        OSError: when the address cannot be had.
        ValueError: when a model has no version that can be loaded.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max(soft, min(listening.connections + 1000, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    with listen(listening.host, listening.port) as place:
        log_to(sys.stdout)
        faults = []
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(models, options, listening, place, faults))
    if faults:
        raise ValueError(faults[0])


def listen(host: str, port: int) -> socket.socket:
    """Takes a port before models are loaded, so that one in use is known at once.

    Raises:
        OSError: when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of no other protocol number do event loops send small answers at once.
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
    except OSError as error:
        place.close()
        raise OSError(error.errno, error.strerror, f"--host={host} --port={port}") from None
    return place


def url(scheme: str, host: str, port: int) -> str:
    """Writes an address, of IPv6 too."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def log_to(stream) -> None:
    """Writes the line of each request to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    observe.access_log.handlers = [handler]
    observe.access_log.setLevel(logging.INFO)
    observe.access_log.propagate = False


async def _run(models, options: Options, listening: Listening, place, faults: list[str]) -> None:
    state = State()
    server = uvicorn.Server(_config(build(models, options, state), options, listening))
    server.capture_signals = contextlib.nullcontext  # The loop has its own.
    loop = asyncio.get_running_loop()
    draining = []

    def end():
        if not draining:
            draining.append(loop.create_task(_drain(server, state, listening.drain)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    scheme = "https" if listening.certificate else "http"
    address = url(scheme, *place.getsockname()[:2])

    def load_and_watch():
        try:
            load(models)
        except Exception as error:  # No thread above this one would say it.
            faults.append(sentence(error))
            server.should_exit = True
            return
        state.ready = True
        print(f"Serving {sorted(models)} at {address}", file=sys.stderr, flush=True)
        watch(models, listening.poll)

    # It ends with the process, whatever it is doing.
    threading.Thread(target=load_and_watch, daemon=True).start()
    await server.serve(sockets=[place])


def _config(app, options: Options, listening: Listening) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=functools.partial(Connection, seconds=options.seconds),
        limit_concurrency=listening.connections,
        # A caller who does not fetch the answer is not waited for.
        timeout_graceful_shutdown=math.ceil(options.seconds),
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
    )
    if listening.key and not listening.certificate:
        raise ValueError("Expected --tls_certificate with --tls_key.")
    try:
        config.load()
    except OSError as error:  # It does not say which file.
        flags = f"--tls_certificate={listening.certificate} --tls_key={listening.key}"
        raise ValueError(f"{flags} cannot be used: {sentence(error)}.") from None
    return config


def load(models: Mapping[str, Model]) -> None:
    """Loads each model, or raises a `ValueError` that says why it has no version."""
    for name, model in models.items():
        model.refresh()
        if not model.versions:
            raise ValueError(f"--model={name} cannot be served: {model.fault()}")


async def _drain(server: uvicorn.Server, state: State, seconds: float) -> None:
    """Takes no more connections; each that is there ends with the answer it gets."""
    state.closing = True
    for listener in getattr(server, "servers", ()):  # There are none before it has started.
        listener.close()
    await asyncio.sleep(seconds)
    server.should_exit = True


def watch(models: Mapping[str, Model], seconds: float) -> None:
    """Looks for new versions, for ever."""
    while True:
        time.sleep(seconds)
        for name, model in models.items():
            try:
                model.refresh()
            except Exception:  # A disk that is away comes back.
                absl_logging.exception("The folder of model %s cannot be read.", name)
