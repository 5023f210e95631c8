"""HEAD, OPTIONS and methods that a path lacks; no model is asked for any of it."""

import pytest

from pipelines.serving import rest
from pipelines.serving.rest import Options, State
from tests.serving.in_thread import answering
from tests.serving.rest_test import PREDICT, WORDS, ask, error_of


@pytest.fixture(scope="module")
def port():
    with answering(rest.build({}, Options(), State(ready=True))) as port:
        yield port


class MethodsTest:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", WORDS, "GET, HEAD, OPTIONS"),
            ("DELETE", f"{WORDS}/versions/7", "GET, HEAD, OPTIONS"),
            ("POST", "/healthz", "GET, HEAD, OPTIONS"),
            ("POST", "/docs", "GET, HEAD, OPTIONS"),
            ("PUT", "/static-offline-docs/swagger-ui.css", "GET, HEAD, OPTIONS"),
            ("GET", PREDICT, "OPTIONS, POST"),
            ("HEAD", PREDICT, "OPTIONS, POST"),
            ("PUT", f"{WORDS}/labels/stable:classify", "OPTIONS, POST"),
            ("OPTIONS", "*", "GET, HEAD, OPTIONS, POST"),
        ],
    )
    def test_a_method_that_a_path_has_not_is_told_which_it_has(self, port, method, path, allowed):
        if method not in ("HEAD", "OPTIONS"):
            assert error_of(port, method, path)[0] == 405
        assert ask(port, method, path)[1]["Allow"] == allowed
        status, headers, body = ask(port, "OPTIONS", path)
        assert (status, headers["Allow"], body) == (204, allowed, b"")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", rest.METRICS])
    def test_head_tells_all_but_the_body(self, port, path):
        found, told = ask(port, "GET", path), ask(port, "HEAD", path)
        assert (found[0], told[0], told[2]) == (200, 200, b"")
        names = [name for name in found[1] if name not in ("x-request-id", "date")]
        assert path == rest.METRICS or [told[1][x] for x in names] == [found[1][x] for x in names]
