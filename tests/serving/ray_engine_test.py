"""Models on a Ray cluster of two nodes: answers, refusals, a killed replica, update and scaling."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import ray
import tensorflow as tf
import yaml
from ray.cluster_utils import Cluster

from pipelines.serving import ray_engine
from pipelines.serving.model import Settings
from pipelines.serving.rest import Options
from pipelines.serving.server import Listening
from tests import ROOT

DOCS = ROOT / "docs" / "serving.md"
SERVE_CONFIG = re.compile(r"serveConfigV2: \|\n(.*?)\n  \S", re.DOTALL)
REPLICA = "ServeReplica:kerasformer:halves"


class Half(tf.Module):
    """Halves a number, slowly enough to be killed at it."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def halve(self, x):
        turns = tf.while_loop(lambda i: i < 20_000, lambda i: i + 1, [0])[0]
        return {"half": x / 2 + tf.cast(turns - 20_000, tf.float32)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("models"), Half()
    tf.saved_model.save(module, str(folder / "1"), signatures={"serving_default": module.halve})
    return {"halves": ray_engine.Served("halves", folder, Settings(), {})}


@pytest.fixture(scope="module")
def port(served):
    """Starts two nodes, a head and another, and deploys two replicas of a model on them."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    spread = ray_engine.Cluster(cluster.address, replicas=(2, 2))
    ray_engine.run(served, Options(), spread, Listening(port=number))
    yield number
    ray.serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


def ask(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST" if body else "GET", path, body and json.dumps(body))
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found


def replicas():
    processes = psutil.process_iter(["cmdline", "name"])
    return [p for p in processes if REPLICA in " ".join(p.info["cmdline"] or [p.info["name"]])]


@contextlib.contextmanager
def load(port):
    """Keeps seven clients asking; gives the times of their answers, which all have to be right."""
    wrong, times, ended = [], [[] for _ in range(7)], threading.Event()

    def keep_asking(first):
        number = first
        while not ended.is_set():
            try:
                found = ask(port, "/v1/models/halves:predict", {"instances": [float(number)]})
            except Exception as error:  # Lost on the way, which is a wrong answer too.
                found = repr(error)
            times[first].append(time.monotonic())
            if found != (200, {"predictions": [number / 2]}):
                wrong.append(found)
            number += 7

    threads = [threading.Thread(target=keep_asking, args=(n,)) for n in range(7)]
    for thread in threads:
        thread.start()
    try:
        yield times
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def wait_for(is_so, seconds=150):
    """Waits until something is so."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own.
class ClusterTest:
    def test_answers_and_refusals_are_those_of_the_server(self, port):
        path = "/v1/models/halves"
        assert ask(port, f"{path}:predict", {"instances": [3.0]}) == (200, {"predictions": [1.5]})
        status, found = ask(port, path)
        assert (status, found["model_version_status"][0]["state"]) == (200, "AVAILABLE")
        assert "halve" not in ask(port, f"{path}/metadata")[1]["metadata"]["signature_def"]
        status, found = ask(port, f"{path}:predict", {"instances": ["x"]})
        assert status == 400 and "float32" in found["error"]
        assert ask(port, "/v1/models/none")[0] == 404
        assert ask(port, "/readyz")[0] == 200

    def test_a_replica_killed_under_load_loses_no_request(self, port):
        with load(port) as times:
            time.sleep(3)
            running = replicas()
            assert len(running) == 2
            killed = time.monotonic()
            os.kill(running[0].pid, signal.SIGKILL)
            time.sleep(10)
        assert all(min(one) < killed < max(one) for one in times)

    def test_an_update_under_load_loses_no_request_and_replicas_follow_the_load(self, port, served):
        before = {replica.pid for replica in replicas()}
        config = yaml.safe_load(SERVE_CONFIG.search(DOCS.read_text())[1])["applications"][0]
        path, name = config["import_path"].split(":")
        assert (path, config["name"]) == (ray_engine.__name__, ray_engine.APPLICATION)
        arguments = config["args"] | {"models": {"halves": str(served["halves"].folder)}}
        assert arguments["replicas"] == [1, 4]

        def update(most):
            spread = {"replicas": [1, most], "busy": 2}
            application = getattr(ray_engine, name)(arguments | spread)
            ray.serve.run(application, name=ray_engine.APPLICATION)

        with load(port) as times:
            update(most=1)
            wait_for(lambda: len(replicas()) == 1)
            assert not before & {replica.pid for replica in replicas()}
            update(most=2)
            updated = time.monotonic()
            wait_for(lambda: len(replicas()) == 2)
            time.sleep(10)  # It was none that was being replaced.
            assert len(replicas()) == 2
        assert all(min(one) < updated < max(one) for one in times)


class WithoutRayTest:
    def test_it_is_asked_for_by_name(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ValueError, match=r"pip install 'kerasformer\[ray\]'"):
            ray_engine.run({}, Options(), ray_engine.Cluster(), Listening())

    def test_the_folder_of_the_checkout_is_found(self):
        assert Path(ray_engine.ROOT, "apps", "serve.py").is_file()
