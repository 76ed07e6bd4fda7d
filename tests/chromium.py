"""Debian's Chromium without a head, and axe, which finds faults of accessibility in a page that it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
needs_chromium = pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"no {CHROMIUM} here: apt-get install chromium")


@contextmanager
def run_chromium() -> Iterator[Any]:
    """Yield a browser of Playwright's that runs until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield running
        running.close()


def axe_faults(browser: Any, address: str, scheme: str) -> list[str]:
    """Return the faults that axe finds on a page, each with its place.

    Args:
        browser: of `run_chromium`.
        address: of the page.
        scheme: `light` or `dark`.
    """
    from axe_playwright_python.sync_playwright import Axe

    # The pages allow no script of others: axe comes in past that policy.
    with browser.new_context(color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_load_state("networkidle")
        faults = Axe().run(page).response["violations"]
    return [f"{fault['id']}: {node['html'][:200]}" for fault in faults for node in fault["nodes"]]
