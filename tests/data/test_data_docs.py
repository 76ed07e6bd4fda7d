"""The pages of a validation load nothing and run nothing, and there is one run a dataset."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from data_project import Room

from aeops.data.data_docs import strip_remote_content

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import
LOADING = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "base"}


class Loads(HTMLParser):
    """Collects what a browser would fetch or run, and where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.styling = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.styling = tag == "style"
        self.loads += [tag] if tag in LOADING else []
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "srcset", "background", "poster")]
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self.styling:
            self.loads += [word for word in ("@import", "url(") if word in data]


def read_page(page: Path) -> Loads:
    parser = Loads()
    parser.feed(page.read_text())
    return parser


@pytest.fixture
def pages(accepted: Room) -> list[Path]:
    found = sorted(accepted.project.data_docs.rglob("*.html"))
    assert len(found) == 8  # all datasets, this one, and a suite and a result for samples, set and labels
    return found


def test_no_page_loads_or_runs_anything(pages: list[Path]) -> None:
    for page in pages:
        text = page.read_text()
        assert read_page(page).loads == [], page
        assert "dataContextId" not in text
        assert text.index("Content-Security-Policy") < 300


def test_every_link_between_the_pages_leads_somewhere(pages: list[Path]) -> None:
    for page in pages:
        for link in read_page(page).links:
            if not link.startswith(("#", "http")):
                assert (page.parent / link).resolve().is_file(), (page, link)


def test_the_first_page_names_every_expectation_with_what_was_found(accepted: Room) -> None:
    text = (accepted.project.data_docs / "mine" / "index.html").read_text()
    for entry in accepted.validation()["expectations"]:
        assert not entry["applicable"] or f"<td>{entry['name']}</td>" in text
    assert "Drift was not checked: no version has been accepted yet" in text


@pytest.mark.slow
def test_a_second_validation_replaces_the_pages_of_the_first(pages: list[Path], accepted: Room) -> None:
    accepted.accept()
    now = sorted(accepted.project.data_docs.rglob("*.html"))
    assert len(now) == len(pages) + 2  # drift has something to be judged by
    assert {page.name for page in accepted.project.data_docs.iterdir()} == {"index.html", "mine"}


def test_scripts_styles_and_pictures_of_any_spelling_are_taken_out() -> None:
    page = (
        "<html><head><LINK rel='stylesheet' href='https://x'></head><body><SCRIPT\n>1</SCRIPT><img\nsrc='//x'>kept</body></html>"
    )
    text = strip_remote_content(page)
    assert "kept" in text
    assert not any(word in text.lower() for word in ("<link", "<script", "<img"))
