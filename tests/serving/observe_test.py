"""Tests of what is seen of the server: its metrics, as Prometheus reads them, and its log."""

import asyncio
import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.serving.model import Answer
from pipelines.serving.observe import Metrics, Observed

SECONDS = {"read": 0.001, "queue": 0.002, "compute": 0.3, "write": 0.0001}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ANSWER = Answer(b"{}", 7, "translate", 3, (3, 11), SECONDS)


def figures(metrics):
    """Reads the metrics, each under its name and the values of its labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    samples = [sample for family in families for sample in family.samples]
    return {(x.name, *(x.labels[key] for key in sorted(x.labels))): x.value for x in samples}


def ask(app, path="/path", headers=(), metrics=None, is_closing=False):
    """Sends one request through the application that is observed; returns what it sends."""
    sent = []

    async def send(message):
        sent.append(message)

    observed = Observed(app, metrics or Metrics(), lambda: is_closing)
    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(observed(scope | {"client": ("10.0.0.7", 5)}, None, send))
    return sent


async def application(scope, receive, send):
    scope["state"] |= {"model": "words", "facts": {"version": 7}}
    await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"three"})


class MetricsTest:
    def test_answers_are_counted(self):
        metrics = Metrics()
        for _ in range(2):
            metrics.count("words", ANSWER)
        found, name = figures(metrics), "kerasformer_"
        labels = ("words", "translate", "7")
        assert found[f"{name}instances_total", *labels] == 6
        assert found[f"{name}batch_size_count", *labels] == 4
        assert found[f"{name}batch_size_sum", *labels] == 28
        for stage, seconds in SECONDS.items():
            key = ("words", "translate", stage, "7")
            assert found[f"{name}stage_seconds_count", *key] == 2
            assert found[f"{name}stage_seconds_sum", *key] == pytest.approx(2 * seconds)
        for bound, count in (("0.25", 0), ("0.5", 2)):
            key = (bound, "words", "translate", "compute", "7")
            assert found[f"{name}stage_seconds_bucket", *key] == count

    def test_the_process_is_measured_too(self):
        assert figures(Metrics())[("process_resident_memory_bytes",)] > 2**20

    def test_requests_are_counted_by_model_and_status(self):
        metrics = Metrics()
        for _ in range(3):
            ask(application, metrics=metrics)
        found = figures(metrics)
        assert found["kerasformer_requests_total", "words", "201"] == 3
        assert found["kerasformer_request_seconds_count", "words"] == 3


class LogTest:
    def test_a_request_is_one_line_of_json(self, caplog):
        caplog.set_level("INFO", "kerasformer.access")
        ask(application, path='/v1/"\n\u2028', headers=[(b"x-request-id", b"mine")])
        (record,) = caplog.records
        assert "\n" not in record.getMessage()
        line = json.loads(record.getMessage())
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.pop("time"))
        assert 0 <= line.pop("seconds") < 60
        assert line == {
            "request_id": "mine",
            "client": "10.0.0.7",
            "method": "POST",
            "path": '/v1/"\n\u2028',
            "status": 201,
            "bytes": 8,
            "version": 7,
        }

    def test_what_fails_is_logged_and_counted_as_500(self, caplog):
        async def fail(scope, receive, send):
            raise RuntimeError

        caplog.set_level("INFO", "kerasformer.access")
        metrics = Metrics()
        start, body = ask(fail, metrics=metrics, headers=[(b"x-request-id", b"mine")])
        assert start["status"] == 500 and (b"x-request-id", b"mine") in start["headers"]
        assert b"its log says which" in body["body"]
        error, line = caplog.records
        assert error.getMessage() == "/path, request mine" and error.exc_info
        assert json.loads(line.getMessage())["status"] == 500
        assert figures(metrics)["kerasformer_requests_total", "", "500"] == 1

    def test_an_answer_that_fails_half_way_ends_its_connection(self, caplog):
        async def fail(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError

        with pytest.raises(RuntimeError):
            ask(fail)

    @pytest.mark.parametrize(
        ("sent", "is_valid"),
        [
            (f"00-{TRACE}-{PARENT}-01", True),
            (f"cc-{TRACE}-{PARENT}-00-what-comes-later", True),
            (f"00-{TRACE}-{PARENT}-01-more", False),
            (f"ff-{TRACE}-{PARENT}-01", False),
            (f"00-{'0' * 32}-{PARENT}-01", False),
            (f"00-{TRACE}-{'0' * 16}-01", False),
            (f"00-{TRACE.upper()}-{PARENT}-01", False),
            (f"00-{TRACE}-{PARENT}", False),
            ("", False),
        ],
    )
    def test_the_trace_of_a_request_is_logged(self, caplog, sent, is_valid):
        caplog.set_level("INFO", "kerasformer.access")
        ask(application, headers=[(b"traceparent", sent.encode())])
        line = json.loads(caplog.messages[0])
        expected = (TRACE, PARENT) if is_valid else (None, None)
        assert (line.get("trace_id"), line.get("parent_id")) == expected

    def test_the_id_of_a_request_comes_back(self):
        start, *_ = ask(application, headers=[(b"x-request-id", b"job 7/a")])
        assert start["headers"] == [(b"a", b"b"), (b"x-request-id", b"job 7/a")]

    @pytest.mark.parametrize("wrong", [b"", b"a" * 129, b"a\tb", b"a\nb: c", b"\xe4", None])
    def test_an_id_that_cannot_be_is_replaced(self, wrong):
        headers = [] if wrong is None else [(b"x-request-id", wrong)]
        found = {
            dict(ask(application, headers=headers)[0]["headers"])[b"x-request-id"] for _ in "ab"
        }
        assert len(found) == 2 and all(re.fullmatch(rb"[0-9a-f]{32}", one) for one in found)

    def test_connections_end_when_the_server_does(self):
        assert (b"connection", b"close") in ask(application, is_closing=True)[0]["headers"]
