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

from aeops.data.validation import ExpectationResult
from aeops.files import atomic_write, replace_folder

# Browsers hold the pages to it, whatever a later release of Great Expectations writes into them.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
REMOTE_CONTENT = re.compile(
    r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>|<!--.*?-->",
    re.DOTALL | re.IGNORECASE,
)
BACK_LINK = '<p><a href="../index.html">All datasets</a></p>'
OUTCOME_FILE = "outcome.txt"  # beside a dataset's pages: accepted or refused, for the index of all datasets


def publish_pages(
    built_site: Path,
    data_docs: Path,
    dataset: str,
    outcome: str,
    summary: str,
    suite_results: Mapping[str, list[ExpectationResult]],
) -> None:
    """Strip the pages in `built_site`, put them in place of the dataset's last ones, and rewrite the index of all datasets.

    Args:
        built_site: the Data Docs as Great Expectations built them, in `data_docs` under another name.
        data_docs: the folder of all datasets' pages.
        dataset: the name of the dataset.
        outcome: accepted or refused.
        summary: text above the tables.
        suite_results: suite's name -> its results.
    """
    shutil.rmtree(built_site / "static", ignore_errors=True)  # 4.5 MB of fonts and pictures that only the styles asked for
    for page in built_site.rglob("*.html"):
        page.write_text(strip_remote_content(page.read_text(encoding="utf-8")), encoding="utf-8")
    index_html = _dataset_page(built_site, dataset, outcome, summary, suite_results)
    (built_site / "index.html").write_text(index_html, encoding="utf-8")
    (built_site / OUTCOME_FILE).write_text(f"{outcome}\n", encoding="utf-8")
    replace_folder(built_site, data_docs / dataset)
    _write_index(data_docs)


def strip_remote_content(page: str) -> str:
    """Return a page without anything that a browser would fetch or run."""
    return REMOTE_CONTENT.sub("", page).replace("<head>", f"<head>{_page_head()}", 1)


def _page_head() -> str:
    """Return the content of every page's head: the policy that forbids loading, and the style."""
    style = resources.files("aeops.data").joinpath("data_docs.css").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
    return f'<meta charset="utf-8">{policy}\n<style>\n{style}</style>'


def _page_html(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>{_page_head()}<title>{title}</title></head>
<body><main>
<h1>{title}</h1>
{body}
</main></body>
</html>
"""


def _dataset_page(
    built_site: Path, dataset: str, outcome: str, summary: str, suite_results: Mapping[str, list[ExpectationResult]]
) -> str:
    """Return a dataset's page: every expectation of the last validation in words, with links to Great Expectations' own pages."""
    parts = [f'<p>The last validation: <span class="{outcome}">{outcome}</span>. {escape(summary)}</p>', BACK_LINK]
    for suite, results in suite_results.items():
        details = next(built_site.glob(f"validations/{suite}/**/*.html")).relative_to(built_site).as_posix()
        parts.append(
            f'<h2>{escape(suite)}</h2><p class="quiet"><a href="{escape(details)}">Details of Great Expectations</a></p>'
        )
        parts.append(_table_html(("Expectation", "Severity", "Allowed", "Found", ""), list(map(_check_row_html, results))))
    return _page_html(f"Data validation: {escape(dataset)}", "\n".join(parts))


def _check_row_html(result: ExpectationResult) -> str:
    outcome = "met" if result.is_success else "broken"
    check = result.check
    texts = map(escape, (check.name, check.severity, check.expected_text, result.observed_text()))
    return f'<tr><td>{"</td><td>".join(texts)}</td><td class="{outcome}">{outcome}</td></tr>'


def _table_html(column_titles: tuple[str, ...], rows: list[str]) -> str:
    """Return an HTML table of rows that are HTML already."""
    header = "".join(f"<th>{escape(title)}</th>" for title in column_titles)
    return "\n".join([f"<table><thead><tr>{header}</tr></thead><tbody>", *rows, "</tbody></table>"])


def _write_index(data_docs: Path) -> None:
    """Write the page that links to each dataset's."""
    rows = []
    for outcome_path in sorted(data_docs.glob(f"[!.]*/{OUTCOME_FILE}")):
        name, outcome = escape(outcome_path.parent.name), escape(outcome_path.read_text(encoding="utf-8").strip())
        rows.append(f'<tr><td><a href="{name}/index.html">{name}</a></td><td class="{outcome}">{outcome}</td></tr>')
    atomic_write(data_docs / "index.html", _page_html("Data validation", _table_html(("Dataset", "Last validation"), rows)))
