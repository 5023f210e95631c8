"""The benchmark of serving: what it sends, what it makes of wrk's report, and one short run."""

import base64
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasformer.models.vit_variants import VARIANTS
from pipelines.benchmarks import serving
from tests.serving import toy_models


class Echo(tf.Module):
    """Returns a sentence as it is."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def echo(self, text):
        return {"text": text}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def same(self, x):
        return {"x": x}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, module = tmp_path_factory.mktemp("echo") / "1", Echo()
    signatures = {"serving_default": module.echo, "number": module.same}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


@pytest.fixture(scope="module")
def signatures(folder):
    model = tf.saved_model.load(str(folder))
    yield model.signatures
    del model


class InstancesTest:
    def test_sentences_are_those_of_the_file_or_real_ones(self, signatures, tmp_path):
        (tmp_path / "text").write_text("eins\nzwei\ndrei\n")
        path = str(tmp_path / "text")
        assert serving.instances(signatures, path, 2) == [b"eins", b"zwei"]
        assert len(set(serving.instances(signatures, None, 13))) == 13

    def test_pictures_differ_and_have_the_size_of_the_model(self, tmp_path):
        model = tf.saved_model.load(str(toy_models.save(toy_models.colors(), tmp_path / "1")))
        found = serving.instances(model.signatures, None, 5)
        assert len(set(found)) == 5
        assert tf.io.decode_png(found[0]).shape == (*toy_models.SIZE, 3)

    def test_another_model_is_refused(self, signatures):
        with pytest.raises(ValueError, match=r"inputs=\['x'\]"):
            serving.instances({"serving_default": signatures["number"]}, None)


class LoadTest:
    def test_without_wrk_it_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(ValueError, match="apt-get install wrk"):
            serving.load("http://127.0.0.1:1/", [b"a"], 1, 1)

    def test_what_wrk_reports_is_read(self, tmp_path, monkeypatch):
        wrk = tmp_path / "wrk"
        wrk.write_text('#!/bin/sh\necho Running\necho \'RESULT {"requests": 7, "p50": 1.5}\'\n')
        wrk.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        found = serving.load("http://127.0.0.1:1/", [b"a"], 1, 1)
        assert found == {"requests": 7, "p50": 1.5}


class ServedTest:
    def test_a_server_that_ends_says_why(self, folder):
        command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
        with pytest.raises(ChildProcessError, match="no such thing"):
            with serving.served(command, str(folder)):
                pass


class IdleTest:
    def test_it_waits_until_nothing_runs(self):
        figures = [b'kerasformer_running{model="m"} %d.0\n' % n for n in (0, 2, 10, *[0] * 10)]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/monitoring/prometheus/metrics"
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"# HELP kerasformer_running 1\n" + figures.pop(0))

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever).start()
            url = f"http://127.0.0.1:{server.server_port}/v1/models/m:predict"
            serving.wait_until_idle(url)
            server.shutdown()
        assert figures == []


@pytest.mark.integration
class VitTest:
    def test_it_is_a_classifier_of_its_size(self, tmp_path, monkeypatch):
        monkeypatch.setitem(VARIANTS["Ti/16"], "num_layers", 1)  # Twelve take long to export.
        serving.export_vit(str(tmp_path / "1"))
        signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
        (file,) = serving.instances(signatures, None, 1)
        assert tf.io.decode_png(file).shape == (224, 224, 3)
        outputs = signatures["serving_default"](image=tf.constant([file]))
        assert outputs["probabilities"].shape == (1, 5)


class MeasuredTest:
    def test_rates_and_ratios_come_out(self, folder, tmp_path, monkeypatch):
        # Reports 10 requests a second for each client, and a third of it one by one.
        (tmp_path / "wrk").write_text(
            "#!/bin/sh\n"
            "for word; do case $word in -c*) clients=${word#-c};; http*) url=$word;; esac; done\n"
            "case $url in *alone*) seconds=3;; *) seconds=1;; esac\n"
            'echo "RESULT {\\"requests\\": ${clients}0, \\"seconds\\": $seconds,"\\\n'
            '"\\"failed\\": 0, \\"p50\\": 1.0, \\"p95\\": 2.0, \\"p99\\": 3.0}"\n'
        )
        (tmp_path / "wrk").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(serving, "wait_until_idle", lambda url: None)
        # Stands for a server: prints an address that says how it was started.
        kind = "'http://alone' if '--max_batch=0' in sys.argv else 'http://together'"
        script = f"import sys, time; print('Serving m at', {kind}, file=sys.stderr, flush=True)"
        command = [sys.executable, "-c", f"{script}; time.sleep(60)"]
        found = {}
        for record in serving.measured(command, "echo", str(folder), None, seconds=0.01):
            found[record["peer"], record["unit"]] = record["value"]
        assert found["HTTP, 8 clients", "1/s"] == 80
        assert found["HTTP, one by one, 32 clients", "1/s"] == pytest.approx(106.7)
        assert found["HTTP, 32 clients", "ms, p95"] == 2.0
        together = "HTTP, 32 clients / HTTP, one by one, 32 clients"
        assert found[together, "times"] == pytest.approx(3.0)
        rates = {peer: x for (peer, unit), x in found.items() if peer.startswith("in process")}
        ((peer, share),) = [(p, x) for (p, _), x in found.items() if "/ in process" in p]
        assert peer.startswith("HTTP, 128 clients / ")
        assert share == pytest.approx(1280 / max(rates.values()), rel=1e-2)

    def test_the_body_of_a_request_is_json(self, tmp_path, monkeypatch):
        Image.fromarray(np.zeros((3, 5, 3), np.uint8)).save(tmp_path / "a.png")
        wrk = tmp_path / "wrk"  # Gives the first body back as its report.
        wrk.write_text('#!/bin/sh\nfor last; do :; done\necho "RESULT $(head -1 "$last")"\n')
        wrk.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        contents = (tmp_path / "a.png").read_bytes()
        body = serving.load("http://127.0.0.1:1/", [contents], 1, 1)
        assert base64.b64decode(body["instances"][0]["b64"]) == contents
        assert serving.load("http://x/", [b'a "b"'], 1, 1) == {"instances": ['a "b"']}
