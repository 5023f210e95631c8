"""Tests of the page without a browser: its HTML, its links, what it keeps and what it refuses."""

import asyncio
import base64
import io
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import fastapi
import numpy as np
import pytest
import tensorflow as tf
from fastapi.testclient import TestClient
from PIL import Image

from kerasformer import explain
from pipelines.page import page
from pipelines.page import pixels as page_pixels
from pipelines.page import words as page_words
from pipelines.page.links import MAX_CHARACTERS, Pictures, State, alert, anchor, read_link
from tests import ROOT
from tests.exported import exports

RANDOM = np.random.default_rng(5)
HOSTILE = """<script>alert("1")</script> <img src=x onerror='alert(2)'> "'></p>&amp; </style>"""
VOID = ("img", "input")


class Elements(HTMLParser):
    """Lists the elements of HTML as `(tag, attributes)`, and checks that each one is closed."""

    def __init__(self, source):
        super().__init__()
        self.found, self.texts, self.open = [], [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag, css=""):
        return [a for t, a in self.found if t == tag and css in a.get("class", "").split() + [""]]


def picture(size=(31, 17), kind="PNG", **options):
    pixels = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def models():
    modules = {
        "words": exports.make_translator(max_source_length=19),
        "pixels": exports.make_classifier(),
    }
    yield {name: module.signatures() for name, module in modules.items()}  # which do not own them


class LinkTest:
    @pytest.mark.parametrize("text", ["A dog.", "", HOSTILE, "größe & 50 % = 日本 #?+", "👩‍👩‍👧"])
    def test_a_state_comes_back_from_its_link(self, text):
        state = State(model="m 30/k", text=text, picture="ab", view="2.3")
        client = TestClient(fastapi.FastAPI())
        url = client.build_request("GET", "/" + state.link()).url
        assert read_link(dict(url.params)) == state
        (attributes,) = Elements(anchor(state, text)).of("a")
        assert attributes["href"] == state.link()

    def test_other_queries_are_passed_over(self):
        assert read_link({"__theme": "dark", "text": "A"}) == State(text="A")

    def test_a_fault_is_text(self):
        elements = Elements(alert(HOSTILE))
        assert elements.found == [("p", {"class": "fault", "role": "alert"})]
        assert "".join(elements.texts) == HOSTILE


class PicturesTest:
    def test_a_picture_is_found_under_its_hash_by_another_program(self, tmp_path):
        contents = picture()
        name = Pictures(tmp_path / "kept").keep(contents)
        assert Pictures(tmp_path / "kept").read(name) == contents
        assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{name}.png"]

    @pytest.mark.parametrize("name", ["", "0" * 64, "../secret", "a" * 63, "A" * 64, "/etc/passwd"])
    def test_nothing_else_is_read(self, tmp_path, name):
        (tmp_path / "secret.png").write_bytes(b"secret")
        assert Pictures(tmp_path / "kept").read(name) is None

    def test_those_not_looked_at_for_longest_are_dropped(self, tmp_path):
        pictures = Pictures(tmp_path, limit=3)
        names = []
        for index in range(3):
            names.append(pictures.keep(bytes([index])))
            time.sleep(0.02)
        pictures.read(names[0])
        time.sleep(0.02)
        newest = pictures.keep(b"newest")
        assert {p.stem for p in tmp_path.iterdir()} == {names[0], names[2], newest}

    def test_without_a_folder_they_are_forgotten_in_the_end(self):
        code = (
            "from pipelines.page.links import Pictures; kept = Pictures(); kept.keep(b'x');"
            "print(kept.folder, *kept.folder.iterdir())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        folder, picture = done.stdout.split()
        assert picture.startswith(folder) and not Path(folder).exists()


@pytest.mark.integration
class WordsTest:
    def test_the_hypotheses_and_scores_are_those_of_the_model(self, models):
        found = models["words"]["translate_nbest"](text=tf.constant(["A dog sees."]))
        elements = Elements(page_words.answer(models["words"], State("words", "A  dog\nsees. ")))
        texts = [text for text in found["translations"][0].numpy()]
        assert len(elements.of("li")) == len(texts) == exports.HYPOTHESES
        for text, score in zip(texts, found["scores"][0].numpy(), strict=True):
            assert text.decode() in elements.texts
            assert f"{score:.2f}".replace("-", "−") in elements.texts
        assert elements.of("a")[0]["href"] == "?model=words&text=A+dog+sees."

    def test_each_word_carries_its_row_of_the_alignment(self, models):
        found = models["words"]["align"](text=tf.constant(["A dog sees."]))
        pieces = ("source_tokens", "target_tokens")
        pieces = [[piece.decode() for piece in found[key][0].numpy()] for key in pieces]
        matrix, source, target = explain.word_alignment(found["alignment"][0].numpy(), *pieces)
        elements = Elements(page_words.answer(models["words"], State("words", "A dog sees.")))
        words = elements.of("button", "word")
        assert len(words) == len(source) + len(target) and source == ["A", "dog", "sees."]
        for rows, side, other in ((matrix.T, "s", "t"), (matrix, "t", "s")):
            for index, row in enumerate(rows):
                (word,) = elements.of("button", f"{side}{index}")
                shares = re.findall(rf"--{other}(\d+):([\d.]+)", word["style"])
                carried = np.zeros(len(row))
                for place, share in shares:
                    carried[int(place)] = float(share)
                np.testing.assert_allclose(carried, row, atol=0.011)

    def test_labels_name_the_words_that_were_looked_at_most(self):
        matrix = np.array([[0.05, 0.7, 0.155, 0.095], [1, 0, 0, 0]])
        elements = Elements(page_words.pair(matrix, ["a", "b", "c", "d"], ["x", "y"]))
        labels = [word["aria-label"] for word in elements.of("button")]
        assert labels[4:] == ["x looked at b 70 %, c 16 %, d 10 %", "y looked at a 100 %"]
        assert labels[:2] == ["a was looked at by y 100 %, x 5 %", "b was looked at by x 70 %"]

    def test_hostile_text_stays_text(self, models):
        elements = Elements(page_words.answer(models["words"], State("words", HOSTILE)))
        assert {tag for tag, _ in elements.found}.isdisjoint({"script", "img"})
        assert not any(key.startswith("on") for _, attrs in elements.found for key in attrs)
        elements = Elements(page_words.pair(np.ones((1, 1)), [HOSTILE], [HOSTILE]))
        assert [text for text in elements.texts if text == HOSTILE] == [HOSTILE] * 2
        elements = Elements(page_words.hypotheses([HOSTILE.encode(), b"gone"], [-1, -np.inf]))
        assert HOSTILE in elements.texts and "gone" not in elements.texts

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            (" \n\t", "Please type a sentence to translate."),
            ("x" * 2011, f"Expected at most {MAX_CHARACTERS} characters, received 2011."),
        ],
    )
    def test_bad_text_is_one_sentence(self, models, text, sentence):
        assert page_words.answer(models["words"], State("words", text)) == alert(sentence)

    def test_half_a_character_is_answered(self, models):
        assert Elements(page_words.answer(models["words"], State("words", "\ud800 dog"))).of("li")

    def test_it_says_when_the_model_read_only_the_beginning(self, models):
        elements = Elements(page_words.answer(models["words"], State("words", "a " * 999)))
        assert "The text is longer than the model reads; its end was cut." in elements.texts

    def test_without_the_signature_there_is_no_alignment(self, models):
        nbest = {"translate_nbest": models["words"]["translate_nbest"]}
        elements = Elements(page_words.answer(nbest, State("words", "A dog.")))
        assert elements.of("li") and not elements.of("button")


class TidyTest:
    @pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "WEBP"])
    def test_a_picture_becomes_a_small_png(self, kind):
        image = Image.open(io.BytesIO(page_pixels.tidy(picture((300, 1021), kind))))
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (512, 150))

    def test_small_pixels_are_kept_as_they_are(self):
        contents = picture()
        kept, given = (Image.open(io.BytesIO(x)) for x in (page_pixels.tidy(contents), contents))
        assert np.array_equal(np.asarray(kept), np.asarray(given))

    def test_it_is_upright_and_says_nothing_of_where_it_was_taken(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        exif[0x010F] = "maker"
        contents = page_pixels.tidy(picture((7, 13), "JPEG", exif=exif))
        image = Image.open(io.BytesIO(contents))
        assert image.size == (7, 13) and not image.getexif() and b"maker" not in contents

    @pytest.mark.parametrize("contents", [b"", b"<svg/>", b"text", picture()[:-40]])
    def test_a_bad_file_is_one_sentence(self, contents):
        with pytest.raises(ValueError, match=r"^This file cannot be used: [\w, ]+\. Pictures are "):
            page_pixels.tidy(contents)


@pytest.mark.integration
class PixelsTest:
    def answer(self, signatures, **state):
        pictures = Pictures()
        name = pictures.keep(page_pixels.tidy(picture()))
        state = State(model="pixels", picture=name, **state)
        return Elements(page_pixels.answer(signatures, state, pictures)), pictures.read(name)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_the_answer_is_that_for_the_file_that_was_given(self, models, kind):
        contents, pictures = picture((300, 1021), kind), Pictures()
        name = pictures.keep(page_pixels.tidy(contents, models["pixels"]))
        found = models["pixels"]["classify"](image=tf.constant([contents]))
        answer = page_pixels.answer(models["pixels"], State("pixels", picture=name), pictures)
        bars = [float(bar["style"].split(":")[1]) for bar in Elements(answer).of("span", "bar")]
        np.testing.assert_allclose(bars, found["probabilities"][0], atol=1e-4)
        image = Image.open(io.BytesIO(pictures.read(name)))
        seen = models["pixels"]["attention"](image=tf.constant([contents]))["pixels"][0]
        np.testing.assert_array_equal(np.asarray(image), seen)

    def test_the_bars_are_the_probabilities(self, models):
        elements, contents = self.answer(models["pixels"])
        found = models["pixels"]["classify"](image=tf.constant([contents]))
        shares = found["probabilities"][0].numpy()
        bars = [float(bar["style"].split(":")[1]) for bar in elements.of("span", "bar")]
        np.testing.assert_allclose(bars, shares, atol=1e-4)
        names = [name.decode() for name in found["class_names"][0].numpy()]
        assert sorted(names) == exports.CLASSES and set(names) <= set(elements.texts)

    def test_there_is_a_map_for_every_head_each_layer_and_all(self, models):
        elements, contents = self.answer(models["pixels"])
        heads = [f"{i}-{j}" for i in (1, 2) for j in (1, 2, 3)]
        expected = {"picture", "rollout", "1", "2", *heads}
        assert {look["id"][5:] for look in elements.of("figure")} == expected
        assert {choice["id"][7:] for choice in elements.of("input")} == expected
        links = [link["href"] for link in elements.of("a")]
        assert len(set(links)) == len(expected) and f"view={heads[4].replace('-', '.')}" in links[8]

    def test_a_map_is_brightest_where_most_was_read(self, models):
        elements, contents = self.answer(models["pixels"])
        found = models["pixels"]["attention"](image=tf.constant([contents]))
        heads = found["heads"][0].numpy()
        assert heads.shape == (exports.LAYERS, exports.HEADS, *exports.GRID)
        maps = page_pixels.views(found["attention"][0].numpy(), heads)
        urls = [image["src"] for image in elements.of("img")]
        assert urls[: len(maps)] == urls[len(maps) :]  # large, then small
        for (_, weights), url in zip(maps.values(), urls, strict=False):
            png = base64.b64decode(url.partition(",")[2])
            pixels = np.asarray(Image.open(io.BytesIO(png)), "int32")[..., :3].sum(axis=-1)
            assert pixels.shape == exports.GRID
            order = np.argsort(weights, axis=None)
            assert np.all(np.diff(pixels.ravel()[order]) >= -3)  # roundings of three channels
        np.testing.assert_array_equal(maps["2"][1], heads[1].mean(axis=0))
        np.testing.assert_array_equal(maps["1.3"][1], heads[0, 2])

    @pytest.mark.parametrize(
        ("view", "chosen"),
        [("", "rollout"), ("2.3", "2-3"), ("picture", "picture"), ("9.9", "rollout")],
    )
    def test_the_view_of_the_link_is_chosen(self, models, view, chosen):
        elements, _ = self.answer(models["pixels"], view=view)
        checked = [choice["id"] for choice in elements.of("input") if "checked" in choice]
        assert checked == [f"choose-{chosen}"]

    def test_of_an_older_export_the_rollout_alone_is_shown(self, models):
        def attention(image):
            found = models["pixels"]["attention"](image=image)
            return {key: found[key] for key in ("class_name", "attention", "pixels")}

        older = {"classify": models["pixels"]["classify"], "attention": attention}
        elements, _ = self.answer(older)
        assert [look["id"] for look in elements.of("figure")] == ["look-picture", "look-rollout"]
        elements, _ = self.answer({"classify": models["pixels"]["classify"]})
        assert not elements.of("figure") and elements.of("li")
        assert "This model has no attention to show." in elements.texts

    def test_a_gray_image_is_shown_too(self):
        pixels = RANDOM.integers(0, 256, (5, 7, 1), np.uint8)
        maps = page_pixels.views(np.zeros((2, 3), "float32"), None)  # All went to the class token.
        assert Elements(page_pixels.looks(pixels, maps, State())).of("figure")

    def test_a_picture_that_is_not_kept_is_one_sentence(self, models):
        gone = page_pixels.answer(models["pixels"], State("pixels", picture="0" * 64), Pictures())
        assert gone == alert(
            "The picture of this link is not kept here any more; please drop it in again."
        )


class PageTest:
    @pytest.mark.parametrize("signatures", [None, {"embed": None}])
    def test_models_it_cannot_show_are_one_sentence(self, signatures):
        models = {"other": signatures} if signatures else {}
        with pytest.raises(ValueError, match=r"\['translate_nbest', 'classify'\], received models"):
            page.page(models)

    def test_it_stands_beside_other_routes_and_names_no_other_host_to_the_browser(self, models):
        app = fastapi.FastAPI()
        app.get("/healthz")(lambda: "well")

        async def mount():  # Outside of a loop Gradio makes loops that it never closes.
            page.mount(app, page.page(models, None, {"words": "Thai to Czech"}), "/demo")

        asyncio.run(mount())
        with TestClient(app) as client:
            assert client.get("/healthz").json() == "well"
            answer = client.get("/demo/")
            assert "Sentence, Thai to Czech" in answer.text
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "content-security-policy" not in client.get("/healthz").headers
            loaded = re.findall(
                r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(.*?)\"", answer.text
            )
            assert loaded and not [url for url in loaded if re.match(r"(\w+:)?//", url)]
            theme = client.get("/demo/theme.css").text
            assert "system-ui" in theme and not re.findall(r"@import|@font-face", theme)
