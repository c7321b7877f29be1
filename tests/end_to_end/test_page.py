"""The page, in a real browser, on a real server."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

IMAGES = Path(__file__).parents[2] / "images"
DIGITS = sorted(IMAGES.glob("digit-*"))

PATIENCE_S = 20
FLAGS = [
    "--headless=new",
    # For root, and for containers, which have neither a GPU nor much shared memory.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # Against calling home.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Page:
    """What a person sees on the page, and does there."""

    def __init__(self, driver, address):
        self.driver = driver
        self.address = address
        driver.get_log("browser")  # forgets what the page before has left
        driver.get(address)
        self.wait(lambda: self.text("model"))

    def wait(self, condition):
        return WebDriverWait(self.driver, PATIENCE_S).until(lambda _: condition())

    def element(self, id):
        return self.driver.find_element(By.ID, id)

    def text(self, id):
        """The text that is visible."""
        return self.element(id).text

    def choose(self, path):
        self.element("image").send_keys(str(path))

    def bring(self, event, *paths):
        """Drops files on the page, or pastes them."""
        files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
        self.run(
            """
            const [event, files] = arguments, transfer = new DataTransfer();
            for (const [name, data] of files)
              transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(event === 'drop'
              ? new DragEvent('drop', { ...options, dataTransfer: transfer })
              : new ClipboardEvent('paste', { ...options, clipboardData: transfer }));
            """,
            event,
            files,
        )

    def answer_with(self, document, status=200, headers=None):
        """From now on the page's requests get this answer."""
        self.run(
            "const [body, init] = arguments; window.fetch = async () => new Response(body, init)",
            json.dumps(document),
            {"status": status, "headers": headers or {}},
        )

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def labels(self):
        """The labels for the image that was taken last, best first; waits for them."""
        rows = self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, "#labels li"))
        return [row.find_element(By.CLASS_NAME, "label").text for row in rows]

    def error(self):
        """The lines of the error; waits for it."""
        return self.wait(lambda: self.text("error")).splitlines()


@pytest.fixture(scope="session")
def browser(require, tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = require("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(require("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, demo_server):
    return Page(browser, demo_server)


def test_digits_that_are_chosen_are_read_right(page):
    assert DIGITS
    for digit in DIGITS:
        page.choose(digit)
        assert page.labels()[0] == digit.name.split("-")[1], digit.name
        assert page.text("filename") == digit.name


def test_a_result_shows_the_image_five_bars_and_where_the_time_went(page):
    page.choose(DIGITS[0])
    assert len(page.labels()) == 5
    page.wait(lambda: page.element("preview").is_displayed())
    names = [name.text for name in page.driver.find_elements(By.CSS_SELECTOR, "#timing dt")]
    assert names == ["read", "decode", "queue", "infer", "total", "batch size"]
    widths = page.run("return [...document.querySelectorAll('#labels .bar i')].map(bar => bar.offsetWidth)")
    assert widths == sorted(widths, reverse=True)


def test_a_text_file_is_refused_in_plain_words(page, tmp_path):
    page.choose(DIGITS[0])
    page.labels()
    text = tmp_path / "notes.txt"
    text.write_text("no image at all")
    page.choose(text)
    title, *rest = page.error()
    assert title == "Not a JPEG, PNG or WebP"
    assert any("JPEG, PNG or WebP file" in line for line in rest)
    assert not page.text("labels")
    page.wait(lambda: not page.element("preview").is_displayed())


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_image_can_be_dropped_or_pasted(page, way):
    page.bring(way, DIGITS[3])
    assert page.labels()[0] == "3"


def test_of_several_images_the_first_is_classified_and_that_is_said(page):
    page.bring("drop", *DIGITS[4:7])
    assert page.labels()[0] == "4"
    assert page.text("message") == f"Only the first of 3 files was classified: {DIGITS[4].name}."


def test_what_is_dropped_but_is_no_file_is_explained(page):
    page.bring("drop")
    assert page.error()[0] == "Not a file"


def test_a_server_that_is_down_is_called_unreachable(page):
    page.driver.set_network_conditions(offline=True, latency=0, throughput=0)
    try:
        page.choose(DIGITS[0])
        assert page.error()[0] == "The server cannot be reached"
    finally:
        page.driver.delete_network_conditions()


def test_a_full_server_is_shown_with_the_time_to_wait(page):
    full = {"title": "The server is full", "detail": "Too many images are waiting; try again later."}
    page.answer_with(full, 503, {"Retry-After": "7"})
    page.choose(DIGITS[0])
    assert page.error() == [full["title"], full["detail"], "Try again in 7 s."]


def test_an_answer_that_is_no_json_is_named_by_its_status(page):
    page.run("window.fetch = async () => new Response('<h1>Bad gateway</h1>', { status: 502 })")
    page.choose(DIGITS[0])
    assert page.error() == ["The server answered 502"]


def test_labels_and_file_names_are_text_and_never_markup(page, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    predictions = [{"label": hostile, "score": 1.0, "index": 0}]
    page.answer_with({"predictions": predictions, "timing_ms": {"read": 1.0, "total": 1.0}, "batch_size": 1})
    image = tmp_path / hostile
    image.write_bytes(DIGITS[0].read_bytes())
    page.choose(image)
    assert page.labels() == [hostile]
    assert page.text("filename") == hostile


def models(ready=True, **source):
    engine = {"precision": "int8", "device": "cpu"}
    model = {"name": "net", "num_classes": 2, "engine": engine, "source": source, "ready": ready}
    return {"models": [model], "default": "net"}


def test_random_weights_are_warned_of(page):
    assert not page.element("random").is_displayed()
    page.answer_with(models(random=True))
    page.run("start()")
    page.wait(lambda: page.element("random").is_displayed())


def test_a_model_that_is_loading_is_said_to_be_until_it_is_ready(page):
    page.answer_with(models(ready=False))
    page.run("start()")
    page.wait(lambda: page.text("model") == "Model: net, loading")
    page.answer_with(models())
    page.wait(lambda: page.text("model") == "Model: net, 2 classes, int8 on cpu")


def test_the_keyboard_reaches_everything_and_the_focus_is_seen(page):
    for id, shown in (("image", "drop"), ("copy", "copy")):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        assert page.driver.switch_to.active_element.get_attribute("id") == id
        assert page.element(shown).value_of_css_property("outline-style") == "solid"


def test_the_command_names_this_server_and_can_be_copied(page):
    assert page.text("command").endswith(f"{page.address}/classify")
    page.element("copy").click()
    page.wait(lambda: page.text("copy") == "Copied")


def test_a_phone_needs_no_sideways_scrolling(page):
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        page.choose(DIGITS[0])
        page.labels()
        assert page.run("return document.documentElement.scrollWidth") == 360
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_comes_from_elsewhere_and_the_console_stays_silent(page):
    page.choose(DIGITS[0])
    page.labels()
    page.wait(lambda: page.element("preview").is_displayed())
    addresses = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {f"{page.address}/models", f"{page.address}/classify"} <= set(addresses)
    own = (page.address, f"blob:{page.address}", "data:")
    assert [address for address in addresses if not address.startswith(own)] == []
    assert page.driver.get_log("browser") == []
