"""Hooks of mkdocs.yml: pages and files outside docs/ become part of the site.

README, changelog and CONTRIBUTING are pages. What other pages link to outside docs/, such as a recipe or a record, is copied to
`source/`; of a link to a folder the text alone stays. So the same links hold in the repository and on the site.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OUTSIDE_PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
ADDRESS = re.compile(r"[a-z]+:")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put each recipe's page into the navigation, so that a new recipe needs no line there."""
    recipes = next(entry for entry in config.nav or [] if "Recipes" in entry)
    recipes["Recipes"] = ["recipes/README.md", *({path.stem: f"recipes/{path.name}"} for path in recipe_pages())]
    return config


def recipe_pages() -> list[Path]:
    return sorted(path for path in (DOCS / "recipes").glob("*.md") if path.name != "README.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and the files that pages link to."""
    for name in OUTSIDE_PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    wanted: set[Path] = set()
    for file in files.documentation_pages():
        if file.src_uri.endswith(".md"):
            wanted.update(linked_source_files(Path(str(file.abs_src_path))))
    for path in sorted(wanted):
        files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    return files


def linked_source_files(page: Path) -> Iterator[Path]:
    """Yield the files that a page links to and that are no pages of the site.

    Raises:
        FileNotFoundError: for a link that leads nowhere.
    """
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        if ADDRESS.match(match["target"]):
            continue
        path = (page.parent / match["target"]).resolve()
        if not path.exists():
            raise FileNotFoundError(f"{page.relative_to(ROOT)} links to {match['target']}, which does not exist")
        if path.is_file() and site_path(path).startswith("source/"):
            yield path


def site_path(path: Path) -> str:
    """Return where a file of the repository lies on the site, before pages become HTML."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    return name if name in OUTSIDE_PAGES else f"source/{name}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with its links turned to where the files lie on the site."""
    source = Path(str(page.file.abs_src_path))
    if source.suffix != ".md":
        return markdown
    home = Path(site_path(source)).parent

    def on_site(match: re.Match[str]) -> str:
        if ADDRESS.match(match["target"]):
            return match[0]
        path = (source.parent / match["target"]).resolve()
        if path.is_dir():
            return match["text"].strip("[]")
        target = os.path.relpath(site_path(path), home)
        return f"{match['text']}({target}{match['anchor'] or ''})"

    return LINK.sub(on_site, markdown)


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Name the first page: its own title is the name of the site."""
    for page in nav.pages:
        if page.file.src_uri == "README.md":
            page.title = "Overview"
    return nav
