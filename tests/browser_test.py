"""Tests of the page in a real Chromium: seen, pointed at, by keyboard, on a phone, without network.

It needs Debian's packages chromium and chromium-driver. Screenshots stay in pytest's folder.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import ROOT, programs
from tests.exported import exports

FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
)
DESKTOP, PHONE = (1280, 900), (390, 844)
HOSTILE = (
    """<script>document.title="1"</script> <img src=x onerror="document.title='2'"> ${3} {{4}}"""
)
SHADE = "return getComputedStyle(arguments[0]).backgroundColor"


def command(*arguments):
    return [sys.executable, "-m", "apps.demo", *map(str, arguments)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Serves a small translator and a small classifier."""
    folder = tmp_path_factory.mktemp("runs")
    words = exports.save(exports.make_translator(), folder / "words/export")
    pixels = exports.save(exports.make_classifier(), folder / "pixels/export")
    given = [f"--model={words}", f"--model={pixels}", "--port=0", f"--pictures={folder}/kept"]
    with subprocess.Popen(command(*given), cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        yield re.search(r"http://\S+", program.stdout.readline())[0]
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # With its path, so that no other driver is looked for on the network.
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


class Reader:
    """What a reader does in the browser.

    Args:
        driver: of Selenium.
        address: of the page.
        screenshots: folder.
    """

    def __init__(self, driver, address, screenshots):
        self.driver, self.address, self.screenshots = driver, address, screenshots

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self, query="", waits_for="textarea"):
        self.driver.get(self.address + query)
        return self.one(waits_for)

    def one(self, css):
        return self.all(css)[0]

    def all(self, css):
        """Waits until there are elements that can be seen."""

        def seen(driver):
            return [x for x in driver.find_elements(By.CSS_SELECTOR, css) if x.is_displayed()]

        return WebDriverWait(self.driver, 60).until(seen)

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, css):
        """Presses Tab until an element of that kind has the focus."""
        for _ in range(40):
            self.press(Keys.TAB)
            focused = self.driver.switch_to.active_element
            if self.driver.execute_script(
                "return arguments[0].matches(arguments[1])", focused, css
            ):
                return focused
        raise AssertionError(f"no Tab leads to {css}")

    def shades(self, css):
        return [self.driver.execute_script(SHADE, word) for word in self.all(css)]

    def drop(self, path):
        field = self.driver.find_elements(By.CSS_SELECTOR, "input[type=file]")[-1]
        field.send_keys(str(path))

    def outside(self):
        """Lists what was asked of other hosts, and what the browser refused to ask of them."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                asked.append(message["params"].get("request", message["params"])["url"])
        own = (self.address, "data:", "blob:", "chrome:", "about:")
        refused = [x["message"] for x in self.driver.get_log("browser") if x["level"] == "SEVERE"]
        return [url for url in asked if not url.startswith(own)] + refused

    def look(self, name):
        """Takes a screenshot of the whole page, which must fit the width of the window."""
        script = "return [innerWidth, document.documentElement.scrollWidth]"
        window, content = self.driver.execute_script(script)
        assert content <= window, f"{name} is {content} pixels wide, the window {window}"
        path = self.screenshots / f"{name}-{window}.png"
        self.driver.save_screenshot(str(path))
        assert np.asarray(Image.open(path).convert("L")).std() > 1


@pytest.fixture
def reader(chromium, address, tmp_path):
    reader = Reader(chromium, address, tmp_path)
    reader.resize(*DESKTOP)
    chromium.get("about:blank")
    for log in ("performance", "browser"):
        chromium.get_log(log)
    yield reader
    assert reader.outside() == []


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "seen.png"
    pixels = np.random.default_rng(3).integers(0, 256, (31, 17, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.slow
class WordsTest:
    def test_by_keyboard_a_sentence_is_translated_and_a_word_shows_what_it_looked_at(self, reader):
        reader.open()
        reader.tab_to("textarea")
        reader.press("A dog sees.", Keys.ENTER)
        assert len(reader.all(".hypotheses li")) == exports.HYPOTHESES
        quiet = reader.shades(".word.s")
        assert len(set(quiet)) == 1
        word = reader.tab_to(".word.t")
        shown = reader.shades(".word.s")
        assert shown != quiet and "looked at" in word.get_attribute("aria-label")
        reader.look("words")
        reader.press(Keys.SHIFT, Keys.TAB)

    def test_the_pointer_goes_before_the_focus(self, reader):
        reader.open("?model=words&text=The+boy+sees+a+dog.", ".word.t")
        quiet = reader.shades(".word.t")
        reader.driver.execute_script("arguments[0].focus()", reader.one(".word.t"))
        ActionChains(reader.driver).move_to_element(reader.all(".word.s")[1]).perform()
        assert reader.shades(".word.t") != quiet and reader.shades(".word.s") == [quiet[0]] * 5

    def test_hostile_text_is_shown_and_never_run(self, reader):
        reader.open()
        reader.one("textarea").send_keys(HOSTILE, Keys.ENTER)
        assert " ".join(word.text for word in reader.all(".word.s")) == HOSTILE
        assert reader.driver.title == "Kerasformer"

    def test_a_link_shows_the_same_again(self, reader):
        reader.open()
        reader.one("textarea").send_keys("A girl & a dog?", Keys.ENTER)
        link, first = (reader.one(css) for css in ("a.permanent", ".answer"))
        link, first = link.get_attribute("href"), first.get_attribute("innerHTML")
        reader.driver.get(link)
        assert reader.one(".answer").get_attribute("innerHTML") == first
        assert reader.one("textarea").get_property("value") == "A girl & a dog?"

    def test_no_text_is_one_sentence(self, reader):
        reader.open()
        reader.one("button.primary").click()
        assert reader.one(".fault").text == "Please type a sentence to translate."

    def test_a_model_that_is_not_here_is_one_sentence(self, reader):
        reader.open("?model=gone&text=A", ".fault")
        assert reader.one(".fault").text == "There is no model of the name 'gone' here."

    def test_the_browser_refuses_to_ask_another_host(self, reader):
        reader.open()
        reader.driver.execute_script("new Image().src = 'http://192.0.2.1/image.png'")
        WebDriverWait(reader.driver, 20).until(lambda _: "192.0.2.1" in str(reader.outside()))

    def test_it_fits_a_phone(self, reader):
        reader.resize(*PHONE)
        reader.open("?model=words&text=" + "A+girl+washes+cows." * 9, ".word.t")
        reader.look("words")


@pytest.mark.slow
class PixelsTest:
    def choose_tab(self, reader):
        reader.open()
        reader.all("button[role=tab]")[1].click()

    def test_a_picture_is_classified_and_each_head_is_a_key_away(self, reader, file):
        self.choose_tab(reader)
        reader.drop(file)
        assert len(reader.all(".classes li")) == len(exports.CLASSES)
        reader.look("pixels")
        reader.tab_to("input[name=look]")
        seen = [reader.one(".look").get_attribute("id")]
        for _ in range(exports.LAYERS * (1 + exports.HEADS)):
            reader.press(Keys.ARROW_RIGHT)
            (shown,) = reader.all(".look")
            seen.append(shown.get_attribute("id"))
        assert seen[0] == "look-rollout" and len(set(seen)) == len(seen)

    def test_a_link_shows_the_same_picture_and_head_again(self, reader, file):
        self.choose_tab(reader)
        reader.drop(file)
        reader.all(".choice")[-1].click()
        link, bars = reader.one(".look a").get_attribute("href"), reader.one(".classes").text
        reader.driver.get(link)
        assert reader.one(".look").get_attribute("id") == "look-2-3"
        assert reader.one(".classes").text == bars

    def test_a_file_that_is_no_image_is_one_sentence(self, reader, tmp_path):
        self.choose_tab(reader)
        (tmp_path / "bad.png").write_bytes(b"no image")
        reader.drop(tmp_path / "bad.png")
        assert reader.one(".fault").text.startswith("This file cannot be used: no BMP, GIF")

    def test_it_fits_a_phone(self, reader, file):
        reader.resize(*PHONE)
        self.choose_tab(reader)
        reader.drop(file)
        reader.one(".look")
        reader.look("pixels")


@pytest.mark.integration
class ProgramTest:
    def test_a_folder_without_a_model_is_one_line_of_error(self, tmp_path):
        (done,) = programs.run(["demo", f"--model={tmp_path}", "--port=0"])
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"error: --model=\S+ holds no SavedModel: .*\n", done.stderr)

    def test_a_port_in_use_is_one_line_of_error(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            (done,) = programs.run(["demo", f"--model={tmp_path}", f"--port={port}"])
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"error: .*[Aa]ddress already in use.*\n", done.stderr)

    @pytest.mark.slow
    def test_too_large_a_file_is_refused(self, address):
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body += bytes(17 * 2**20) + b"\r\n--x--\r\n"
        request = urllib.request.Request(
            f"{address}gradio_api/upload",
            body,
            {"Content-Type": "multipart/form-data; boundary=x"},
        )
        with pytest.raises(urllib.error.HTTPError, match="413"), urllib.request.urlopen(request):
            pass
