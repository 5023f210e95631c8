"""A server at its limit, with good requests, bad ones and hangers-up: all answers are checked.

`python -m tests.serving.soak --words=EXPORT --pixels=EXPORT --minutes=10` prints one JSON object:
what was asked and answered, which answers were wrong, and how the server's memory grew. A sixth
of the way through, a second version of each model appears, with scores that tell it from the first;
at the end the server is asked to end under load. `--sentences=FILE` gives the text.
"""

import collections
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import tensorflow as tf
from absl import app, flags
from PIL import Image

from pipelines.benchmarks.serving import address, instances, value
from tests import ROOT

MODELS = ("words", "pixels")
SCORES = ("score", "probabilities")
TOLERANCE = 0.01  # of scores and probabilities: sums depend on the batch
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\2\0\0\0" + bytes(60)


class Soak:
    """A server, its load, and what came of it.

    Args:
        exports: folder of numbered versions, by the name of the model.
        folder: where the server's copies of them and its log lie.
        sentences: path of a text file, or `None` for the embedded corpus.
    """

    def __init__(self, exports, folder, sentences=None):
        self.folder, self.counts, self.wrong = folder, collections.Counter(), []
        self.stopped, self.ending = threading.Event(), False
        self.rows, self.right = {}, {}
        self.oldest, self.newest = dict.fromkeys(exports, 1), dict.fromkeys(exports, 1)
        for name, export in exports.items():
            shutil.copytree(export / "1", folder / name / "1")
            save_second(folder / name / "1", folder / name / ".2")
            model = tf.saved_model.load(str(export / "1"))
            signature = model.signatures["serving_default"]
            self.rows[name] = instances(model.signatures, sentences, 64)
            (key,) = signature.structured_input_signature[1]
            answers = [signature(**{key: tf.constant([row])}) for row in self.rows[name]]
            self.right[name] = [{k: v.numpy()[0] for k, v in one.items()} for one in answers]
        self.log = open(folder / "log", "w+")
        models = [f"--model={name}={folder / name}" for name in exports]
        command = [sys.executable, "-m", "apps.serve", *models, "--port=0", "--max_seconds=60"]
        self.server = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=self.log
        )
        self.port = urlsplit(address(self.server, folder / "log")).port

    def run(self, seconds, good=24, bad=4):
        """Keeps the server busy; a new version comes after a sixth of the time."""
        jobs = [self.ask_well] * good + [self.ask_badly] * bad + [self.explore]
        threads = [threading.Thread(target=self.noted, args=job) for job in enumerate(jobs)]
        try:
            for thread in threads:
                thread.start()
            found = self.watch(seconds)
        finally:
            self.stopped.set()
            self.server.kill()
            for thread in threads:
                thread.join()
            self.log.close()
        return {"counts": dict(sorted(self.counts.items())), "wrong": self.wrong[:10], **found}

    def watch(self, seconds):
        """Publishes the second versions, asks the server to end, and says what was to be seen."""
        memory, switched, began, appeared = [], {}, time.monotonic(), None
        while time.monotonic() < began + seconds:
            time.sleep(min(1.0, seconds / 30))
            memory.append(self.memory())
            if appeared is None and time.monotonic() > began + seconds / 6:
                appeared = time.monotonic()
                for name in self.rows:
                    self.newest[name] = 2
                    os.rename(self.folder / name / ".2", self.folder / name / "2")
            for name in self.newest.keys() - switched.keys() if appeared else ():
                if [v["version"] for v in self.versions(name)] == ["2"]:
                    switched[name] = round(time.monotonic() - appeared, 1)
                    self.oldest[name] = 2
        good = {name: self.counts[f"good {name}, 200"] / seconds for name in self.rows}
        self.ending = True
        self.server.send_signal(signal.SIGTERM)
        code = self.server.wait(timeout=120)
        # Before the last third, two versions may be loaded at once.
        last, before = (
            np.median(memory[len(memory) * n // 12 :][: len(memory) // 12 + 1]) for n in (11, 8)
        )
        return {
            "good answers a second": {name: round(rate, 1) for name, rate in good.items()},
            "seconds until version 2 answered": switched,
            "exit code": code,
            "memory growth in the last third": round(float(last / before - 1), 4),
            "memory": f"{before / 2**30:.2f} to {last / 2**30:.2f} GiB",
        }

    def noted(self, number, job):
        """Does a job whose failure is the soak's own."""
        # The load leaves the processors to the server, as that of other machines does.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            job(number)
        except Exception as error:
            self.wrong.append(f"the soak itself: {error!r}")
            raise

    def memory(self):
        """Returns the bytes that the server holds."""
        pages = Path(f"/proc/{self.server.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def versions(self, name):
        """Returns what the server says of the versions of a model."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"/v1/models/{name}")
        body = connection.getresponse().read()
        connection.close()
        return json.loads(body)["model_version_status"]

    def ask_well(self, number):
        """Asks for what is known, and compares."""
        dice, connection = random.Random(number), None
        while not self.stopped.is_set():
            name = dice.choice(list(self.rows))
            picked = dice.choices(range(len(self.rows[name])), k=dice.choice((1, 1, 1, 3)))
            body = json.dumps({"instances": [value(self.rows[name][i]) for i in picked]})
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                    connection.connect()
            except ConnectionRefusedError:
                connection = None
                self.counts["good, refused connection at the end" if self.ending else "lost"] += 1
                if self.ending:
                    return
                continue
            oldest = self.oldest[name]
            try:
                connection.request("POST", f"/v1/models/{name}:predict", body)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.counts["lost"] += 1
                self.wrong.append(f"lost: {error!r}, ending: {self.ending}")
                connection.close()
                connection = None
                continue
            self.counts[f"good {name}, {answer.status}"] += 1
            if answer.status == 200:
                self.compare(name, picked, found["predictions"], oldest)
            elif answer.status != 503:
                self.wrong.append(f"{answer.status}: {found}")
            if answer.getheader("connection") == "close":
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def compare(self, name, picked, rows, oldest):
        """Records an answer that no version which may have given it gives."""
        self.counts["rows checked"] += len(rows)
        expected = [self.right[name][i] for i in picked]
        for version in range(oldest, self.newest[name] + 1):
            if not any(difference(*pair, version) for pair in zip(expected, rows, strict=True)):
                self.counts[f"answers of {name} by version {version}"] += 1
                return
        self.counts["wrong"] += 1
        self.wrong.append(f"{name} {picked}, version {oldest} or later: {rows}, not {expected}")

    def ask_badly(self, number):
        """Sends what cannot be answered, in all ways."""
        dice = random.Random(number)
        kinds = bad_requests(self.rows)
        while not self.stopped.is_set() and not self.ending:
            kind = dice.choice(sorted(kinds))
            path, body, length, part = kinds[kind]
            try:
                status = self.send(path, body, length or len(body), part, kind == "slow")
            except OSError:
                status = "closed"
            self.counts[f"bad, {kind}, {status}"] += 1
            if isinstance(status, int) and status >= 500 and status != 503:
                self.wrong.append(f"{kind}: {status}")

    def send(self, path, body, length, part, is_slow):
        """Sends a part of a request; returns its status, or None after hanging up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode() + body[:part])
            if is_slow:
                for i in range(part, len(body)):
                    time.sleep(0.05)
                    connection.sendall(body[i : i + 1])
            elif part < len(body):
                return None
            first = connection.recv(65536).split(b" ", 2)
        return int(first[1]) if len(first) > 1 else "closed"

    def explore(self, number):
        """Lets schemathesis make up requests from the OpenAPI page."""
        url = f"http://127.0.0.1:{self.port}/openapi.json"
        checks = ["--checks=not_a_server_error", "--max-examples=50", f"--seed={number}"]
        command = [Path(sys.executable).with_name("schemathesis"), "run", url, *checks]
        while not self.stopped.is_set() and not self.ending:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            while process.poll() is None and not self.ending:
                time.sleep(0.1)
            process.terminate()
            out = process.communicate()[0]
            if not self.ending:
                self.counts[f"schemathesis runs, exit code {process.returncode}"] += 1
                if process.returncode:
                    self.wrong.append(f"schemathesis: {out[-2000:]}")


def bad_requests(rows):
    """Returns, by kind, a path, a body, the length said (0: the right one) and bytes sent."""
    name = next(iter(rows))
    good = json.dumps({"instances": [value(rows[name][0])]}).encode()
    frames = [Image.new("RGB", (900, 900), (n, 0, 0)) for n in range(9)]
    contents = io.BytesIO()
    frames[0].save(contents, "GIF", save_all=True, append_images=frames[1:])
    bodies = {
        "truncated JSON": good[:-3],
        "no JSON": b"\x00\x01",
        "nothing": b"",
        "wrong types": b'{"instances": [1, null, {"a": []}]}',
        "huge number": b'{"instances": [' + b"9" * 5000 + b"]}",
        "infinity": b'{"instances": [NaN, Infinity, 1e999]}',
        "invalid UTF-8": b'{"instances": ["\xff\xfe"]}',
        "half a surrogate": b'{"instances": ["\\ud800"]}',
        "invalid base64": b'{"instances": [{"b64": "%%%"}]}',
        "deep": b'{"instances":' + b"[" * 3000 + b"]" * 3000 + b"}",
        "too many": json.dumps({"instances": ["a"] * 1000}).encode(),
        "long text": json.dumps({"instances": ["a" * 100_000]}).encode(),
        "other signature": b'{"signature_name": "nope", "instances": ["a"]}',
        "bomb": json.dumps({"instances": [value(BOMB)]}).encode(),
        "animation": json.dumps({"instances": [value(contents.getvalue())]}).encode(),
    }
    found = {}
    for kind, body in bodies.items():
        for model in rows:
            found[f"{kind} ({model})"] = (f"/v1/models/{model}:predict", body, 0, len(body))
    path = f"/v1/models/{name}:predict"
    found["slow"] = (path, good, 0, len(good) // 2)
    found["hangs up"] = (path, good, 0, len(good) // 2)
    found["hangs up after the head"] = (path, good, 0, 0)
    found["too large"] = (path, good, 10**9, len(good))
    found["no model"] = ("/v1/models/none:predict", good, 0, len(good))
    return found


def save_second(folder, target):
    """Saves a model again, with scores that are by 1 higher."""
    module = tf.Module()
    module.loaded = tf.saved_model.load(str(folder))

    def changed(function):
        def call(**inputs):
            outputs = function(**inputs)
            return {key: x + 1 if key in SCORES else x for key, x in outputs.items()}

        return tf.function(call).get_concrete_function(**function.structured_input_signature[1])

    signatures = {name: changed(f) for name, f in module.loaded.signatures.items()}
    tf.saved_model.save(module, str(target), signatures=signatures)


def difference(expected, found, version):
    """Returns the name of an output that is not as expected of a version, or `None`."""
    for key, right in expected.items():
        right, row = np.asarray(right).tolist(), found[key]
        if key in SCORES:
            good = np.allclose(row, np.asarray(right) + (version - 1), atol=TOLERANCE)
        elif key == "class_names":  # Two that are as probable may change places.
            names, chances = [name.decode() for name in right], expected["probabilities"]
            good = row[0] == names[0] or abs(chances[0] - chances[1]) < TOLERANCE
            good = good and set(row) == set(names)
        else:
            good = row == (right.decode() if isinstance(right, bytes) else right)
        if not good:
            return key
    return None


def main(_):
    exports = {name: Path(flag.value) for name, flag in zip(MODELS, (WORDS, PIXELS), strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        found = Soak(exports, Path(folder), SENTENCES.value).run(60 * MINUTES.value)
    print(json.dumps(found, indent=1, default=str))
    missing = found["seconds until version 2 answered"].keys() ^ set(MODELS)
    missing |= {name for name in MODELS if not found["counts"].get(f"good {name}, 200")}
    failed = found["wrong"] or found["exit code"] or found["counts"].get("lost") or missing
    return 1 if failed or found["memory growth in the last third"] > 0.05 else 0


if __name__ == "__main__":
    WORDS = flags.DEFINE_string("words", None, "Folder of versions of a translator.", required=True)
    PIXELS = flags.DEFINE_string("pixels", None, "The same of a classifier.", required=True)
    MINUTES = flags.DEFINE_float("minutes", 10.0, "How long.")
    SENTENCES = flags.DEFINE_string("sentences", None, "Text file; unset: the embedded corpus.")
    app.run(main)
