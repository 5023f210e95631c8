"""The page that shows exported models at work: sentences translated, pictures classified.

It loads nothing from any other host: fonts are the system's, scripts come from this server, and a
header forbids the browser the rest. `page` makes it and `mount` puts it into a web application.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while gradio is imported

import fastapi
import gradio
import tensorflow as tf
from starlette.middleware import Middleware

from pipelines.page import pixels, words
from pipelines.page.links import MAX_CHARACTERS, Pictures, State, alert, read_link
from pipelines.page.refusals import Refusals
from pipelines.page.style import CSS, THEME

WORDS, PIXELS = "words", "pixels"
SIGNATURES = {WORDS: "translate_nbest", PIXELS: "classify"}  # that the tabs call
MAX_FILE = "16mb"
MAX_WAITING = 32
# Gradio's templates are functions made of strings, hence 'unsafe-eval'.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def page(
    models: Mapping[str, Mapping],
    pictures: str | os.PathLike | None = None,
    languages: Mapping[str, str] | None = None,
):
    """Makes the page of some models.

    Args:
        models: for each name the signatures of an exported translator or classifier, as
            `tf.saved_model.load(folder).signatures` gives them. Keep what `load` returned too,
            because it owns the variables.
        pictures: folder that keeps the pictures that links name; unset, they are forgotten when
            the program ends.
        languages: what is shown beside the name of a translator, such as `"English to German"`.

    Returns:
        `gradio.Blocks`, for `mount`.

    Raises:
        ValueError: when there is no model, or one that is neither.
    """
    kept = Pictures(pictures)
    names = {
        tab: [name for name in models if signature in models[name]]
        for tab, signature in SIGNATURES.items()
    }
    if not models or set(models) != {*names[WORDS], *names[PIXELS]}:
        known = {name: sorted(signatures) for name, signatures in models.items()}
        raise ValueError(
            f"Expected models with one of the signatures {list(SIGNATURES.values())}, received "
            f"models={known}."
        )
    blocks = gradio.Blocks(title="Kerasformer", analytics_enabled=False, delete_cache=(3600, 3600))
    with blocks:
        gradio.HTML('<h1 class="title">Kerasformer</h1>')
        with gradio.Tabs() as tabs:
            openers = []
            if names[WORDS]:
                openers.append(_words_tab(models, names[WORDS], languages or {}))
            if names[PIXELS]:
                openers.append(_pixels_tab(models, names[PIXELS], kept))

        def open_link(request: gradio.Request):
            state, updates = read_link(dict(request.query_params)), {tabs: gradio.skip()}
            for opener, _ in openers:
                updates |= opener(tabs, state)
            return updates

        outputs = [tabs, *(component for _, components in openers for component in components)]
        blocks.load(open_link, None, outputs, **PRIVATE)
    return blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=2, api_open=False)


def mount(app: fastapi.FastAPI, blocks: gradio.Blocks, path: str = "/") -> fastapi.FastAPI:
    """Puts the page into an application, where it asks no other host for anything.

    Args:
        app: the application, which may have other routes.
        blocks: what `page` returned.
        path: where the page is to be, such as `"/demo"`.

    Returns:
        The application.
    """
    return gradio.mount_gradio_app(
        app,
        blocks,
        path=path,
        theme=THEME,
        css=CSS,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        max_file_size=MAX_FILE,
        app_kwargs={"middleware": [Middleware(Headers), Middleware(Refusals, blocks=blocks)]},
    )


class Headers:
    """Adds to each answer the headers that keep the browser to this host.

    Args:
        app: ASGI application.
    """

    HEADERS = [
        (b"content-security-policy", POLICY.encode()),
        (b"referrer-policy", b"same-origin"),  # A link holds what was typed.
    ]

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self.HEADERS]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _words_tab(models, names, languages):
    """Makes the tab of the translators.

    Returns:
        Tuple of a function `(tabs, state)` that returns the changes a link makes to this tab, by
        component, and a list of these components.
    """

    def translate(model, text):
        return _guarded(words.answer, models, State(model=model, text=text or ""))

    def open_link(tabs, state):
        if not state.text:
            return {}
        name, text = state.model or names[0], state.text[: MAX_CHARACTERS + 1]
        update = {tabs: gradio.Tabs(selected=WORDS), field: text, shown: translate(name, text)}
        return update | ({model: name} if name in names else {})

    with gradio.Tab("Words", id=WORDS):
        choices = [
            (f"{name}: {languages.get(name, '')}".removesuffix(": "), name) for name in names
        ]
        model = gradio.Dropdown(choices, value=names[0], label="Model", visible=len(names) > 1)
        label = f"Sentence, {languages.get(names[0], '')}" if len(names) == 1 else "Sentence"
        field = gradio.Textbox(
            label=label.removesuffix(", "), lines=1, max_lines=8, max_length=MAX_CHARACTERS
        )
        button = gradio.Button("Translate", variant="primary")
        shown = gradio.HTML()
    gradio.on([button.click, field.submit], translate, [model, field], shown, **PRIVATE)
    return open_link, [model, field, shown]


def _pixels_tab(models, names, kept):
    """Makes the tab of the classifiers, and returns what `_words_tab` does."""

    def show(state):
        return _guarded(pixels.answer, models, state, kept)

    def classify(model, path):
        if path is None:
            return ""
        try:
            picture = kept.keep(pixels.tidy(Path(path).read_bytes(), models.get(model, {})))
        except ValueError as error:
            return alert(str(error))
        return show(State(model=model, picture=picture))

    def open_link(tabs, state):
        if not state.picture:
            return {}
        state = state._replace(model=state.model or names[0])
        update = {tabs: gradio.Tabs(selected=PIXELS), shown: show(state)}
        return update | ({model: state.model} if state.model in names else {})

    with gradio.Tab("Pictures", id=PIXELS):
        model = gradio.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
        file = gradio.File(label="Picture", file_types=["image"], height=140)
        shown = gradio.HTML()
    gradio.on([file.upload, file.clear, model.input], classify, [model, file], shown, **PRIVATE)
    return open_link, [model, shown]


def _guarded(answer, models, state, *arguments):
    """Returns the model's answer as HTML, or a sentence when it has none."""
    if state.model not in models:
        return alert(f"There is no model of the name {state.model!r} here.")
    try:
        return answer(models[state.model], state, *arguments)
    except tf.errors.OpError:
        return alert("The model could not read this.")
