"""The pages in Debian's Chromium without a head: what a person sees, with a keyboard, in the dark and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import wait_for
from chromium import axe_faults, needs_chromium, run_chromium
from docs_scripts import load_script
from PIL import Image

from aeops.project import Project

from .conftest import HOSTILE, Served, copied, write

PATHS = (
    "/",
    "/r/digits",
    "/compare",
    "/r/news-text",
    "/r/digits/report",
    "/r/digits/monitoring",
    "/r/digits/scoring",
    "/data-docs/digits/index.html",
)

pytestmark = needs_chromium


class Opened:
    """A page of the browser, and all that it asked for and complained about."""

    def __init__(self, page: Any, served: Served) -> None:
        self.page, self.address = page, served.address
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add("/".join(request.url.split("/")[:3])))

    def go(self, path: str) -> Any:
        self.page.goto(self.address + path)
        return self.page

    def width(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def colour(self, of: str, what: str = "background-color") -> str:
        return str(self.page.evaluate(f"getComputedStyle(document.querySelector({of!r}))[{what!r}]"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with run_chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Opened]:
    with browser.new_context(viewport={"width": 1240, "height": 900}) as context:
        yield Opened(context.new_page(), served)


@pytest.fixture
def digit(digits: np.ndarray, tmp_path: Path) -> Path:
    Image.fromarray(digits[1300, 0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


@pytest.mark.slow
def test_every_page_opens_without_a_complaint_and_asks_no_other_host(opened: Opened) -> None:
    for path in PATHS:
        page = opened.go(path)
        assert page.title() not in ("", "taken over"), path
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")  # what is loaded late is loaded, too
        page.wait_for_load_state("networkidle")
    # A script inside a document of others is stopped by its sandbox, and the browser says so.
    assert [told for told in opened.complaints if "sandboxed" not in told and "Content Security Policy" not in told] == []
    assert {host for host in opened.hosts if not host.startswith("data:")} == {opened.address}


def test_a_reason_that_would_like_to_be_a_script_is_a_text(opened: Opened) -> None:
    page = opened.go("/r/digits")
    assert page.title() == "digits"
    assert page.locator("#ledger").inner_text().count(HOSTILE) == 1
    assert opened.complaints == []


def test_a_dropped_digit_is_scored_and_shows_its_parts(opened: Opened, digit: Path) -> None:
    page = opened.go("/r/digits")
    handle = page.evaluate_handle(
        """bytes => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'dropped <b>.png', {type: 'image/png'})); return data; }""",
        list(digit.read_bytes()),
    )
    page.dispatch_event("#try-drop", "dragover", {"dataTransfer": handle})
    page.dispatch_event("#try-drop", "drop", {"dataTransfer": handle})
    page.wait_for_selector("#try-answer .verdict")
    answer = page.locator("#try-answer")
    for words in (
        "not flagged",
        "dropped <b>.png",
        "threshold",
        "p-value",
        "Given",
        "Reconstruction",
        "Error at each pixel",
        "ae why",
    ):
        assert words in answer.inner_text(), words
    assert answer.locator("svg.histogram").count() == 1
    pictures = answer.locator(".panels img")
    assert [pictures.nth(place).evaluate("image => image.naturalWidth") for place in range(3)] == [28, 28, 28]
    assert opened.complaints == []


def test_a_pasted_row_is_scored_by_the_keyboard_alone_and_an_error_is_a_line(opened: Opened) -> None:
    page = opened.go("/r/digits")
    page.focus("#try-text")
    page.keyboard.insert_text("255 " * 784)
    for _ in range(4):  # the two options and the button follow the text; enter on the button sends
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#try-answer .verdict")
    assert "flagged" in page.locator("#try-answer").inner_text()
    page.fill("#try-text", "1 2 3")
    page.click("#try-form button")
    page.wait_for_selector("#try-answer .error")
    assert "got 3 numbers" in page.locator("#try-answer").inner_text()


@pytest.mark.parametrize("path", ["/", "/r/digits"])
def test_a_screen_reader_finds_landmarks_one_heading_labels_and_names(opened: Opened, path: str) -> None:
    page = opened.go(path)
    for landmark in ("header", "main", "footer"):
        assert page.locator(landmark).count() == 1, landmark
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    unnamed = """() => [...document.querySelectorAll("input,select,textarea,button,a,iframe,img")].filter(element =>
        !(element.labels?.length || element.textContent.trim() || element.title || element.alt)
    ).map(element => element.outerHTML)"""
    assert page.evaluate(unnamed) == []
    dangling = """() => [...document.querySelectorAll('[aria-labelledby]')].filter(element =>
        !document.getElementById(element.getAttribute('aria-labelledby'))).map(element => element.outerHTML)"""
    assert page.evaluate(dangling) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")


def test_the_page_is_dark_where_the_system_is(browser: Any, served: Served) -> None:
    shown = {}
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme) as context:
            opened = Opened(context.new_page(), served)
            opened.go("/")
            shown[scheme] = [
                sum(map(int, opened.colour("body", what)[4:-1].split(","))) for what in ("background-color", "color")
            ]
    assert shown["light"][0] > 700 > 200 > shown["light"][1]
    assert shown["dark"][0] < 100 < 600 < shown["dark"][1]


@pytest.mark.parametrize("path", ["/", "/r/digits"])
def test_a_phone_shows_it_all_without_scrolling_sideways(browser: Any, served: Served, digit: Path, path: str) -> None:
    with browser.new_context(viewport={"width": 400, "height": 800}) as context:
        opened = Opened(context.new_page(), served)
        page = opened.go(path)
        if path != "/":
            page.set_input_files("#try-file", digit)
            page.wait_for_selector("#try-answer .verdict")
        assert opened.width() == 400


def test_without_javascript_the_pages_are_whole_and_the_box_says_what_to_type(browser: Any, served: Served) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        opened = Opened(context.new_page(), served)
        page = opened.go("/r/digits")
        text = page.locator("body").inner_text()
        for words in ("version 1", "Quarantine", "promotion", "ae score digits FILE"):
            assert words in text


@pytest.mark.slow
def test_a_page_that_stays_open_shows_what_has_changed_and_keeps_what_was_typed(
    browser: Any, project: Project, tmp_path: Path
) -> None:
    changed = copied(project, tmp_path)
    with Served(changed) as running, browser.new_context() as context:
        opened = Opened(context.new_page(), running)
        page = opened.go("/r/digits")
        wait_for(lambda: page.locator("[data-loading]").count() == 0 or page.wait_for_timeout(200))
        page.fill("#try-text", "half a row")
        page.evaluate("document.activeElement.blur()")
        verdict = changed.home / "monitoring" / "digits" / "verdict.json"
        write(verdict, verdict.read_text().replace("scores have risen since Tuesday", "scores are as they were"))
        page.evaluate("refresh()")
        page.get_by_text("scores are as they were").first.wait_for()
        assert page.input_value("#try-text") == "half a row"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/r/digits", "/compare", "/r/news-text"])
def test_axe_finds_no_fault_of_accessibility(browser: Any, served: Served, path: str, scheme: str) -> None:
    assert axe_faults(browser, served.address + path, scheme) == []


@pytest.mark.slow
def test_the_script_of_the_pictures_in_the_docs_takes_them_all(
    browser: Any, served: Served, project: Project, digit: Path, tmp_path: Path
) -> None:
    script = load_script("take_screenshots")
    report = project.home / "reports" / "digits" / "report.html"
    shots = script.list_shots(served.address, "digits", report, digit)
    shots += script.terminal_shots([["alarm", "--help"]], tmp_path)
    files = script.take_shots(browser, shots, tmp_path)
    assert {"report.png", "terminal-80.png", "terminal-200.png"} <= {file.name for file in files}
    for shot, file in zip(shots, files, strict=True):
        with Image.open(file) as picture:
            assert picture.width == shot.width
            assert picture.height == (shot.height or picture.height)
            assert len(picture.getcolors()) > 10, file.name
    assert "usage: ae alarm" in (tmp_path / "terminal-80.html").read_text(encoding="utf-8")
