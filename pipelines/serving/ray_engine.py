"""The same application on a Ray cluster: a deployment for each model, and one for HTTP.

Each replica of a model loads it, brings its requests together in batches and watches its folder.
Ray Serve sends a request to the replica with the shorter queue, adds and removes replicas by the
length of the queues, and replaces those that die. Every node needs the models and the checkout at
the same paths.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.serving.model import Answer, Model, Settings
from pipelines.serving.payload import RequestError
from pipelines.serving.rest import Options, State, build
from pipelines.serving.server import Listening, listen, load, log_to, refresh, url

APPLICATION, FRONT = "kerasformer", "http"
ATTEMPTS = 5  # at a request whose replica died
ROOT = Path(__file__).parents[2]


class Cluster(NamedTuple):
    """How models are spread over a cluster.

    Attributes:
        address: str of a running cluster, or `None` to start one on this machine.
        replicas: pair of the least and most replicas of each model.
        busy: int. Requests of a replica that wait or are computed; when there are more, Ray adds
            a replica.
    """

    address: str | None = None
    replicas: tuple[int, int] = (1, 2)
    busy: int = 16


class Served(NamedTuple):
    """The arguments with which a replica makes its `Model`."""

    name: str
    folder: Path
    settings: Settings
    labels: Mapping[str, int]


class Replica:
    """A `Model` as an actor.

    Args:
        served: what to serve.
        poll: float. Seconds between two looks for new versions.

    Raises:
        ValueError: when there is no version that can be loaded.
    """

    def __init__(self, served: Served, poll: float):
        self._model = Model(*served)
        models = {served.name: self._model}
        load(models, require_all=True)  # Else Ray would count it among the healthy ones.

        def watch():
            while True:
                time.sleep(poll)
                refresh(models)

        threading.Thread(target=watch, daemon=True).start()

    async def answer(self, *request: Any) -> Answer:
        """Does what `Model.answer` does."""
        return await self._model.answer(*request)

    async def status(self, *version: Any) -> dict[str, Any]:
        """Does what `Model.status` does."""
        return await self._model.status(*version)

    async def metadata(self, *version: Any) -> dict[str, Any]:
        """Does what `Model.metadata` does."""
        return await self._model.metadata(*version)


class Remote:
    """All replicas of a model, as if they were the model."""

    def __init__(self, name: str):
        self._handle = _ray().serve.get_deployment_handle(name, APPLICATION)

    async def answer(self, *request: Any) -> Answer:
        """Asks a replica, and another one if that dies."""
        return await self._ask("answer", request)

    async def status(self, *version: Any) -> dict[str, Any]:
        """Asks a replica for what it serves."""
        return await self._ask("status", version)

    async def metadata(self, *version: Any) -> dict[str, Any]:
        """Asks a replica for the signatures."""
        return await self._ask("metadata", version)

    async def _ask(self, method: str, arguments: tuple) -> Any:
        ray = _ray()
        for attempt in range(ATTEMPTS):
            try:
                return await getattr(self._handle, method).remote(*arguments)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, RequestError):
                    raise error.cause from None
                raise
            except ray.serve.exceptions.BackPressureError:
                break
            except ray.exceptions.RayActorError:
                await asyncio.sleep(0.05 * 2**attempt)
        raise RequestError(503, "No replica of the model can take the request; try again later.")


def application(
    models: Mapping[str, Served], options: Options, cluster: Cluster, poll: float
) -> Any:
    """Describes the deployments to Ray Serve, as a `ray.serve.Application`.

    Args:
        models: what is served, by name.
        options: what requests may be.
        cluster: how many replicas there are.
        poll: float. Seconds between two looks for new versions.
    """
    serve = _ray().serve
    if FRONT in models:
        raise ValueError(f"--model={FRONT}=... has a name that is taken; choose another one.")
    scale = dict(zip(("min_replicas", "max_replicas"), cluster.replicas, strict=True))
    scale["target_ongoing_requests"] = cluster.busy
    bound = [
        serve.deployment(
            Replica,
            name=name,
            autoscaling_config=scale,
            max_ongoing_requests=served.settings.waiting,
            max_queued_requests=served.settings.waiting,
            graceful_shutdown_timeout_s=options.seconds,
        ).bind(served, poll)
        for name, served in models.items()
    ]
    names = list(models)

    def app():
        state = State(ready=True)  # Ray sends nothing before the models are there.
        log_to(sys.stdout)
        return build({name: Remote(name) for name in names}, options, state)

    class Front:
        def __init__(self, *models):
            """Takes the models, so that Ray starts them first."""

    front = serve.deployment(
        serve.ingress(app)(Front),
        name=FRONT,
        num_replicas=2,
        max_ongoing_requests=1024,
        max_queued_requests=1024,
        graceful_shutdown_timeout_s=options.seconds,
        ray_actor_options={"num_cpus": 0},
    )
    return front.bind(*bound)


def described(arguments: Mapping[str, Any]) -> Any:
    """Makes the application from a Ray Serve config, such as the one of a KubeRay `RayService`.

    Args:
        arguments: `models`, a dict of folders by name; `replicas`, the least and most of each
            model; and `busy`, as in `Cluster`. All else is as `apps.serve` has it without flags.

    Returns:
        A `ray.serve.Application`; the config has to call it `kerasformer`.
    """
    models = {
        name: Served(name, Path(folder), Settings(), {})
        for name, folder in arguments["models"].items()
    }
    spread = {name: x for name, x in arguments.items() if name != "models"}
    return application(models, Options(), Cluster(**spread), Listening().poll)


def run(
    models: Mapping[str, Served], options: Options, cluster: Cluster, listening: Listening
) -> None:
    """Deploys models. On a cluster that it has started it then waits for SIGTERM or SIGINT.

    A cluster that was running before keeps the application, and replaces the replicas of an earlier
    one step by step; `serve shutdown` ends it.

    Raises:
        OSError: when the address cannot be had.
        ValueError: when Ray is not installed, a model has a name that is taken, or the port of a
            running cluster is not given.
    """
    ray = _ray()
    deployed = application(models, options, cluster, listening.poll)
    host, port = listening.host, listening.port
    if cluster.address is not None and not port:
        raise ValueError("Expected --port with --ray_address, received --port=0.")
    if cluster.address is None:  # In a running cluster, Ray itself may hold the port.
        with listen(host, port) as listener:
            port = listener.getsockname()[1]
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init(cluster.address, runtime_env=environment, logging_level="warning")
    http = {"host": host, "port": port}
    tls = {"ssl_certfile": listening.certificate, "ssl_keyfile": listening.key}
    ray.serve.start(http_options={**http, **{k: v for k, v in tls.items() if v}})
    ray.serve.run(deployed, name=APPLICATION)
    scheme = "https" if listening.certificate else "http"
    print(f"Serving {sorted(models)} at {url(scheme, host, port)}", file=sys.stderr, flush=True)
    if cluster.address is None:
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):  # Replaces Ray's handlers.
            signal.signal(number, lambda *_: ended.set())
        ended.wait()
        ray.serve.shutdown()
        ray.shutdown()


def _ray():
    try:
        import ray
        import ray.serve.exceptions
    except ImportError as error:
        text = "Ray is not installed: pip install 'kerasformer[ray]', in a checkout '.[ray]'."
        raise ValueError(text) from error
    return ray
