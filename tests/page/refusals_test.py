"""Junk that is sent to the queue of a page: a refusal each, and no stack trace."""

import asyncio
import json

import fastapi
import gradio
import pytest
from fastapi.testclient import TestClient

from pipelines.page import page
from pipelines.page.refusals import MAX_BODY

API = "/gradio_api"
META = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Mounts a page with a choice, a field and a file, whose answer is what it was given."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        app = fastapi.FastAPI()

        async def mount():  # Outside of a loop Gradio makes loops that it never closes.
            with gradio.Blocks() as blocks:
                choice = gradio.Dropdown([("One", "one"), ("Two", "two")], value="one")
                field, file = gradio.Textbox(), gradio.File(file_types=["image"])
                shown = gradio.HTML()
                gradio.on([field.submit], lambda *given: str(given), [choice, field, file], shown)
            page.mount(app, blocks.queue())

        asyncio.run(mount())
        (folder / "secret.png").write_bytes(b"secret")
        with TestClient(app) as client:
            client.secret = str(folder / "secret.png")
            yield client


def call(*data, **changes):
    return {"data": list(data), "fn_index": 0, "session_hash": "mine", **changes}


def upload(client, name="a.png"):
    answer = client.post(f"{API}/upload", files={"files": (name, b"contents")})
    return {"path": answer.json()[0], "meta": META}


class JoinTest:
    def test_what_the_page_sends_is_answered(self, client):
        sent = upload(client)
        joined = client.post(f"{API}/queue/join", json=call("two", "text", sent))
        assert joined.status_code == 200 and joined.json()["event_id"]
        stream = client.get(f"{API}/queue/data", params={"session_hash": "mine"}).text
        assert "process_completed" in stream and "'two', 'text', " in stream

    @pytest.mark.parametrize(
        "body",
        [
            b"junk",
            b"[" * 10**5,
            b"\xff",
            [],
            {},
            call("one", None, None, session_hash=None),
            call("one", None, None, fn_index=99),
            call("one", None, None, fn_index=-1),
            call("one", None, None, fn_index=True),
            call("one", None, None, fn_index="0"),
            call("one"),
            call("one", None, None, None),
            call("three", None, None),
            call(["one"], None, None),
            call("one", 7, None),
            call("one", {"a": []}, None),
            call("one", None, "x"),
            call("one", None, {"path": 7, "meta": META}),
            call("one", None, {"path": "", "meta": META}),
            call("one", None, {"path": "\0", "meta": META}),
            call("one", None, {"path": "x" * 9999, "meta": META}),
            call("one", None, {"path": "/etc/passwd", "meta": META}),
        ],
    )
    def test_junk_is_refused_in_one_sentence(self, client, capfd, body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = client.post(f"{API}/queue/join", content=body)
        assert answer.status_code == 400 and answer.json()["detail"].endswith(".")
        assert capfd.readouterr() == ("", "")

    def test_files_that_were_not_uploaded_or_are_no_pictures_are_refused(self, client):
        good = upload(client)
        for wrong in (
            {"path": client.secret, "meta": META},
            {**good, "path": good["path"] + "/../../../secret.png"},
            {**good, "meta": 7},
            {**good, "size": "x"},
            {"path": good["path"]},
            upload(client, "a.txt"),
        ):
            answer = client.post(f"{API}/queue/join", json=call("one", None, wrong))
            assert answer.status_code == 400, wrong

    def test_a_call_without_end_is_not_read(self, client):
        answer = client.post(f"{API}/queue/join", content=b" " * (MAX_BODY + 1))
        assert answer.status_code == 413

    def test_a_session_that_is_not_there_is_told_so(self, client, capfd):
        stream = client.get(f"{API}/queue/data", params={"session_hash": "nobody"})
        assert stream.status_code == 200 and "404: Not Found" in stream.text
        assert "Traceback" not in "".join(capfd.readouterr())

    @pytest.mark.parametrize("path", ["run/predict", "api/predict", "call/x", "component_server"])
    def test_what_the_page_has_no_use_for_is_closed(self, client, path):
        assert client.post(f"{API}/{path}", json={"data": [], "fn_index": 7}).status_code == 404
