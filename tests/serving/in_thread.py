"""A web application that answers from a thread of the tests."""

import asyncio
import contextlib
import socket
import threading
import time

import uvicorn


@contextlib.contextmanager
def answering(app, **options):
    """Runs an application under uvicorn, with its options, and gives the port, any that is free."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, **options))
    with socket.create_server(("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[place])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield place.getsockname()[1]
        server.should_exit = True
        thread.join()
