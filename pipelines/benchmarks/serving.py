"""How much of a model's speed its callers get over HTTP, under the load of wrk.

The same instances go through the SavedModel in this process, in batches of several sizes, and then
through a server, one a request, from 1 to 128 clients at once.
"""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 (it registers the tokenizer's operations)
from PIL import Image

from kerasformer.models import VisionTransformer
from pipelines.demo_corpus.corpus import generate
from pipelines.tasks.classification.classifier import Classifier

METRICS = "/monitoring/prometheus/metrics"
CLIENTS = (1, 8, 32, 128)
SIZES = (1, 2, 4, 8, 16, 32, 64)
ALONE_AT = 32  # clients, for the comparison with requests that are computed one by one
# What wrk runs: it sends the lines of a file in turn, and says what came of it in JSON.
SCRIPT = """
local bodies, turn = {}, 0
function init(arguments)
  for line in io.lines(arguments[1]) do bodies[#bodies + 1] = line end
end
function request()
  turn = turn % #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[turn])
end
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format('RESULT {"requests": %d, "seconds": %f, "failed": %d, ' ..
    '"p50": %f, "p95": %f, "p99": %f}', summary.requests, summary.duration / 1e6,
    e.status + e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


def export_vit(folder: str) -> None:
    """Exports an untrained ViT-Ti/16 for 224 x 224 pixels, which is as fast as a trained one."""
    model = VisionTransformer.from_variant("Ti/16", 224, num_classes=1000)
    model.build()
    names = [str(number) for number in range(1000)]
    scale = {"mean": [127.5] * 3, "deviation": [127.5] * 3, "channels": 3}
    module = Classifier(model, {"class_names": names, **scale}, (224, 224), crop=1.0)
    tf.saved_model.save(module, folder, signatures=module.signatures())


def instances(signatures, sentences: str | None, count: int = 256) -> list[bytes]:
    """Makes inputs of a model: sentences of a file or of the embedded corpus, or pictures.

    Args:
        signatures: of the model, by name. Those of a classifier tell the size of a picture.
        sentences: path of a text file, or `None`.
        count: int. Most inputs.

    Raises:
        ValueError: when the model takes neither text nor images.
    """
    names = list(signatures["serving_default"].structured_input_signature[1])
    if names == ["text"]:
        lines = Path(sentences).read_text().splitlines() if sentences else []
        lines = lines or [english for english, _ in generate(count, seed=0)]
        return [line.encode() for line in lines[:count]]
    if names != ["image"] or "decode" not in signatures:
        raise ValueError(f"Expected a model of text or images, received inputs={names}.")
    size = signatures["decode"].structured_outputs["pixels"].shape[1:3]
    random, pictures = np.random.default_rng(0), []
    for _ in range(count):
        contents = io.BytesIO()
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(contents, "PNG")
        pictures.append(contents.getvalue())
    return pictures


def in_process(signature, inputs: Sequence[bytes], seconds: float) -> dict[int, float]:
    """Measures instances a second for each size of batch, one call after the other."""
    (name,) = signature.structured_input_signature[1]
    rates = {}
    for size in SIZES:
        batches = [inputs[i : i + size] for i in range(0, len(inputs) - size + 1, size)]
        signature(**{name: tf.constant(batches[0])})
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            signature(**{name: tf.constant(batches[done // size % len(batches)])})
            done += size
        rates[size] = done / (time.perf_counter() - began)
    return rates


@contextlib.contextmanager
def served(command: Sequence[str], folder: str, *flags: str) -> Iterator[str]:
    """Starts a server of one model, yields the address of its `:predict`, and stops it."""
    command = [*command, f"--model=m={folder}", "--port=0", *flags]
    with tempfile.NamedTemporaryFile("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            yield f"{address(server, Path(log.name))}/v1/models/m:predict"
        finally:
            server.terminate()
            server.wait()


def load(url: str, inputs: Sequence[bytes], clients: int, seconds: float) -> dict:
    """Lets wrk send requests of one instance each from many clients at once.

    Returns:
        Dict of `requests`, `seconds`, `failed`, and `p50`, `p95`, `p99` in milliseconds.

    Raises:
        ValueError: when wrk is not there.
        ChildProcessError: when it fails.
    """
    if shutil.which("wrk") is None:
        raise ValueError("The load comes from wrk, which is missing: apt-get install wrk.")
    with tempfile.TemporaryDirectory(prefix="kerasformer-load-") as folder:
        script, bodies = Path(folder, "load.lua"), Path(folder, "bodies")
        script.write_text(SCRIPT)
        bodies.write_text("\n".join(json.dumps({"instances": [value(x)]}) for x in inputs))
        options = ["-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout=60s", "-s", str(script)]
        command = ["wrk", *options, url, "--", str(bodies)]
        done = subprocess.run(command, capture_output=True, text=True)
    result = re.search(r"RESULT (.*)", done.stdout)
    if not result:
        raise ChildProcessError(f"wrk failed: {done.stderr or done.stdout}")
    return json.loads(result[1])


def measured(
    command: Sequence[str],
    title: str,
    folder: str,
    sentences: str | None,
    seconds: float = 15.0,
    replicas: Sequence[int] = (),
) -> Iterator[dict]:
    """Measures one model in this process, and behind a server with batches of the best size there.

    Args:
        command: list of strings that starts a server; flags follow.
        title: str, of the model.
        folder: of the SavedModel, with a number as its name.
        sentences: path of a text file for a translator, or `None` for the embedded corpus.
        seconds: of each measurement. The last batch or two, which are answered after it, do not
            count.
        replicas: numbers of Ray replicas to measure as well.

    Yields:
        Records with `work`, `peer`, `value` and `unit`.
    """
    model = tf.saved_model.load(folder)
    inputs = instances(model.signatures, sentences)
    rates = in_process(model.signatures["serving_default"], inputs, seconds)
    best = max(rates, key=rates.__getitem__)
    for size, rate in rates.items():
        yield _record(title, f"in process, batches of {size}", rate, "1/s")
    throughput = {}
    batched_flag = f"--max_batch={best}"
    servers: list[tuple[str, list[str], Sequence[int]]] = [
        ("", [batched_flag], CLIENTS),
        ("one by one, ", ["--max_batch=0"], [ALONE_AT]),
    ]
    for n in replicas:
        ray_flags = [batched_flag, "--engine=ray", f"--replicas={n},{n}"]
        servers.append((f"Ray, replicas: {n}, ", ray_flags, [ALONE_AT]))
    for label, flags, counts in servers:
        with served(command, folder, *flags) as url:
            load(url, inputs, max(CLIENTS), seconds / 2)
            for clients in counts:
                wait_until_idle(url)
                result = load(url, inputs, clients, seconds)
                peer = f"HTTP, {label}{clients} clients"
                throughput[peer] = result["requests"] / result["seconds"]
                yield _record(title, peer, throughput[peer], "1/s")
                yield _record(title, peer, result["failed"], "failed")
                for name in ("p50", "p95", "p99"):
                    yield _record(title, peer, result[name], f"ms, {name}")
    fastest = max((f"HTTP, {clients} clients" for clients in CLIENTS), key=throughput.__getitem__)
    share = throughput[fastest] / rates[best]
    yield _record(title, f"{fastest} / in process, batches of {best}", share, "times")
    batched, alone = f"HTTP, {ALONE_AT} clients", f"HTTP, one by one, {ALONE_AT} clients"
    gain = throughput[batched] / throughput[alone]
    yield _record(title, f"{batched} / {alone}", gain, "times")


def measured_all(
    command: Sequence[str],
    folders: Sequence[str],
    sentences: str | None,
    replicas: Sequence[int] = (),
) -> Iterator[dict]:
    """Measures each exported model, or without any an untrained ViT-Ti/16.

    Args:
        command, sentences, replicas: as in `measured`.
        folders: those of the SavedModels.

    Yields:
        Records, as `measured` does.
    """
    if folders:
        for folder in dict.fromkeys(folders):
            yield from measured(command, folder, folder, sentences, replicas=replicas)
        return
    with tempfile.TemporaryDirectory(prefix="kerasformer-vit-") as exported:
        export_vit(f"{exported}/1")
        yield from measured(command, "ViT-Ti/16", f"{exported}/1", sentences, replicas=replicas)


def wait_until_idle(url: str) -> None:
    """Waits until the server has finished the requests that wrk left behind when it ended."""
    figures, idle = urllib.parse.urljoin(url, METRICS), 0
    while idle < 10:  # Asked often, because any of several processes may answer.
        with urllib.request.urlopen(figures) as answer:
            busy = re.search(rb"^kerasformer_running{.*} [1-9]", answer.read(), re.MULTILINE)
        idle = 0 if busy else idle + 1
        time.sleep(0.02)


def _record(work: str, peer: str, value: float, unit: str) -> dict:
    return {"work": f"serving {work}", "peer": peer, "value": float(f"{value:.4g}"), "unit": unit}


def value(contents: bytes) -> str | dict[str, str]:
    """Returns an instance as a request holds it: text, or base64 of other bytes."""
    try:
        return contents.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(contents).decode()}


def address(server: subprocess.Popen, log: Path) -> str:
    """Waits until a server has logged its address.

    Raises:
        ChildProcessError: when it ends before that.
    """
    while server.poll() is None:
        line = re.search(r"Serving .* at (\S+)", log.read_text())
        if line:
            return line[1]
        time.sleep(0.1)
    raise ChildProcessError(f"The server ended: {log.read_text()[-500:]}")
