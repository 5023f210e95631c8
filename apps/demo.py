"""Shows exported models in the browser: `python -m apps.demo --model=runs/m30k/export`.

The page shows the sentences of a translator with their scores and what each word looked at, and the
pictures of a classifier with their classes and where each head of each layer looked. `--model` may
be given several times.
"""

import signal
import sys

import fastapi
import uvicorn
from absl import flags

from apps import program
from pipelines.exported.models import load_named
from pipelines.page import page
from pipelines.serving import server

MODEL = flags.DEFINE_multi_string(
    "model", None, "Folder of an exported model, or of its numbered versions.", required=True
)
PORT = flags.DEFINE_integer("port", 7860, "Port, 0 for any that is free.", 0, 65535)
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
PICTURES = flags.DEFINE_string(
    "pictures", None, "Folder to keep pictures for links; unset: until the program ends."
)


TERMINATED = 128 + signal.SIGTERM


def main(_):
    # An exit, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    with server.listen(HOST.value, PORT.value) as listener:
        models = load_named(MODEL.value)
        signatures = {name: model.signatures for name, model in models.items()}
        languages = {name: model.languages for name, model in models.items()}
        app = page.mount(fastapi.FastAPI(), page.page(signatures, PICTURES.value, languages))
        url = server.url("http", *listener.getsockname()[:2])
        print(f"Open {url}/ and end with Ctrl-C.", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    program.run(main)
