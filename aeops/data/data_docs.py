"""Great Expectations' Data Docs as pages that load nothing: no scripts, no styles, no pictures from other hosts.

As built, every page asks six hosts for scripts and styles, and a seventh for a logo whose address names the context. The
index pages are written here: those of Great Expectations are filled by scripts.
"""

import re
import shutil
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path

from aeops.data.validation import Result
from aeops.files import atomic_write, replace_folder

# Browsers hold the pages to it, whatever a later release of Great Expectations writes into them.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
LOADS = re.compile(
    r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>|<!--.*?-->",
    re.DOTALL | re.IGNORECASE,
)
BACK = '<p><a href="../index.html">All datasets</a></p>'
OUTCOME = "outcome.txt"  # beside a dataset's pages: accepted or refused, for the index of all datasets


def publish(site: Path, data_docs: Path, dataset: str, outcome: str, about: str, suites: Mapping[str, list[Result]]) -> None:
    """Cleans the freshly built `site`, puts it in place of the dataset's last one, and renews the index of all datasets.

    Args:
        site: the Data Docs as Great Expectations built them, in `data_docs` under another name.
        data_docs: the folder of all datasets' pages.
        dataset: whose pages these are.
        outcome: accepted or refused.
        about: what else a person should know of this validation.
        suites: suite's name -> its results.
    """
    shutil.rmtree(site / "static", ignore_errors=True)  # 4.5 MB of fonts and pictures that only the styles asked for
    for page in site.rglob("*.html"):
        page.write_text(clean(page.read_text(encoding="utf-8")), encoding="utf-8")
    (site / "index.html").write_text(dataset_page(site, dataset, outcome, about, suites), encoding="utf-8")
    (site / OUTCOME).write_text(f"{outcome}\n", encoding="utf-8")
    replace_folder(site, data_docs / dataset)
    write_index(data_docs)


def clean(page: str) -> str:
    """A page without anything that a browser would fetch or run."""
    return LOADS.sub("", page).replace("<head>", f"<head>{head()}", 1)


def head() -> str:
    """What every page carries in its head: the policy that nothing is loaded, and the style."""
    style = resources.files("aeops.data").joinpath("data_docs.css").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return f'<meta charset="utf-8">{policy}\n<style>\n{style}</style>'


def own_page(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>{head()}<title>{title}</title></head>
<body><main>
<h1>{title}</h1>
{body}
</main></body>
</html>
"""


def dataset_page(site: Path, dataset: str, outcome: str, about: str, suites: Mapping[str, list[Result]]) -> str:
    """The last validation of a dataset: every expectation in words, with links to Great Expectations' own pages."""
    parts = [f'<p>The last validation: <span class="{outcome}">{outcome}</span>. {escape(about)}</p>', BACK]
    for suite, results in suites.items():
        details = next(page for page in site.glob(f"validations/{suite}/**/*.html")).relative_to(site).as_posix()
        parts.append(
            f'<h2>{escape(suite)}</h2><p class="quiet"><a href="{escape(details)}">Details of Great Expectations</a></p>'
        )
        parts.append(table(("Expectation", "Allowed", "Found", ""), [expectation_row(result) for result in results]))
    return own_page(f"Data validation: {escape(dataset)}", "\n".join(parts))


def expectation_row(result: Result) -> str:
    word = "met" if result.success else "broken"
    cells = (result.check.name, result.check.allowed, result.found())
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + f'<td class="{word}">{word}</td></tr>'


def table(heads: tuple[str, ...], rows: list[str]) -> str:
    """An HTML table of rows that are HTML already."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in heads)
    return "\n".join([f"<table><thead><tr>{titles}</tr></thead><tbody>", *rows, "</tbody></table>"])


def write_index(data_docs: Path) -> None:
    """One page that links to each dataset's."""
    rows = []
    for place in sorted(data_docs.glob(f"[!.]*/{OUTCOME}")):
        name, outcome = escape(place.parent.name), escape(place.read_text(encoding="utf-8").strip())
        rows.append(f'<tr><td><a href="{name}/index.html">{name}</a></td><td class="{outcome}">{outcome}</td></tr>')
    atomic_write(data_docs / "index.html", own_page("Data validation", table(("Dataset", "Last validation"), rows)))
