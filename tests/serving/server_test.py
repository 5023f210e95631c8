"""Where a server listens; `serve_test` has the rest of its life."""

import socket

import pytest

from pipelines.serving import server


class AddressTest:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_port_is_taken_at_once(self, host):
        with server.listen(host, 0) as place:
            port = place.getsockname()[1]
            place.listen()
            with socket.create_connection((host, port)):
                pass
            with pytest.raises(OSError, match="in use") as caught:
                server.listen(host, port)
        assert caught.value.filename == f"--host={host} --port={port}"

    def test_it_is_written_as_browsers_read_it(self):
        assert server.url("http", "127.0.0.1", 8501) == "http://127.0.0.1:8501"
        assert server.url("https", "::1", 80) == "https://[::1]:80"
