"""Serves exported models: `python -m apps.serve --model=words=runs/demo/export --port=8501`.

Speaks TensorFlow Serving's REST API: `POST /v1/models/words:predict`. A folder of numbered
versions is watched: a version that appears or is replaced is loaded, warmed up and switched to. One
that cannot be loaded is reported, tried again later, and the version before it stays. A model with
operations that reach files, the network or Python is refused unless `--trust_model` is given.
`/docs` describes all routes.

SIGTERM ends the server cleanly, with exit code 0: it takes no new connections, finishes the
requests that have begun, and exits.
"""

import contextlib
import ipaddress
import os
import re
import sys
from pathlib import Path

from absl import flags

from apps import program
from pipelines.exported import models as exported
from pipelines.serving import ray_engine, server
from pipelines.serving.endpoint import PIXELS_AT_ONCE, Budget, Limits
from pipelines.serving.keys import Keys
from pipelines.serving.model import Model, Settings
from pipelines.serving.queue import Batching
from pipelines.serving.rest import Options

MODEL = flags.DEFINE_multi_string(
    "model", None, "NAME=FOLDER of an exported model; may be repeated.", required=True
)
LABEL = flags.DEFINE_multi_string("label", [], "MODEL/LABEL=VERSION; may be repeated.")
REQUIRE_ALL = flags.DEFINE_bool(
    "require_all", False, "End at the start when a model cannot be loaded."
)
TRUST = flags.DEFINE_bool(
    "trust_model", False, "Serve models that may reach files, the network or Python, too."
)
VERSIONS = flags.DEFINE_integer("versions", 1, "Newest versions to serve.", lower_bound=1)
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen at; 0.0.0.0 is every one.")
PORT = flags.DEFINE_integer(
    "port", 8501, "Port to listen at; 0 for any that is free.", lower_bound=0, upper_bound=65535
)
MAX_BATCH = flags.DEFINE_integer(
    "max_batch", Batching().max_size, "Most instances computed at once; 0: one by one.", 0
)
BATCH_WAIT = flags.DEFINE_float(
    "batch_wait_ms",
    None,
    "Milliseconds a batch waits for more; unset: 10 for sentences, 2 for others.",
    lower_bound=0,
)
BATCH_THREADS = flags.DEFINE_integer(
    "batch_threads", Batching().threads, "Batches of a signature computed at a time.", lower_bound=1
)
LENGTHS = flags.DEFINE_list(
    "length_buckets",
    list(map(str, Batching().lengths)),
    "Bounds, in bytes, between the lengths of sentences that do not wait for each other.",
)
WAITING = flags.DEFINE_integer(
    "max_waiting", Settings().waiting, "Most requests of a model at a time.", lower_bound=1
)
INSTANCES = flags.DEFINE_integer(
    "max_instances", Limits().instances, "Most instances of a request.", lower_bound=1
)
CHARACTERS = flags.DEFINE_integer(
    "max_characters", Limits().characters, "Most characters of a sentence.", lower_bound=1
)
PIXELS = flags.DEFINE_integer(
    "max_pixels", Limits().pixels, "Most pixels of the images of a request.", lower_bound=1
)
MAX_BODY = flags.DEFINE_integer(
    "max_body", Options().max_body, "Most bytes of a request's body.", lower_bound=1
)
SECONDS = flags.DEFINE_float(
    "max_seconds", Options().seconds, "Seconds a request may take.", lower_bound=0.001
)
API_KEYS = flags.DEFINE_string(
    "api_keys", None, "File with an API key in each line; it may change."
)
CERTIFICATE = flags.DEFINE_string("tls_certificate", None, "PEM file, for HTTPS.")
TLS_KEY = flags.DEFINE_string("tls_key", None, "PEM file of the certificate's key.")
CORS = flags.DEFINE_list("cors_origins", [], "Origins whose pages may ask, such as https://a.b.")
CONNECTIONS = flags.DEFINE_integer(
    "max_connections", 2048, "Most connections at a time, idle ones too.", lower_bound=1
)
POLL = flags.DEFINE_float(
    "poll_seconds", 1.0, "Seconds between looks for new versions.", lower_bound=0.01
)
DRAIN = flags.DEFINE_float(
    "drain_seconds", 2.0, "Seconds for idle connections after SIGTERM.", lower_bound=0
)

ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray"], "One process, or a Ray cluster.")
RAY = flags.DEFINE_string(
    "ray_address",
    None,
    "Running Ray cluster, such as auto; unset: one of its own, on this machine.",
)
REPLICAS = flags.DEFINE_list("replicas", ["1", "2"], "Least and most Ray replicas of a model.")


def pairs(flag: str, values: list[str], pattern: str) -> list[tuple[str, str]]:
    """Splits `NAME=VALUE` flags; one that does not match the pattern raises a `ValueError`."""
    matches = []
    for value in values:
        match = re.fullmatch(pattern, value)
        if not match:
            raise ValueError(f"Expected --{flag} as its help says, received --{flag}={value}.")
        matches.append(match)
    names = [match[1] for match in matches]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"--{flag} names {repeated} more than once.")
    return [(match[1], match[2]) for match in matches]


def models() -> dict[str, ray_engine.Served]:
    """Reads the flags of the models and of how each is served."""
    settings = Settings(batching(), limits(), VERSIONS.value, WAITING.value, TRUST.value)
    folders = pairs("model", MODEL.value, r"([\w.-]+)=(.+)")
    labels = pairs("label", LABEL.value, r"([\w.-]+/[\w.-]+)=(\d{1,18})")
    versions: dict[str, dict[str, int]] = {name: {} for name, _ in folders}
    for key, number in labels:
        name, label = key.split("/")
        versions.setdefault(name, {})[label] = int(number)
    unknown = versions.keys() - dict(folders).keys()
    if unknown:
        raise ValueError(f"--label names models that are not served: {sorted(unknown)}.")
    for name, folder in folders:
        present = exported.versions(Path(folder))
        for label, version in versions[name].items():
            if present and version not in present:
                raise ValueError(
                    f"--label={name}/{label}={version} names a version that is not there: {folder} "
                    f"holds {sorted(present)}."
                )
    return {
        name: ray_engine.Served(name, Path(folder).absolute(), settings, versions[name])
        for name, folder in folders
    }


def batching() -> Batching | None:
    """Reads the flags of batching."""
    if not all(bound.isdecimal() for bound in LENGTHS.value):
        raise ValueError(f"Expected whole numbers, received --length_buckets={LENGTHS.value}.")
    lengths = tuple(sorted(map(int, LENGTHS.value)))
    wait = None if BATCH_WAIT.value is None else BATCH_WAIT.value / 1000
    if MAX_BATCH.value == 0:
        return None
    return Batching(MAX_BATCH.value, wait, BATCH_THREADS.value, lengths)


def limits() -> Limits:
    """Reads the flags of a request's limits."""
    return Limits(INSTANCES.value, CHARACTERS.value, PIXELS.value)


def warn_of_strangers(host: str) -> None:
    """Prints a warning when other machines may ask, and nobody has to show a key."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost" and not API_KEYS.value:
        text = "answers everyone who can reach this machine, because there are no --api_keys."
        print(f"warning: --host={host} {text}", file=sys.stderr, flush=True)


def main(argv):
    if len(argv) > 1:
        raise ValueError(f"Expected flags alone, received {argv[1:]}.")
    api_keys = Keys(API_KEYS.value) if API_KEYS.value else None
    options = Options(MAX_BODY.value, SECONDS.value, api_keys, CORS.value)
    warn_of_strangers(HOST.value)
    listening = server.Listening(
        HOST.value,
        PORT.value,
        CERTIFICATE.value,
        TLS_KEY.value,
        POLL.value,
        DRAIN.value,
        CONNECTIONS.value,
        REQUIRE_ALL.value,
    )
    if ENGINE.value == "ray":
        if not all(n.isdecimal() for n in REPLICAS.value) or len(REPLICAS.value) != 2:
            raise ValueError(f"Expected two numbers, received --replicas={REPLICAS.value}.")
        minimum, maximum = map(int, REPLICAS.value)
        cluster = ray_engine.Cluster(RAY.value, (minimum, maximum))
        ray_engine.run(models(), options, cluster, listening)
        return
    pixels = Budget(PIXELS_AT_ONCE)
    served = {name: Model(*arguments, pixels) for name, arguments in models().items()}
    server.serve(served, options, listening)
    # Without the usual end of Python, which would wait for a version that is loading.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    program.run(main)
