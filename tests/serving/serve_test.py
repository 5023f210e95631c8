"""Tests of the server as a program: it serves, watches, ends cleanly, and reports errors."""

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families

from tests import ROOT, programs
from tests.serving import toy_models

PREDICT = "/v1/models/words:predict"
LONG = {"signature_name": "ponder", "instances": ["a" * 301]}
NUMBERS = {"instances": [4.0]}
ENDS = signal.SIGTERM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes models, keys and a certificate."""
    folder = tmp_path_factory.mktemp("serve")
    toy_models.save(toy_models.words(), folder / "words" / "1")
    toy_models.save(toy_models.half_plus(2), folder / "half" / "2")
    toy_models.save(toy_models.half_plus(3), folder / "3")
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "saved_model.pb").write_bytes(b"garbage")
    (folder / "keys.txt").write_text("first\nsecond\n")
    (folder / "none.txt").touch()
    write_certificate(folder / "certificate.pem", folder / "key.pem")
    return folder


def write_certificate(certificate, key):
    """Writes a certificate of 127.0.0.1 that it signs itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, *kinds))


@contextlib.contextmanager
def started(folder, *flags):
    """Starts the program; yields it, its port, and the files of its log and its errors."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    models = [f"--model={name}={folder / name}" for name in ("words", "half")]
    paths = [folder / f"{name} {port}" for name in ("log", "errors")]
    with paths[0].open("w+") as log, paths[1].open("w+") as errors:
        process = programs.Program(["serve", *models, f"--port={port}", *flags], log, errors)
        try:
            yield process, port, *paths
        finally:
            process.kill()
            process.wait()


def ask(port, method, path, body=None, headers=(), context=None):
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    options = {"context": context} if context else {}
    with contextlib.closing(kind("127.0.0.1", port, timeout=60, **options)) as connection:
        connection.request(method, path, body and json.dumps(body), dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def wait_for(found):
    """Asks again and again until there is an answer."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            answer = found()
            if answer:
                return answer
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.integration
class ServeTest:
    def test_it_loads_serves_switches_and_ends_what_it_began(self, folder):
        torn = folder / "torn"
        shutil.copytree(folder / "broken", torn)
        flags = [f"--model=torn={torn}", "--poll_seconds=0.1", "--drain_seconds=0.5"]
        with started(folder, *flags) as (
            process,
            port,
            log,
            errors,
        ):
            statuses = []

            def is_ready():
                statuses.append(ask(port, "GET", "/readyz")[0])
                return statuses[-1] == 200

            wait_for(is_ready)
            assert set(statuses) <= {503, 200}
            serving = f"Serving ['half', 'words'] at http://127.0.0.1:{port}\n"
            assert errors.read_text().endswith(serving)
            assert "--model=torn cannot be served yet" in errors.read_text()
            assert json.loads(ask(port, "GET", "/readyz")[1])["broken"] == ["torn"]
            (state,) = json.loads(ask(port, "GET", "/v1/models/torn")[1])["model_version_status"]
            assert state["state"] == "END" and "is damaged" in state["status"]["error_message"]

            def half(model="half"):
                status, body, _ = ask(port, "POST", f"/v1/models/{model}:predict", NUMBERS)
                assert status in (200, 503)
                return json.loads(body).get("predictions")

            assert half("torn") is None
            shutil.copytree(folder / "3", torn / "1", dirs_exist_ok=True)
            wait_for(lambda: half("torn") == [5.0])
            shutil.copytree(folder / "half" / "2", torn / "1", dirs_exist_ok=True)
            wait_for(lambda: half("torn") == [4.0])
            assert "torn: version 1 was replaced by other files." in errors.read_text()
            wait_for(lambda: "broken" not in json.loads(ask(port, "GET", "/readyz")[1]))

            assert half() == [4.0]
            assert ask(port, "GET", "/healthz", headers={"X-A": "b" * 2**16})[0] == 431
            (folder / "half" / "3").mkdir()
            shutil.copytree(folder / "3", folder / "half" / "3", dirs_exist_ok=True)
            wait_for(lambda: half() == [5.0])

            found = []
            asker = threading.Thread(target=lambda: found.append(ask(port, "POST", PREDICT, LONG)))
            asker.start()
            wait_for(lambda: self.running(port) == 1)
            process.send_signal(ENDS)
            asker.join()
            status, body, headers = found[0]
            assert (status, headers["Connection"]) == (200, "close")
            assert json.loads(body) == {"predictions": LONG["instances"]}
            assert process.wait(60) == 0
            with pytest.raises(ConnectionRefusedError):
                ask(port, "GET", "/healthz")
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            assert {"signature", "compute_seconds", "request_id"} <= lines[-1].keys()
            assert errors.read_text().endswith("half: serving [3], gone [2].\n")

    def running(self, port):
        """Reads how many requests are being computed."""
        text = ask(port, "GET", "/monitoring/prometheus/metrics")[1].decode()
        samples = [x for family in text_string_to_metric_families(text) for x in family.samples]
        found = [x.value for x in samples if x.name == "kerasformer_running"]
        return sum(found)

    def test_a_server_that_is_still_loading_ends_as_gently(self, folder):
        with started(folder) as (process, port, _, errors):
            wait_for(lambda: ask(port, "GET", "/healthz")[0] == 200)
            process.send_signal(ENDS)
            assert process.wait(60) == 0
            assert "abort" not in errors.read_text().lower()

    @pytest.mark.slow
    def test_no_request_that_a_fuzzer_makes_up_is_answered_wrongly(self, folder):
        config = folder / "schemathesis.toml"
        # A label that is not there is answered 404; so much is expected.
        config.write_text('[parameters]\n"path.model" = "words"\n"path.version" = "1"\n')
        with started(folder) as (process, port, log, _):
            wait_for(lambda: ask(port, "GET", "/readyz")[0] == 200)
            fuzzer = [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run"]
            fuzzer += [f"http://127.0.0.1:{port}/openapi.json", "--checks=all"]
            # Whether a request that the page allows fits the model, the page cannot say.
            fuzzer += ["--exclude-checks=positive_data_acceptance", "--max-examples=29"]
            done = subprocess.run(fuzzer, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            statuses = {line["status"] for line in lines if line["path"] != "/readyz"}
            assert {200, 400, 404, 405} <= statuses and max(statuses) < 500
            assert process.poll() is None

    def test_over_tls_with_keys(self, folder):
        context = ssl.create_default_context(cafile=folder / "certificate.pem")
        flags = [f"--tls_{name}={folder / name}.pem" for name in ("certificate", "key")]
        flags += [f"--api_keys={folder}/keys.txt", "--max_batch=0", "--drain_seconds=0"]
        flags += ["--host=0.0.0.0"]
        with started(folder, *flags) as (process, port, _, errors):
            wait_for(lambda: ask(port, "GET", "/readyz", context=context)[0] == 200)
            assert f"https://0.0.0.0:{port}" in errors.read_text()
            assert "warning: " not in errors.read_text()
            body = {"instances": ["a"]}
            assert ask(port, "POST", PREDICT, body, context=context)[0] == 401
            shown = {"Authorization": "Bearer second"}
            status, answer, _ = ask(port, "POST", PREDICT, body, shown, context)
            assert (status, json.loads(answer)["predictions"][0]["loud"]) == (200, "A")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0

    def test_what_is_wrong_is_one_sentence(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as place:
            port = place.getsockname()[1]
            cases = [
                ([], 2, "--model"),
                (["--model=words"], 1, "--model=words"),
                (["--model=a=b", "--model=a=c"], 1, "more than once"),
                (["--model=a=b", "--label=b/stable=1"], 1, "not served: ['b']"),
                (["--model=a=b", "--length_buckets=1,x"], 1, "--length_buckets"),
                (["--model=a=b", "more"], 1, "received ['more']"),
                (["--model=a=b", "--port=65536"], 2, "--port=65536"),
                (["--model=a=b", "--poll_seconds=0"], 2, "--poll_seconds=0"),
                (["--model=a=b", f"--port={port}"], 1, f"--port={port}: Address already in use"),
                (["--model=a=b", "--api_keys=no.txt"], 1, "no.txt: No such file"),
                (["--model=a=b", f"--api_keys={folder}/none.txt"], 1, "no key in it"),
                (["--model=a=b", "--tls_certificate=no.pem"], 1, "--tls_certificate=no.pem"),
                (["--model=a=b", f"--tls_key={folder}/key.pem"], 1, "Expected --tls_certificate"),
                (
                    ["--require_all", f"--model=a={folder}/none", "--host=0.0.0.0"],
                    1,
                    "holds no SavedModel",
                ),
                (
                    ["--require_all", f"--model=a={folder}/broken"],
                    1,
                    "--model=a cannot be served: version 1: its saved_model.pb is damaged",
                ),
                (
                    [f"--model=a={folder}/half", "--label=a/stable=7"],
                    1,
                    f"--label=a/stable=7 names a version that is not there: {folder}/half holds [2",
                ),
            ]
            code = (
                "import json, sys\nfrom absl.testing import flagsaver\n"
                "from apps import program, serve\n"
                "for flags in json.loads(sys.argv[1]):\n"
                "  sys.argv[1:] = ['--port=0', *flags]\n"
                "  with flagsaver.flagsaver():\n"
                "    try: program.run(serve.main)\n"
                "    except SystemExit as end: print('code', end.code, file=sys.stderr)\n"
                "assert not {'kerasformer', 'apps.predict'} & sys.modules.keys()\n"
            )
            arguments = [sys.executable, "-c", code, json.dumps([flags for flags, *_ in cases])]
            done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        said = re.split(r"code (\d+)\n", done.stderr)
        for (flags, code, text), lines, found in zip(cases, said[::2], said[1::2], strict=False):
            (error,) = [line for line in lines.splitlines() if line.startswith("error: ")]
            assert text in error and "Traceback" not in lines, flags
            assert ("warning: --host=0.0.0.0" in lines) == ("--host=0.0.0.0" in flags), flags
            assert int(found) == code, flags
        assert len(said) == 2 * len(cases) + 1
        assert os.listdir(folder / "broken" / "1") == ["saved_model.pb"]
